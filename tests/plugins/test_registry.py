"""Names, classes and what goes wrong with them."""

import copy
import pickle
import sys

import attrs
import pytest

import landscape as ls
from landscape.errors import (
    AmbiguousComponentError,
    BrokenPluginError,
    ConfigurationError,
    UnknownComponentError,
)
from landscape.plugins import KINDS, entries, get, identify, namespace, register

PROBE = """
import attrs
from landscape.interfaces import Measurement, Probe

@attrs.frozen
class {name}(Probe):
    scale: float = 1.0

    def measure(self, point, generator):
        return Measurement(scalars={{"{name}": self.scale}})
"""


@attrs.frozen
class Local(ls.Probe):
    def measure(self, point, generator):
        return ls.Measurement()


def foo(fake_distribution, name="landscape-foo", module="foo_plugin", probe="Foo", **more):
    return fake_distribution(
        name, {"landscape.probes": {probe: f"{module}:{probe}"}}, {module: PROBE.format(name=probe)}, **more
    )


# -- installed --------------------------------------------------------------------------------------------


def test_an_installed_component_is_listed_with_its_distribution_and_version(fake_distribution):
    foo(fake_distribution, version="2.3")
    (entry,) = [entry for entry in entries("probes") if entry.name == "Foo"]
    assert (entry.distribution, entry.version, entry.value) == ("landscape-foo", "2.3", "foo_plugin:Foo")
    assert entry.qualified_name == "landscape-foo:Foo"
    assert entry.error is None


def test_listing_imports_nothing_of_a_plugin(fake_distribution):
    foo(fake_distribution)
    for kind in KINDS:
        entries(kind)
        dir(namespace(kind))
        repr(namespace(kind))
    assert "foo_plugin" not in sys.modules


def test_a_component_is_imported_on_first_use(fake_distribution):
    foo(fake_distribution)
    component = ls.probes.Foo
    assert component.__module__ == "foo_plugin"
    assert component is get("probes", "Foo") is get("probes", "landscape-foo:Foo") is ls.probes["Foo"]
    assert component(scale=2.0).measure(None, None).scalars == {"Foo": 2.0}


@pytest.mark.parametrize("spelling", ["landscape-foo:Foo", "landscape_foo:Foo", "Landscape.Foo:Foo"])
def test_a_distribution_may_be_spelt_in_every_way_the_package_index_allows(fake_distribution, spelling):
    foo(fake_distribution)
    assert get("probes", spelling).__name__ == "Foo"


def test_a_distribution_installed_while_python_runs_is_found(fake_distribution):
    assert not hasattr(ls.probes, "Foo")
    foo(fake_distribution)
    assert hasattr(ls.probes, "Foo")


def test_every_component_of_the_first_party_plugins_is_in_the_table():
    """The table in first_party.py is what the errors and the type stubs are made of."""
    import tomllib
    from pathlib import Path

    from landscape.plugins.first_party import FIRST_PARTY

    found = {}
    for path in Path(__file__).parents[2].glob("plugins/*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        for group, points in project.get("entry-points", {}).items():
            prefix, _, kind = group.partition(".")
            if prefix == "landscape" and kind in KINDS:
                found |= {(kind, name): project["name"] for name in points}
    assert dict(FIRST_PARTY) == found


# -- unknown ----------------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest_and_all_that_is_installed(fake_distribution):
    foo(fake_distribution, probe="Frobnication")
    with pytest.raises(
        UnknownComponentError, match=r"'Frobnicatoin'.*Did you mean 'Frobnication'\?"
    ) as caught:
        ls.probes.Frobnicatoin  # noqa: B018
    assert "Installed probes: " in str(caught.value)
    assert isinstance(caught.value, AttributeError)


def test_a_first_party_name_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UnknownComponentError, match="pip install landscape-hessian"):
        get("probes", "HessianSpectrum")


def test_a_name_of_another_kind_says_which(fake_distribution):
    foo(fake_distribution)
    with pytest.raises(UnknownComponentError, match=r"'Foo' is a probe: landscape\.probes\.Foo"):
        get("walkers", "Foo")


