"""What a new user tried, and should have been told or spared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attrs import evolve

import landscape as ls
from landscape.errors import ConfigurationError, DataError


def test_a_map_that_cannot_be_fitted_does_not_undo_the_walk(small):
    short = evolve(
        small, steps=1, snapshots=0, probes=("Loss",), projectors=(ls.projectors.PCA(dimensions=5),)
    )
    with pytest.warns(UserWarning, match="No map by PCA"):
        run = short.run()
    assert run.status == "complete"


def test_one_diverged_point_leaves_the_others_measured(line):
    theta = line.initial()
    table = ls.measure(
        line, ["Loss", ls.probes.HessianSpectrum(k=1)], at=[theta, theta * float("nan"), theta]
    )
    assert table["hessian_eigenvalue_1"].notna().tolist() == [True, False, True]
    assert "HessianSpectrum" in table["warnings"][1]


def test_a_snapshot_given_as_a_checkpoint_is_told_apart(small):
    run = small.run(store="s", run_id="r")
    with pytest.raises(DataError, match="snapshot of a run"):
        ls.measure(run.landscape(), ["Loss"], at="s/r/weights/step-00000012.safetensors")


@pytest.mark.parametrize(
    ("step", "good"), [(np.int64(0), True), (torch.tensor(0), True), (1.5, False), (-1, False)]
)
def test_steps_are_whole_numbers_of_any_kind(line, step, good):
    watch = ls.Recorder(line, ["Loss"], every=1)
    if good:
        watch(step)
        assert watch.metrics["step"].tolist() == [0]
    else:
        with pytest.raises(ConfigurationError, match="step="):
            watch(step)


def test_a_module_in_place_of_a_landscape_is_named():
    with pytest.raises(ConfigurationError, match="not a Linear"):
        ls.Recorder(torch.nn.Linear(1, 1), ["Loss"])


def test_a_point_that_does_not_exist_is_named_everywhere(line):
    with pytest.raises(ConfigurationError, match="center"):
        ls.measure(line, [ls.Every(1, "Loss", on="center")])
    with pytest.raises(ConfigurationError, match="center"):
        ls.Recorder(line, [ls.Every(1, "Loss", on="center")], every=1)(0)


class Plain(ls.Probe):
    """A probe that is not frozen: its text would be its address."""

    def measure(self, point, generator):
        return ls.Measurement()


class Wrong(ls.Probe):
    """Says nothing."""

    def measure(self, point, generator):
        return None


def test_probes_that_are_not_frozen_or_measure_nothing_are_refused(line):
    from attrs import frozen

    with pytest.raises(ConfigurationError, match="frozen"):
        ls.measure(line, [Plain()])
    with pytest.raises(ConfigurationError, match="is not a Measurement"):
        ls.measure(line, [frozen(Wrong)()])


def test_a_change_after_the_last_update_is_pointed_out(small):
    with pytest.warns(UserWarning, match=r"step 300.*no effect"):
        evolve(small, schedule=(ls.At(300, {"lr": 0.1}),), steps=2, probes=("Loss",)).run()


def test_a_walker_is_an_instance(line):
    with pytest.raises(ConfigurationError, match=r"SGD\(lr=0\.1\)"):
        ls.Walk(line, "SGD")


def test_a_changed_file_is_found_by_verifying(small):
    run = small.run(store="s", run_id="r")
    assert run.verify() == []
    (run.path / "metrics.jsonl").write_text("")
    assert any("metrics.jsonl differs" in problem for problem in ls.open("s/r").verify())


def test_measuring_inside_autocast_computes_in_full_precision(line):
    plain = ls.measure(line, [ls.probes.HessianSpectrum(k=2)])
    with torch.autocast("cpu", torch.bfloat16):
        inside = ls.measure(line, [ls.probes.HessianSpectrum(k=2)])
    assert plain.equals(inside)


def test_fused_weight_normalisation_is_refused_where_its_curvature_is_asked_for():
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3))
    landscape = ls.Landscape(module, "cross_entropy", (torch.randn(8, 4), torch.randint(3, (8,))))
    with pytest.raises(ls.errors.NotTwiceDifferentiableError, match="weight normalisation"):
        ls.measure(landscape, [ls.probes.HessianSpectrum(k=1)])
