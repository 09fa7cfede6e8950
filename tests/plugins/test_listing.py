"""What `landscape plugins` and `landscape doctor` say about good and broken plugins."""

import json

import pytest

from landscape.cli import main

PROBE = """
import attrs
from landscape.interfaces import Measurement, Probe

@attrs.frozen
class Foo(Probe):
    def measure(self, point, generator):
        return Measurement(scalars={"foo": 1.0})
"""
HOOKS = "import landscape as ls\n@ls.hookimpl\ndef landscape_step():\n    pass\n"


@pytest.fixture
def plugins(fake_distribution):
    fake_distribution("landscape-foo", {"landscape.probes": {"Foo": "foo_plugin:Foo"}}, {"foo_plugin": PROBE})
    fake_distribution(
        "landscape-ill",
        {"landscape.probes": {"Ill": "ill_plugin:Ill"}, "landscape": {"ill": "ill_hooks"}},
        {"ill_plugin": "import nosuchmodule", "ill_hooks": HOOKS.replace("_step", "_stpe")},
    )
    fake_distribution("lab-hooks", {"landscape": {"lab": "lab_hooks"}}, {"lab_hooks": HOOKS})


def test_the_list_holds_components_and_hooks_with_their_errors(plugins, capsys):
    assert main(["plugins", "--json"]) == 0
    listed = {(row["kind"], row["name"]): row for row in json.loads(capsys.readouterr().out)}
    assert listed["probes", "Foo"] == {
        "kind": "probes",
        "name": "Foo",
        "distribution": "landscape-foo",
        "version": "1.0",
        "value": "foo_plugin:Foo",
        "error": None,
    }
    assert "nosuchmodule" in listed["probes", "Ill"]["error"]
    assert listed["hooks", "lab"]["error"] is None
    assert "'landscape_step'" in listed["hooks", "ill"]["error"]


def test_the_table_shows_the_same(plugins, capsys):
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    assert "Foo" in printed
    assert "lab-hooks" in printed


def test_the_doctor_finds_both_broken_ones(plugins, capsys):
    assert main(["doctor"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "'Ill' of landscape-ill 1.0 cannot be imported" in printed
    assert "the hooks 'ill' of landscape-ill cannot be used" in printed


def test_a_run_records_the_distributions_of_hooks_as_well(plugins):
    from landscape.composition import provenance

    recorded = provenance._plugins()
    assert recorded["lab-hooks"] == "1.0"
    assert recorded["landscape-foo"] == "1.0"