def test_a_name_of_another_distribution_says_whose_it_is(fake_distribution):
    foo(fake_distribution)
    with pytest.raises(UnknownComponentError, match="'Foo' is provided by landscape-foo"):
        get("probes", "landscape-bar:Foo")


def test_an_unknown_kind_is_answered_with_the_nearest():
    for call in (entries, namespace, lambda kind: get(kind, "Foo")):
        with pytest.raises(ConfigurationError, match=r"'prones' is not a kind.*Did you mean 'probes'"):
            call("prones")


# -- ambiguous --------------------------------------------------------------------------------------------


def test_two_claimants_make_the_bare_name_an_error_and_the_full_name_works(fake_distribution):
    foo(fake_distribution)
    foo(fake_distribution, name="landscape-bar", module="bar_plugin")
    with pytest.raises(AmbiguousComponentError, match="'landscape-bar:Foo' or 'landscape-foo:Foo'"):
        ls.probes.Foo  # noqa: B018
    assert get("probes", "landscape-foo:Foo").__module__ == "foo_plugin"
    assert ls.probes["landscape-bar:Foo"].__module__ == "bar_plugin"
    assert dir(ls.probes).count("Foo") == 1


def test_the_first_of_two_versions_on_the_path_counts_as_in_python(fake_distribution):
    foo(fake_distribution, version="1.0")
    foo(fake_distribution, version="2.0")
    assert [entry.version for entry in entries("probes") if entry.name == "Foo"] == ["2.0"]
    assert get("probes", "Foo").__name__ == "Foo"


@pytest.mark.parametrize("content", [None, "", "Metadata-Version: 2.1\n"])
def test_the_remains_of_a_distribution_are_passed_over(fake_distribution, content):
    folder = foo(fake_distribution)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    metadata.unlink()
    if content is not None:
        metadata.write_text(content)
    assert "Foo" not in ls.probes
    assert "Fresh" in ls.starts


# -- broken -----------------------------------------------------------------------------------------------


def test_a_plugin_that_cannot_be_imported_breaks_only_itself(fake_distribution):
    foo(fake_distribution)
    fake_distribution(
        "landscape-ill",
        {"landscape.probes": {"Ill": "ill_plugin:Ill"}},
        {"ill_plugin": "import nosuchmodule"},
    )
    with pytest.raises(BrokenPluginError, match="nosuchmodule") as caught:
        ls.probes.Ill  # noqa: B018
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "landscape-ill 1.0" in str(caught.value)
    assert "LANDSCAPE_DISABLE_PLUGINS=landscape-ill" in str(caught.value)
    assert ls.probes.Foo.__name__ == "Foo"
    errors = {entry.name: entry.error for entry in entries("probes")}
    assert "nosuchmodule" in errors["Ill"]
    assert errors["Foo"] is None


def test_checking_finds_the_broken_ones(fake_distribution):
    foo(fake_distribution)
    fake_distribution(
        "landscape-ill",
        {"landscape.probes": {"Ill": "ill_plugin:Ill"}},
        {"ill_plugin": "raise SystemExit(3)"},
    )
    errors = {entry.name: entry.error for entry in entries("probes", check=True)}
    assert "SystemExit: 3" in errors["Ill"]
    assert errors["Foo"] is None


@pytest.mark.parametrize("value", ["no module!", "foo_plugin:", "foo_plugin:Foo.Bar", ":Foo", "foo_plugin"])
def test_a_malformed_entry_point_breaks_only_itself(fake_distribution, value):
    foo(fake_distribution)
    fake_distribution("landscape-ill", {"landscape.probes": {"Ill": value}})
    with pytest.raises(BrokenPluginError, match="'Ill' of landscape-ill"):
        get("probes", "Ill")
    assert get("probes", "Foo").__name__ == "Foo"
    assert identify(get("probes", "Foo")).name == "Foo"


def test_extras_of_an_entry_point_are_no_part_of_its_value(fake_distribution):
    points = {"landscape.probes": {"Foo": "foo_plugin : Foo [fast]"}}
    fake_distribution("landscape-foo", points, {"foo_plugin": PROBE.format(name="Foo")})
    assert get("probes", "Foo").__name__ == "Foo"


