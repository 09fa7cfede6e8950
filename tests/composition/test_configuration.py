"""Values to files and back, and what wrong files are told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.composition.configuration import from_tree, to_tree
from landscape.composition.paths import replaced, structured_at
from landscape.errors import ConfigurationError, UnknownComponentError


def experiment(**changes):
    base = ls.Experiment(
        model=ls.models.MLP(hidden=(10, 5)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=64), workers=4),
        probes=("Loss", ls.Every(100, ls.probes.HessianSpectrum(k=3), on="centre", label="h")),
        projectors=(ls.projectors.PCA(),),
        schedule=(ls.At(10, {"lr": 0.01}),),
        steps=20,
        seed=1,
    )
    return evolve(base, **changes)


@pytest.mark.parametrize("format", ["json", "toml"])
def test_an_experiment_comes_back_equal(format):
    value = experiment()
    assert ls.loads(ls.dumps(value, format), format) == value


@pytest.mark.parametrize("format", ["json", "toml"])
def test_studies_and_sweeps_come_back_equal(format):
    critical = ls.CriticalPointStudy(
        ls.models.DeepLinear(widths=(2, 2, 2), examples=1), solver=ls.solvers.Monodromy(), samples=7, seed=3
    )
    sweep = ls.Sweep(experiment(), {"walker.base.lr": (0.1, 0.2), "seed": range(2)})
    study = ls.Study(
        stages=(ls.Stage("walk", experiment()), ls.Stage("algebra", critical), ls.Stage("s", sweep))
    )
    for value in (critical, sweep, study):
        assert ls.loads(ls.dumps(value, format), format) == value


@pytest.mark.parametrize("name", ["recipe.toml", "recipe.json"])
def test_a_file_comes_back_equal(tmp_path, name):
    ls.save(experiment(), tmp_path / name)
    assert ls.load(tmp_path / name) == experiment()


@settings(deadline=None)
@given(
    steps=st.integers(1, 10**9),
    seed=st.integers(-(2**62), 2**62),
    lr=st.floats(min_value=1e-30, max_value=1e30, allow_nan=False),
    hidden=st.lists(st.integers(1, 4096), max_size=5),
    snapshots=st.none() | st.integers(0, 10**6),
    name=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))),
)
def test_every_experiment_survives_json_and_toml(steps, seed, lr, hidden, snapshots, name):
    value = ls.Experiment(
        model=ls.models.MLP(hidden=tuple(hidden)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=lr),
        steps=steps,
        seed=seed,
        snapshots=snapshots,
        name=name,
    )
    assert ls.loads(ls.dumps(value)) == value
    assert ls.loads(ls.dumps(value, "toml"), "toml") == value


def test_the_canonical_text_says_whose_components_they_are():
    walker = json.loads(ls.dumps(experiment()))["experiment"]["walker"]
    assert walker["component"] == "EASGD"
    assert walker["distribution"] == "landscape-walkers"
    assert walker["schema"] == 1


def test_a_file_that_a_person_writes_is_short():
    value = ls.loads(
        """
        [experiment]
        steps = 20
        model = { component = "MLP", hidden = [8] }
        dataset = "Digits"
        walker = { component = "SGD", lr = 0.1, batch_size = 64 }
        probes = ["Loss", { every = 10, probe = { component = "HessianSpectrum", k = 2 } }, { probe = "GradientNorm" }]
        """,
        "toml",
    )
    assert value.probes[0].every is None
    assert value.probes[1] == ls.Every(10, ls.probes.HessianSpectrum(k=2))
    assert value.model == ls.models.MLP(hidden=(8,))


def test_one_file_may_hold_several_experiments():
    text = """
    [[experiment]]
    name = "small"
    model = { component = "MLP", hidden = [8] }
    dataset = "Digits"
    walker = { component = "SGD", lr = 0.1 }
    [[experiment]]
    model = { component = "MLP", hidden = [16] }
    dataset = "Digits"
    walker = { component = "SGD", lr = 0.1 }
    """
    study = ls.loads(text, "toml")
    assert [stage.name for stage in study.stages] == ["small", "experiment-2"]


def tree(**changes):
    value = to_tree(experiment())
    return {"experiment": value["experiment"] | changes}


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"stepz": 3}, ConfigurationError, "experiment.stepz: unknown key.*Did you mean 'steps'"),
        ({"steps": "many"}, ConfigurationError, "experiment.steps: expected a whole number, got 'many'"),
        ({"steps": True}, ConfigurationError, "experiment.steps: expected a whole number"),
        ({"steps": 1.5}, ConfigurationError, "experiment.steps"),
        ({"steps": 0}, ConfigurationError, "steps"),
        ({"model": {"component": "MPL"}}, UnknownComponentError, "experiment.model.*Did you mean 'MLP'"),
        (
            {"walker": {"component": "EASGD", "base": {"component": "SGD", "lr": "fast"}}},
            ConfigurationError,
            r"experiment.walker.base.lr: expected .*got 'fast'",
        ),
        (
            {"walker": {"component": "EASGD", "base": {"component": "SGD", "lrr": 0.1, "lr": 0.1}}},
            ConfigurationError,
            r"experiment.walker.base.lrr: unknown key.*Did you mean 'lr'",
        ),
        (
            {"probes": ["Loss", {"every": 3, "probe": {"component": "HessianSpectrum", "k": "five"}}]},
            ConfigurationError,
            r"experiment.probes\[1\].probe.k: expected a whole number",
        ),
        ({"walker": {"component": "Digits"}}, UnknownComponentError, "Digits"),
        ({"walker": {"component": "import:os.path:join"}}, ConfigurationError, "trust=True"),
        ({"walker": {"lr": 0.1}}, ConfigurationError, "the key 'component' is missing"),
        ({"dtype": "float16"}, ConfigurationError, "dtype"),
        ({"walker": {"component": "SGD", "lr": 0.1, "schema": 99}}, ConfigurationError, "schema 99"),
    ],
)
def test_wrong_configurations_are_refused_with_the_path_and_the_cure(changes, error, says):
    with pytest.raises(error) as caught:
        from_tree(tree(**changes))
    import re

    assert re.search(says, str(caught.value), re.DOTALL), str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(ConfigurationError, match=r"experiment\.dataset: this key is required and missing"):
        from_tree({"experiment": {"model": "MLP", "walker": {"component": "SGD", "lr": 0.1}}})


def test_an_unknown_table_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="Did you mean 'experiment'"):
        from_tree({"experment": {}})


def test_text_that_is_not_toml_says_where():
    with pytest.raises(ConfigurationError, match="line 1"):
        ls.loads("a = = 1", "toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.toml cannot be read"):
        ls.load(tmp_path / "nothing.toml")


def test_replacing_goes_into_components_and_lists_and_says_what_is_there():
    value = experiment()
    assert replaced(value, "walker.base.lr", 0.5).walker.base.lr == 0.5
    assert replaced(value, "probes.1.every", 7).probes[1].every == 7
    with pytest.raises(ConfigurationError, match="Did you mean 'base'"):
        replaced(value, "walker.bass.lr", 0.5)
    with pytest.raises(ConfigurationError, match=r"walker\.base\.lr: expected a number"):
        structured_at(value, "walker.base.lr", [1, "x"])
    assert structured_at(value, "walker", {"component": "SGD", "lr": 0.1}) == ls.walkers.SGD(lr=0.1)
    assert structured_at(value, "probes.0", "GradientNorm") == ls.Every(None, ls.probes.GradientNorm())
    assert value.walker.base.lr == 0.1


def test_numbers_that_are_not_finite_keep_their_names():
    value = experiment(schedule=(ls.At(1, {"lr": math.inf}),))
    assert ls.loads(ls.dumps(value)).schedule[0].values["lr"] == math.inf


def test_toml_refuses_what_it_cannot_say():
    value = experiment(probes=(ls.Every(5, ls.probes.HessianSpectrum(k=1, risk=None)),))
    assert ls.loads(ls.dumps(value)) == value
    with pytest.raises(ConfigurationError, match=r"probes\[0\]\.probe\.risk"):
        ls.dumps(value, "toml")


def test_a_file_gets_the_component_of_the_distribution_it_names_or_none():
    text = ls.dumps(experiment()).replace("landscape-hessian", "somebody-elses")
    with pytest.raises(UnknownComponentError, match="somebody-elses:HessianSpectrum"):
        ls.loads(text)


def test_a_sweep_of_components_comes_back_equal_and_imports_nothing_untrusted():
    sweep = ls.Sweep(
        experiment(),
        {
            "walker": (ls.walkers.SGD(lr=0.1), ls.walkers.SGD(lr=0.2)),
            "probes.1.every": np.arange(1, 3),
            "name": ("a", None),
        },
    )
    assert ls.loads(ls.dumps(sweep)) == sweep
    hash(sweep)
    with pytest.raises(ConfigurationError, match=r"sweep\.vary|TOML"):
        ls.dumps(sweep, "toml")
    tree = to_tree(ls.Sweep(experiment(), {"seed": (1,)}))
    tree["sweep"]["vary"] = {"walker": [{"component": "import:os:path"}]}
    with pytest.raises(ConfigurationError, match="trust=True"):
        from_tree(tree)


def test_numbers_of_numpy_are_written_as_pythons():
    value = experiment(seed=np.int64(3), schedule=(ls.At(np.int64(2), {"lr": np.float32(0.5)}),))
    assert ls.loads(ls.dumps(value)) == experiment(schedule=(ls.At(2, {"lr": 0.5}),)).replace(seed=3)


def test_recipes_with_strange_names_become_stages_all_the_same():
    tree = to_tree(experiment())["experiment"]
    study = from_tree(
        {"experiment": [tree | {"name": "a b!"}, tree | {"name": "a b!"}, tree | {"name": "é"}]}
    )
    assert [stage.name for stage in study.stages] == ["a-b", "a-b-2", "experiment-3"]


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ConfigurationError, match=r"device='warp'.*there is cpu"):
        experiment(device="warp").landscapes()
