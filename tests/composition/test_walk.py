"""Walks: step by step, changed while they go, saved and restored bit for bit."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap

import pytest
import torch

import landscape as ls
from landscape.composition.walk import _all_finite
from landscape.errors import ConfigurationError, NonFiniteLossError, RunError


def test_gradient_descent_on_a_line_is_the_closed_form(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1), seed=0)
    start = walk.positions[0].double()
    x = torch.linspace(-1, 1, 16, dtype=torch.float64)
    # L(w, b) = mean (w x + b - 2 x)^2, and the x are symmetric about 0.
    hessian = torch.diag(torch.stack([2 * (x**2).mean(), torch.tensor(2.0, dtype=torch.float64)]))
    minimum = torch.tensor([2.0, 0.0], dtype=torch.float64)
    for _ in walk.steps(20):
        pass
    factor = torch.linalg.matrix_power(torch.eye(2, dtype=torch.float64) - 0.1 * hessian, 20)
    assert torch.allclose(walk.positions[0].double(), minimum + factor @ (start - minimum), atol=1e-6)


def test_the_population_is_handed_out_before_its_update(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1))
    seen = [(population.step, float(population.points[0].value())) for population in walk.steps(3)]
    assert [step for step, _ in seen] == [0, 1, 2]
    assert seen[0][1] == pytest.approx(float(line.value(line.initial())))
    assert walk.step == 3


@pytest.fixture
def elastic(small):
    return small.replace(probes=())


@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_walk_saved_at_any_step_continues_bit_for_bit_in_a_new_process(elastic, tmp_path, at):
    walk = elastic.walk()
    for population in walk.steps(at):
        if population.step == 2:
            walk.set(lr=0.02)
    walk.save("saved")
    for _ in walk.steps(12 - at):
        pass
    program = textwrap.dedent(
        """
        import sys, torch, landscape as ls
        torch.set_num_threads(1)
        experiment = ls.load("experiment.toml")
        walk = ls.Walk.load("saved", experiment.landscapes()["train"])
        for _ in walk.steps(12 - walk.step):
            pass
        torch.save({"positions": walk.positions, "centre": walk.walker.labelled(walk.state)["centre"]}, "end.pt")
        """
    )
    ls.save(elastic, "experiment.toml")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    end = torch.load("end.pt", weights_only=True)
    assert torch.equal(end["positions"], walk.positions)
    assert torch.equal(end["centre"], walk.walker.labelled(walk.state)["centre"])
    assert ls.Walk.load("saved", walk.landscape).changes == (
        [{"step": 2, "values": {"lr": 0.02}}] if at > 2 else []
    )


def test_saving_over_something_is_refused(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1))
    walk.save("saved")
    with pytest.raises(RunError, match="saved"):
        walk.save("saved")


def test_loading_on_another_landscape_is_refused(line):
    ls.Walk(line, ls.walkers.SGD(lr=0.1)).save("saved")
    other = ls.Landscape(torch.nn.Linear(3, 1), "mse", (torch.ones(4, 3), torch.ones(4, 1)))
    with pytest.raises(RunError, match="2 parameters; this one has 4"):
        ls.Walk.load("saved", other)


def test_an_unknown_hyper_parameter_is_refused_and_changes_nothing(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1))
    with pytest.raises(ConfigurationError, match="lr"):
        walk.set(learning_rate=0.2)
    assert walk.changes == []


def test_a_step_that_is_not_finite_names_the_worker_and_keeps_the_state(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=1e38), seed=0)
    with pytest.raises(NonFiniteLossError, match=r"worker 0.*lr = 1e\+38"):
        for _ in walk.steps(10):
            pass
    assert bool(torch.isfinite(walk.positions).all())


def test_large_weights_whose_sum_overflows_are_finite_all_the_same():
    huge = torch.tensor([[3e38, 3e38]])
    assert not torch.isfinite(huge.sum())
    assert _all_finite(huge)
    assert not _all_finite(torch.tensor([[0.0, math.inf], [0.0, -math.inf]]))
    assert not _all_finite(torch.tensor([[0.0, math.nan]]))


def test_a_start_of_the_wrong_shape_is_refused(line):
    with pytest.raises(ConfigurationError, match=r"\(3,\).*\(2,\)"):
        ls.Walk(line, ls.walkers.SGD(lr=0.1), start=torch.zeros(3))