def test_a_repaired_plugin_works_without_a_restart(fake_distribution):
    folder = fake_distribution(
        "landscape-ill",
        {"landscape.probes": {"Ill": "ill_plugin:Ill"}},
        {"ill_plugin": "import nosuchmodule"},
    )
    with pytest.raises(BrokenPluginError):
        get("probes", "Ill")
    (folder / "ill_plugin.py").write_text(PROBE.format(name="Ill") + "# mended\n")
    assert get("probes", "Ill").__name__ == "Ill"
    assert all(entry.error is None for entry in entries("probes") if entry.name == "Ill")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("Foo = 3", "it is 3, not a class"),
        ("class Foo: pass", "does not derive from landscape.interfaces.Probe or"),
        (PROBE.format(name="Foo").replace("(Probe)", ""), "does not derive from landscape.interfaces.Probe"),
        ("from landscape.interfaces import Probe\nclass Foo(Probe): pass", "abstract: .* measure"),
        (PROBE.format(name="Foo").replace("@attrs.frozen", ""), "not an attrs class of its own"),
        (PROBE.format(name="Foo").replace("@attrs.frozen", "@attrs.define"), "not a frozen one"),
        (
            PROBE.format(name="Bar") + "\nclass Foo(Bar):\n    more: int = 0\n",
            "not an attrs class of its own",
        ),
        ("", "has no attribute 'Foo'"),
    ],
)
def test_what_is_no_component_is_refused_with_the_reason(fake_distribution, body, complaint):
    fake_distribution("landscape-foo", {"landscape.probes": {"Foo": "foo_plugin:Foo"}}, {"foo_plugin": body})
    with pytest.raises(BrokenPluginError, match=complaint):
        get("probes", "Foo")


def test_a_study_is_any_callable(fake_distribution):
    points = {"landscape.studies": {"good": "foo_plugin:good", "bad": "foo_plugin:bad"}}
    fake_distribution("landscape-foo", points, {"foo_plugin": "def good(): return 1\nbad = 2"})
    assert ls.studies.good() == 1
    with pytest.raises(BrokenPluginError, match="cannot be called"):
        ls.studies.bad  # noqa: B018


# -- switched off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listed", ["landscape-foo", "Landscape_Foo", "Foo", "landscape-foo:Foo", "x, Foo", "all"]
)
def test_a_plugin_can_be_switched_off(fake_distribution, monkeypatch, listed):
    foo(fake_distribution)
    monkeypatch.setenv("LANDSCAPE_DISABLE_PLUGINS", listed)
    assert "Foo" not in ls.probes
    with pytest.raises(UnknownComponentError, match="switched off by LANDSCAPE_DISABLE_PLUGINS"):
        get("probes", "Foo")


def test_the_core_cannot_be_switched_off(monkeypatch):
    monkeypatch.setenv("LANDSCAPE_DISABLE_PLUGINS", "all")
    assert "Fresh" in ls.starts
    assert len(ls.walkers) == 0


# -- registered by hand -----------------------------------------------------------------------------------


def test_one_line_makes_a_class_known(isolated_registry):
    assert register(Local) is Local
    assert ls.probes.Local is Local
    assert get("probes", f"{__name__}:Local") is Local
    (entry,) = [entry for entry in entries("probes") if entry.name == "Local"]
    assert (entry.distribution, entry.version, entry.value) == (None, None, f"{__name__}:Local")


def test_a_redefined_class_replaces_the_old_one(isolated_registry):
    def define(number):
        @register
        @attrs.frozen
        class Cell(ls.Probe):
            value: int = number

            def measure(self, point, generator):
                return ls.Measurement()

        return Cell

    first, second = define(1), define(2)
    assert ls.probes.Cell is second
    assert identify(first) is None
    assert identify(second).name == "Cell"


def test_a_registered_class_and_an_installed_one_of_the_same_name_are_ambiguous(fake_distribution):
    foo(fake_distribution, probe="Local")
    register(Local)
    with pytest.raises(AmbiguousComponentError):
        ls.probes.Local  # noqa: B018
    assert get("probes", f"{__name__}:Local") is Local
    assert get("probes", "landscape-foo:Local") is not Local


