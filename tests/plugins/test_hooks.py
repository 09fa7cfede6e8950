"""Hooks: who is called, and what a failure may do."""

import random
import sys
import warnings

import attrs
import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import BrokenPluginError
from landscape.plugins import ComponentEntry, PluginWarning, RunHooks, entries, get, hookimpl
from landscape.plugins.provider import metadata_entries
from landscape.randomness import preserved_random_state


@pytest.fixture(autouse=True)
def _no_hooks_of_the_environment(monkeypatch):
    """Switch off the hooks of whatever is installed where the tests run."""
    groups = ("landscape", "landscape.providers")
    installed = {entry.qualified_name for group in groups for entry in metadata_entries(group)}
    monkeypatch.setenv("LANDSCAPE_DISABLE_PLUGINS", ",".join(installed))


EVENTS = """
import landscape as ls

seen = []

@ls.hookimpl
def landscape_run_started(run):
    seen.append(("started", run))

@ls.hookimpl
def landscape_step(step):
    seen.append(("step", step))
"""


class Witness:
    """Implements every lifecycle hook and writes down what it was told."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def landscape_run_started(self, run):
        self.seen.append(("started", run))

    @hookimpl
    def landscape_step(self, run, step):
        self.seen.append(("step", run, step))

    @hookimpl
    def landscape_measured(self, step, measurement, worker):
        self.seen.append(("measured", step, measurement, worker))

    @hookimpl
    def landscape_snapshot(self, step, path):
        self.seen.append(("snapshot", step, path))

    @hookimpl
    def landscape_run_finished(self, error):
        self.seen.append(("finished", error))

    @hookimpl
    def landscape_provenance(self):
        return {"answer": 42}

    @hookimpl
    def landscape_figures(self):
        yield ls.Figure("late", "Late", "Comes last.", None, order=90)
        yield ls.Figure("early", "Early", "Comes first.", None, order=5)


class Failing:
    """Raises in two hooks and works in a third."""

    def __init__(self):
        self.calls = 0
        self.snapshots = 0

    @hookimpl(tryfirst=True)
    def landscape_step(self, step):
        self.calls += 1
        raise ZeroDivisionError("out of paper")

    @hookimpl(tryfirst=True)
    def landscape_figures(self):
        yield ls.Figure("half", "Half", "Never seen.", None)
        raise ValueError("half way")

    @hookimpl
    def landscape_snapshot(self):
        self.snapshots += 1


def test_a_run_tells_its_plugins_everything(isolated_registry, tmp_path):
    witness = Witness()
    isolated_registry.register(witness)
    hooks = RunHooks("run")
    measurement = ls.Measurement(scalars={"x": 1.0})
    hooks.started()
    hooks.step(1)
    hooks.measured(2, measurement, "centre")
    hooks.snapshot(3, tmp_path)
    hooks.finished(None)
    assert witness.seen == [
        ("started", "run"),
        ("step", "run", 1),
        ("measured", 2, measurement, "centre"),
        ("snapshot", 3, tmp_path),
        ("finished", None),
    ]
    assert hooks.provenance() == {"Witness": {"answer": 42}}
    assert [figure.name for figure in hooks.figures()] == ["early", "late"]
    assert hooks.failures == []


def test_a_hook_that_raises_is_reported_once_and_off_for_that_run_only(isolated_registry):
    failing, witness = Failing(), Witness()
    isolated_registry.register(witness)
    isolated_registry.register(failing)
    hooks = RunHooks("run")
    with pytest.warns(PluginWarning, match="'Failing' failed in landscape_step.*out of paper") as caught:
        [hooks.step(step) for step in range(5)]
    assert len(caught) == 1
    assert failing.calls == 1
    assert [event[2] for event in witness.seen] == list(range(5))
    assert [(f.plugin, f.hook, f.error) for f in hooks.failures] == [
        ("Failing", "landscape_step", "ZeroDivisionError: out of paper")
    ]
    hooks.snapshot(1, None)
    assert failing.snapshots == 1  # its other hooks go on
    with pytest.warns(PluginWarning):
        RunHooks("another run").step(0)
    assert failing.calls == 2


def test_the_reported_line_is_the_callers(isolated_registry):
    isolated_registry.register(Failing())
    with pytest.warns(PluginWarning) as caught:
        RunHooks("run").step(0)
    assert caught[0].filename == __file__


def test_a_generator_that_raises_half_way_gives_nothing_and_hurts_nobody(isolated_registry):
    isolated_registry.register(Witness())
    isolated_registry.register(Failing())
    with pytest.warns(PluginWarning, match="half way"):
        names = [figure.name for figure in RunHooks("run").figures()]
    assert names == ["early", "late"]


@pytest.mark.parametrize(
    ("hook", "answer", "complaint"),
    [
        ("provenance", [1, 2], "not a mapping"),
        ("provenance", {"x": object()}, "not JSON serializable"),
        ("provenance", {"x": float("nan")}, "not JSON compliant"),
        ("figures", ["picture.png"], "not a landscape.Figure"),
        ("figures", 3, "not iterable"),
        ("figures", [ls.Figure("a", "A", "A.", None, order="first")], "is not a number"),
    ],
)
def test_a_wrong_answer_is_a_failure_of_the_plugin(isolated_registry, hook, answer, complaint):
    def implementation():
        return answer

    plugin = type("Wrong", (), {f"landscape_{hook}": staticmethod(hookimpl(implementation))})
    isolated_registry.register(Witness())
    isolated_registry.register(plugin)
    hooks = RunHooks("run")
    with pytest.warns(PluginWarning, match=complaint):
        answers = getattr(hooks, hook)()
    assert len(answers) in (1, 2)  # the Witness's
    assert len(hooks.failures) == 1


def test_no_answer_is_an_answer(isolated_registry):
    class Silent:
        @hookimpl
        def landscape_provenance(self):
            return None

        @hookimpl
        def landscape_figures(self):
            return None

    isolated_registry.register(Silent())
    hooks = RunHooks("run")
    assert hooks.provenance() == {}
    assert hooks.figures() == []


def test_strict_hooks_raise(isolated_registry, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_STRICT_HOOKS", "1")
    isolated_registry.register(Failing())
    with pytest.raises(ZeroDivisionError):
        RunHooks("run").step(0)


def test_ctrl_c_inside_a_hook_is_not_swallowed(isolated_registry):
    class Interrupted:
        @hookimpl
        def landscape_step(self):
            raise KeyboardInterrupt

    isolated_registry.register(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        RunHooks("run").step(0)


def test_sys_exit_inside_a_hook_is_a_failure_of_the_plugin(isolated_registry):
    class Leaving:
        @hookimpl(tryfirst=True)
        def landscape_step(self):
            sys.exit("enough")

    witness = Witness()
    isolated_registry.register(witness)
    isolated_registry.register(Leaving())
    with pytest.warns(PluginWarning, match="SystemExit: enough"):
        RunHooks("run").step(0)
    assert witness.seen == [("step", "run", 0)]


def test_where_warnings_are_errors_the_report_goes_to_stderr(isolated_registry, capsys):
    class Provider:
        @hookimpl
        def landscape_components(self, kind):
            raise ValueError("no connection")

    witness = Witness()
    isolated_registry.register(witness)
    isolated_registry.register(Failing())
    isolated_registry.register(Provider(), name="Provider")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hooks = RunHooks("run")
        hooks.step(0)
        hooks.step(1)
        assert "Fresh" in ls.starts
    assert [event[2] for event in witness.seen] == [0, 1]
    printed = capsys.readouterr().err
    assert printed.count("PluginWarning: Plugin 'Failing' failed in landscape_step") == 1
    assert printed.count("PluginWarning: Plugin 'Provider' failed in landscape_components") == 1


def test_an_error_that_cannot_be_printed_is_reported_by_its_type(isolated_registry):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    class Mute:
        @hookimpl
        def landscape_step(self):
            raise MuteError

    isolated_registry.register(Mute())
    with pytest.warns(PluginWarning, match="MuteError"):
        RunHooks("run").step(0)


@pytest.mark.parametrize("traced", [False, True])
def test_what_cannot_be_printed_may_be_given_to_hooks(isolated_registry, monkeypatch, capsys, traced):
    shown = []

    class Run:
        def __repr__(self):
            shown.append(True)
            raise RuntimeError("its file is gone")

    monkeypatch.setenv("LANDSCAPE_TRACE_PLUGINS", "1" if traced else "0")
    witness = Witness()
    isolated_registry.register(witness)
    hooks = RunHooks(Run())
    hooks.started()
    hooks.step(0)
    assert (len(witness.seen), hooks.failures) == (2, [])
    assert bool(shown) == traced  # what nobody reads is not built
    assert (
        "landscape_step(run=<Run that has no repr>, step=0) returned" in capsys.readouterr().err
    ) == traced


def test_a_hook_that_draws_changes_no_global_random_state(isolated_registry):
    class Drawing:
        @hookimpl
        def landscape_step(self):
            random.seed(5)
            np.random.seed(5)
            torch.manual_seed(5)

    def draws():
        return random.random(), np.random.rand(), float(torch.rand(()))

    isolated_registry.register(Drawing())
    with preserved_random_state(1):
        expected = draws()
    with preserved_random_state(1):
        RunHooks("run").step(0)
        assert draws() == expected


# -- installed hook plugins -------------------------------------------------------------------------------


def test_an_installed_hook_plugin_is_imported_when_a_run_starts_and_not_before(fake_distribution):
    fake_distribution("lab-events", {"landscape": {"events": "lab_events"}}, {"lab_events": EVENTS})
    entries("probes")
    assert "lab_events" not in sys.modules
    hooks = RunHooks("run")
    hooks.started()
    hooks.step(7)
    assert sys.modules["lab_events"].seen == [("started", "run"), ("step", 7)]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import nosuchmodule", "nosuchmodule"),
        (EVENTS.replace("landscape_step", "landscape_stpe"), "no hook 'landscape_stpe'.*'landscape_step'"),
        (EVENTS.replace("def landscape_step(step)", "def landscape_step(stride)"), "stride"),
        ("", "implements no hook"),
        (
            "import landscape as ls\n@ls.hookimpl(wrapper=True)\ndef landscape_step():\n    return (yield)\n",
            "wrappers are not supported",
        ),
    ],
)
def test_a_wrong_hook_plugin_breaks_only_itself(fake_distribution, source, complaint):
    fake_distribution("lab-events", {"landscape": {"events": "lab_events"}}, {"lab_events": EVENTS})
    fake_distribution("lab-ill", {"landscape": {"ill": "lab_ill"}}, {"lab_ill": source})
    hooks = RunHooks("run")
    hooks.started()
    hooks.step(1)
    assert len(sys.modules["lab_events"].seen) == 2
    known = {plugin.name: plugin for plugin in ls.plugins.manager().plugins()}
    assert known["events"].error is None
    assert known["events"].hooks == ("landscape_run_started", "landscape_step")
    import re

    assert re.search(complaint, known["ill"].error, re.DOTALL)
    assert (known["ill"].distribution, known["ill"].version) == ("lab-ill", "1.0")


def test_an_installed_hook_plugin_can_be_switched_off(fake_distribution, monkeypatch):
    fake_distribution("lab-events", {"landscape": {"events": "lab_events"}}, {"lab_events": EVENTS})
    monkeypatch.setenv("LANDSCAPE_DISABLE_PLUGINS", "lab-events")
    RunHooks("run").started()
    assert "lab_events" not in sys.modules


def test_a_misspelt_hook_of_an_object_is_refused_with_the_nearest(isolated_registry):
    class Misspelt:
        @hookimpl
        def landscape_snapshots(self):
            pass

    with pytest.raises(BrokenPluginError, match="Did you mean 'landscape_snapshot'"):
        isolated_registry.register(Misspelt())
    assert isolated_registry.implementations("landscape_snapshot") == ()


def test_registering_a_plugin_again_replaces_it(isolated_registry):
    first, second = Witness(), Witness()
    isolated_registry.register(first)
    isolated_registry.register(second)
    RunHooks("run").started()
    assert first.seen == []
    assert len(second.seen) == 1
    isolated_registry.unregister("Witness")
    isolated_registry.unregister("Witness")
    RunHooks("run").started()
    assert len(second.seen) == 1


def test_trace_prints_each_call_and_each_import(fake_distribution, monkeypatch, capsys):
    fake_distribution("lab-events", {"landscape": {"events": "lab_events"}}, {"lab_events": EVENTS})
    monkeypatch.setenv("LANDSCAPE_TRACE_PLUGINS", "1")
    RunHooks("run").step(3)
    printed = capsys.readouterr().err
    assert "importing lab_events of lab-events" in printed
    assert "lab-events:events: landscape_step(step=3) returned after" in printed


# -- component hooks --------------------------------------------------------------------------------------

ZOO = """
import landscape as ls
from landscape.plugins import ComponentEntry

