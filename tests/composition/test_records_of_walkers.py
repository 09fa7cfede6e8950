"""Numbers of a walker's own stand in the metrics beside what probes found."""

import math

import attrs
import pytest
import torch

import landscape as ls
from landscape.composition.every import schedule_probes
from landscape.composition.probing import Found, rows_of
from landscape.errors import ConfigurationError


@attrs.frozen
class ShiftState:
    positions: torch.Tensor
    updates: int


@attrs.frozen
class Shift(ls.Walker[ShiftState]):
    """Moves every weight of worker i by i/100 in every update, and says how far it has come."""

    column: str = "way"

    @property
    def workers(self):
        return 2

    def start(self, landscape, positions, generator):
        return ShiftState(positions.clone(), 0)

    def step(self, landscape, state, *, active=None):
        shift = torch.arange(len(state.positions))[:, None] / 100
        return ShiftState(state.positions + shift.to(state.positions), state.updates + 1)

    def positions(self, state):
        return state.positions

    def labelled(self, state):
        return {"centre": state.positions.mean(0)}

    def relocate(self, state, positions):
        return attrs.evolve(state, positions=positions.clone())

    def record(self, state):
        first = math.nan if state.updates == 0 else 0.0
        return {self.column: (first, state.updates / 100)}


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_the_rows_of_workers_have_the_walkers_columns_at_the_steps_of_probes(small):
    run = small.replace(walker=Shift(), probes=(ls.Every(2, "Loss"),), steps=4, snapshots=0).run()
    metrics = run.metrics
    ways = {worker: list(rows["way"]) for worker, rows in metrics.groupby("worker")}
    assert list(metrics["step"].unique()) == [0, 2, 4]
    assert math.isnan(ways["0"][0])
    assert ways["0"][1:] == [0.0, 0.0]
    assert ways["1"] == [0.0, 0.02, 0.04]
    assert metrics[metrics["worker"] == "centre"]["way"].isna().all()
    assert ls.open(run.path).metrics.equals(metrics)


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_points_that_no_probe_measured_get_no_row(small):
    run = small.replace(walker=Shift(), probes=(ls.Every(1, "Loss", on="1"),), steps=1, snapshots=0).run()
    assert set(run.metrics["worker"]) == {"1"}
    assert list(run.metrics["way"]) == [0.0, 0.01]


def test_a_column_of_the_walker_that_a_probe_fills_too_is_refused():
    (every,) = schedule_probes(["Loss"])
    found = [Found(0, "0", every, ls.Measurement({"loss": 1.0}))]
    with pytest.raises(ConfigurationError, match="The walker and Loss both fill the column 'loss'"):
        rows_of(found, {"loss": (1.0,)})