def test_registering_an_installed_class_changes_nothing(fake_distribution):
    foo(fake_distribution)
    register(ls.probes.Foo)
    assert identify(ls.probes.Foo).distribution == "landscape-foo"


def test_kind_and_name_can_be_given(isolated_registry):
    @register(kind="studies", name="mine")
    def function():
        return 1

    assert ls.studies.mine is function
    assert register(function) is function
    assert ls.studies.function is function
    assert identify(function).name == "function"


@pytest.mark.parametrize(
    ("component", "complaint"),
    [
        (int, "derives from none of the interfaces"),
        (3, "Only classes and functions"),
        (lambda: None, "cannot be the name of a component"),
        (type("Bare", (ls.Probe,), {"measure": lambda *_: None}), "decorate the class with @attrs.frozen"),
        (ls.Probe, "it is abstract"),
    ],
)
def test_what_cannot_be_a_component_cannot_be_registered(isolated_registry, component, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        register(component)


def test_a_class_of_two_kinds_must_say_which(isolated_registry):
    @attrs.frozen
    class Both(ls.Probe, ls.StopRule):
        def measure(self, point, generator):
            return ls.Measurement()

        def reason(self, rows):
            return None

    with pytest.raises(ConfigurationError, match="probes and stops"):
        register(Both)
    register(Both, kind="stops")
    assert ls.stops.Both is Both
    assert "Both" not in ls.probes


# -- identify ---------------------------------------------------------------------------------------------


def test_an_imported_class_is_known_as_the_entry_that_names_it(fake_distribution):
    foo(fake_distribution)
    from foo_plugin import Foo

    entry = identify(Foo)
    assert (entry.kind, entry.qualified_name) == ("probes", "landscape-foo:Foo")


def test_a_class_is_known_through_a_module_that_passes_it_on(fake_distribution):
    fake_distribution(
        "landscape-foo",
        {"landscape.probes": {"Foo": "foo_package.api:Foo"}},
        {"foo_other": ""},
    )
    folder = sys.path[0]
    from pathlib import Path

    package = Path(folder) / "foo_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(PROBE.format(name="Foo"))
    (package / "api.py").write_text("from foo_package.inner import Foo as Foo\n")
    try:
        from foo_package.inner import Foo

        assert "foo_package.api" not in sys.modules
        assert identify(Foo).value == "foo_package.api:Foo"
    finally:
        for module in [name for name in sys.modules if name.startswith("foo_package")]:
            del sys.modules[module]


@pytest.mark.parametrize("stranger", [int, Local, 3, print, None])
def test_what_is_not_registered_is_not_known(isolated_registry, stranger):
    assert identify(stranger) is None


def test_identifying_a_class_imports_no_plugin(fake_distribution):
    foo(fake_distribution)
    identify(Local)
    assert "foo_plugin" not in sys.modules


# -- the namespace object ---------------------------------------------------------------------------------


def test_namespaces_survive_copy_and_pickle():
    assert copy.copy(ls.probes) is ls.probes
    assert copy.deepcopy(ls.probes) is ls.probes
    assert pickle.loads(pickle.dumps(ls.probes)) is ls.probes


def test_probing_for_private_names_looks_nothing_up(fake_distribution, monkeypatch):
    foo(fake_distribution)
    monkeypatch.setattr("landscape.plugins.registry.get", pytest.fail)
    for name in ("__wrapped__", "_repr_html_", "_ipython_canary_method_should_not_exist_", "__array__"):
        with pytest.raises(AttributeError):
            getattr(ls.probes, name)


def test_a_namespace_lists_counts_and_shows_its_names(fake_distribution):
    foo(fake_distribution)
    assert "Foo" in ls.probes
    assert "Foo" in dir(ls.probes)
    assert "Foo" in list(ls.probes)
    assert len(ls.probes) == len(list(ls.probes))
    assert repr(ls.probes).startswith("<landscape.probes: ")
    assert not hasattr(ls.probes, "NoSuchThing")
    assert getattr(ls.probes, "NoSuchThing", None) is None
