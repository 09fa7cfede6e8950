"""When probes measure."""

from itertools import pairwise

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import landscape as ls
from landscape.composition.configuration import dumps, loads
from landscape.errors import ConfigurationError


@settings(deadline=None, max_examples=40)
@given(
    st.floats(1.0001, 20, exclude_min=True),
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(0, 30),
    st.integers(1, 50),
)
def test_distances_grow_up_to_the_largest(growth, every, first, default):
    schedule = ls.Every(every, "Loss", growth=growth, first=first)
    due = [step for step in range(400) if schedule.due(step, default)]
    assert due[: max(first, 1)] == list(range(max(first, 1)))
    grown = [step for step in range(400) if ls.Every(every, "Loss", growth=growth).due(step, default)]
    assert sorted({*range(first), *grown}) == due
    largest = every or default
    for before, after in pairwise(grown):
        assert after - before == min(max(int(before * growth) - before, 1), largest)


def test_steps_asked_for_in_any_order_have_the_same_answer():
    schedule = ls.Every(10_000, "Loss", growth=1.7)
    late = schedule.due(4913, 10)
    forward = [schedule.due(step, 10) for step in range(5000)]
    assert forward == [schedule.due(step, 10) for step in reversed(range(5000))][::-1]
    assert forward[4913] == late


def test_a_run_and_a_recorder_measure_when_they_are_told_to(small):
    probes = ("Loss", ls.Every(1000, "GradientNorm", growth=2, first=3))
    run = evolve(small, probes=probes, steps=20).run()
    table = run.metrics[run.metrics["worker"] == "0"]
    assert table.dropna(subset="gradient_norm")["step"].tolist() == [0, 1, 2, 4, 8, 16, 20]  # and at the end
    net = nn.Linear(2, 1)
    landscape = ls.Landscape(net, "mse", (torch.ones(4, 2), torch.zeros(4, 1)))
    watch = ls.Recorder(landscape, [ls.Every(100, "Loss", first=2)], every=3)
    for step in range(7):
        watch(step)
    assert watch.metrics["step"].tolist() == [0, 1]


@pytest.mark.parametrize("format", ["json", "toml"])
def test_schedules_survive_a_configuration(small, format):
    value = evolve(small, probes=(ls.Every(100, "Loss", growth=1.5, first=7), "GradientNorm"))
    assert loads(dumps(value, format), format) == value


@pytest.mark.parametrize(
    ("options", "message"), [({"growth": 1.0}, "larger than 1"), ({"first": -1}, "at least 0")]
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ls.Every(10, "Loss", **options)


def test_probes_see_other_data_and_some_of_the_weights(small):
    """Against dense Hessians of the last layer on the test data, at the weights that the run recorded."""
    spectrum = ls.probes.HessianSpectrum(k=2)
    experiment = evolve(
        small,
        probes=(
            ls.Every(6, spectrum),
            ls.Every(6, spectrum, split="test"),
            ls.Every(6, spectrum, split="test", restrict="layer2.*", on="workers"),
            ls.Every(6, spectrum, restrict=["layer2.weight"], label="head", on="workers"),
        ),
        snapshots=6,
    )
    run = experiment.run()
    rows = run.metrics.set_index(["step", "worker"])
    landscapes = run.splits()
    for split, patterns, prefix in [
        ("train", None, ""),
        ("test", None, "test."),
        ("test", "layer2.*", "test.layer2."),
        ("train", "layer2.weight", "head."),
    ]:
        for snapshot in run.directory.snapshots():
            for worker in ("0", "1"):
                theta = snapshot.weights(worker)
                here = landscapes[split]
                if patterns is not None:
                    whole, here = here, here.restrict(patterns, at=theta)
                    theta = here.extract(whole.embed(theta))
                exact = torch.linalg.eigvalsh(here.hessian(theta).dense().double()).flip(0)[:2]
                row = rows.loc[snapshot.step, worker]
                for rank in (1, 2):
                    value = row[f"{prefix}hessian_eigenvalue_{rank}"]
                    error = row[f"{prefix}hessian_eigenvalue_{rank}_error"]
                    assert abs(value - exact[rank - 1]) <= error + 1e-5 * exact[0]
    assert rows["test.layer2.hessian_eigenvalue_1"].xs("centre", level="worker").isna().all()
    arrays = run.arrays("test.layer2.HessianSpectrum")
    assert {entry["worker"] for entry in arrays} == {"0", "1"}


def test_where_a_probe_measures_is_written_and_read():
    probe = ls.Every(5, ls.probes.Loss(), split="test", restrict=["a.*", "*.bias"])
    assert probe.restrict == ("a.*", "*.bias")
    assert probe.column("loss") == "test.a+bias.loss"
    assert evolve(probe, label="own").column("loss") == "own.loss"
    experiment = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1),
        probes=(probe,),
    )
    assert loads(dumps(experiment)) == experiment
    one = """[experiment]
    model = "MLP"
    dataset = "Digits"
    walker = { component = "SGD", lr = 0.1 }
    probes = [{ probe = "Loss", restrict = "head.*" }]
    """
    assert loads(one, "toml").probes[0] == ls.Every(None, "Loss", restrict="head.*")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"restrict": ()}, "give patterns"),
        ({"restrict": [3]}, "give patterns"),
        ({"restrict": 3}, "give patterns"),
        ({"split": 3}, "split"),
    ],
)
def test_what_is_no_place_is_refused(options, says):
    with pytest.raises(ConfigurationError, match=says):
        ls.Every(5, "Loss", **options)


def test_places_that_are_not_there_are_found_before_any_work(small, tmp_path):
    for options, says in [({"split": "tset"}, "Did you mean 'test'"), ({"restrict": "nothing.*"}, "nothing")]:
        with pytest.raises(ConfigurationError, match=says):
            evolve(small, probes=(ls.Every(6, "Loss", **options),)).run(store="s")
        assert not (tmp_path / "s").exists()


def test_population_probes_stay_where_the_population_is():
    with pytest.raises(ConfigurationError, match="sees the whole population"):
        ls.Every(5, "PairwiseDistances", split="test")