@ls.hookimpl
def landscape_components(kind):
    if kind == "models":
        yield ComponentEntry(kind, "listed", "zoo", "1.0", "zoo_models:Model")

@ls.hookimpl
def landscape_component(kind, name):
    if kind == "models" and name.startswith("zoo"):
        return [ComponentEntry(kind, name, "zoo", "1.0", "zoo_models:Model")]
"""
MODELS = """
import attrs
from landscape.interfaces import Model as Base

@attrs.frozen
class Model(Base):
    def build(self, example, generator):
        raise NotImplementedError
"""


@pytest.mark.parametrize("group", ["landscape.providers", "landscape"])
def test_a_plugin_can_answer_for_names_that_no_pyproject_lists(fake_distribution, group):
    fake_distribution("zoo", {group: {"zoo": "zoo_hooks"}}, {"zoo_hooks": ZOO, "zoo_models": MODELS})
    assert get("models", "zoo34").__module__ == "zoo_models"
    assert get("models", "zoo:zoo34").__module__ == "zoo_models"
    assert "listed" in ls.models


def test_a_provider_that_raises_is_left_out_and_reported_once(isolated_registry):
    class Bad:
        @hookimpl
        def landscape_components(self, kind):
            raise ValueError("no connection")

        @hookimpl
        def landscape_component(self, kind, name):
            return ["not an entry"]

    isolated_registry.register(Bad())
    with pytest.warns(PluginWarning, match="no connection"):
        assert "Fresh" in ls.starts
    with pytest.warns(PluginWarning, match="not a ComponentEntry"), pytest.raises(AttributeError):
        ls.probes.Nothing  # noqa: B018
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "Fresh" in ls.starts


def test_a_broken_answer_of_a_provider_breaks_only_that_name(isolated_registry):
    class Half:
        @hookimpl
        def landscape_component(self, kind, name):
            return [ComponentEntry(kind, name, "half", "1", "no_such_module:X")] if name == "X" else []

    isolated_registry.register(Half())
    with pytest.raises(BrokenPluginError, match="no_such_module"):
        ls.probes.X  # noqa: B018


def test_every_hook_has_a_worked_example():
    import doctest

    from landscape.plugins import specs

    hooks = [name for name in specs.__all__ if name.startswith("landscape_")]
    assert len(hooks) == 11
    for name in hooks:
        (test,) = doctest.DocTestFinder(recurse=False).find(getattr(specs, name), name)
        assert any(f"def {name}(" in example.source for example in test.examples), name
        result = doctest.DocTestRunner().run(test)
        assert (result.failed, result.attempted > 0) == (0, True), name


def test_a_plugin_module_may_implement_the_examples_of_the_specifications(isolated_registry):
    """The examples are accepted by the manager, signature and all."""
    import doctest

    from landscape.plugins import specs

    for name in isolated_registry.hook_names():
        (test,) = doctest.DocTestFinder(recurse=False).find(getattr(specs, name), name)
        scope = {}
        exec("\n".join(example.source for example in test.examples), scope)
        plugin = attrs.make_class("Plugin", [])
        setattr(plugin, name, staticmethod(scope[name]))
        isolated_registry.register(plugin, name=name)
        assert len(isolated_registry.implementations(name)) >= 1


# -- bounds of polynomial systems --------------------------------------------------------------------------

SYSTEM = ls.PolynomialSystem(["x^2 - 1"], ["x"])


def test_bounds_of_all_plugins_are_joined(isolated_registry):
    class Degrees:
        @hookimpl
        def landscape_bounds(self, system):
            return {"degree": system.degrees[0]}

    class Silent:
        @hookimpl
        def landscape_bounds(self):
            return None

    isolated_registry.register(Degrees())
    isolated_registry.register(Silent())
    assert RunHooks("run", isolated_registry).bounds(lambda: SYSTEM) == {"degree": 2.0}


def test_no_system_is_made_where_nobody_asks(isolated_registry):
    def made():
        raise AssertionError("nobody listens")

    assert RunHooks("run", isolated_registry).bounds(made) == {}


@pytest.mark.parametrize("answer", [{"bound": "many"}, {1: 2.0}, {"bound": float("nan")}, [3]])
def test_what_is_no_bound_is_reported_and_left_out(isolated_registry, answer):
    class Wrong:
        @hookimpl
        def landscape_bounds(self):
            return answer

    isolated_registry.register(Wrong())
    hooks = RunHooks("run", isolated_registry)
    with pytest.warns(PluginWarning, match="landscape_bounds"):
        assert hooks.bounds(lambda: SYSTEM) == {}
    assert [failure.hook for failure in hooks.failures] == ["landscape_bounds"]
