"""Experiments: what they record, that they resume and replicate exactly, and how they fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from attrs import evolve, frozen

import landscape as ls
from landscape.errors import ConfigurationError, NonFiniteLossError, RunError
from landscape.interfaces import Measurement, Probe, StopRule


def weights(run):
    return {
        (record.step, label): tensor
        for record in run.directory.snapshots()
        for label, tensor in record.read().items()
    }


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def test_a_run_holds_rows_for_every_worker_and_the_centre(small):
    run = small.run()
    metrics = run.metrics
    assert run.status == "complete"
    assert list(metrics.columns[:2]) == ["step", "worker"]
    assert sorted(set(metrics["worker"])) == ["0", "1", "centre"]
    assert sorted(set(metrics["step"])) == list(range(13))
    spectrum = metrics.dropna(subset=["hessian_eigenvalue_1"])
    assert sorted(set(spectrum["step"])) == [0, 6, 12]
    assert sorted({record.step for record in run.directory.snapshots()}) == [0, 4, 8, 12]


def test_the_recorded_loss_is_that_of_the_recorded_weights(small):
    run = small.run()
    metrics = run.metrics.set_index(["step", "worker"])
    for (step, worker), theta in weights(run).items():
        assert float(run.landscape().value(theta)) == metrics.loc[(step, worker), "loss"]


def test_two_runs_of_one_experiment_have_the_same_bits(small):
    first, second = small.run(), small.run()
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    assert_same_bits(weights(first), weights(second))


def test_a_run_is_replicated_from_its_own_files(small):
    first = ls.open(small.run().path)
    second = first.replicate()
    assert second.path != first.path
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)


def test_probing_more_often_changes_no_path(small):
    plain = evolve(small, probes=())
    often = evolve(
        small,
        probes=(
            ls.Every(1, ls.probes.HessianSpectrum(k=2)),
            ls.Every(1, ls.probes.GradientCovariance(batches=3)),
        ),
    )
    assert_same_bits(weights(plain.run()), weights(often.run()))


def test_running_leaves_the_global_random_state_alone(small):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    small.run()
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@frozen
class Bomb(Probe):
    """Interrupts, or fails, at one step; the file says whether it has gone off."""

    step: int
    fuse: str
    how: str = "interrupt"

    def measure(self, point, generator):
        from pathlib import Path

        if point.step == self.step and point.worker == "centre" and not Path(self.fuse).exists():
            Path(self.fuse).touch()
            raise KeyboardInterrupt if self.how == "interrupt" else RuntimeError("bang")
        return Measurement(scalars={"bomb": 0.0})


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
@pytest.mark.parametrize("how", ["interrupt", "error"])
@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_an_interrupted_run_is_readable_and_resumes_to_the_same_bits(small, tmp_path, step, how):
    whole = small.run()
    broken = evolve(small, probes=(*small.probes, ls.Every(1, Bomb(step, str(tmp_path / "fuse"), how))))
    with pytest.raises(KeyboardInterrupt if how == "interrupt" else RuntimeError):
        broken.run(store="broken", run_id="r")
    stopped = ls.open("broken/r", trust=True)
    assert stopped.status == ("interrupted" if how == "interrupt" else "failed")
    assert set(stopped.metrics["step"]) == set(range(step))
    resumed = stopped.resume()
    assert resumed.status == "complete"
    pd.testing.assert_frame_equal(resumed.metrics.drop(columns="bomb"), whole.metrics, check_exact=True)
    assert_same_bits(weights(resumed), weights(whole))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_another_process_leaves_a_readable_run(tmp_path):
    program = textwrap.dedent(
        """
        import attrs, landscape as ls, os, signal
        @attrs.frozen
        class Stop(ls.interfaces.StopRule):
            def reason(self, rows):
                if rows and rows[-1]["step"] == 7:
                    os.kill(os.getpid(), signal.SIGINT)
                return None
        ls.Experiment(ls.models.MLP(hidden=(4,)), ls.datasets.Digits(), ls.walkers.SGD(lr=0.1, batch_size=32),
                      probes=(ls.Every(1, "Loss"),), stop=(Stop(),), steps=10_000, snapshots=2,
                      ).run(store="s", run_id="r")
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (1, 130, -signal.SIGINT)
    run = ls.open(tmp_path / "s" / "r")
    assert run.status == "interrupted"
    assert list(run.metrics["step"])[:7] == list(range(7))


def test_a_diverging_walk_says_what_diverged_and_keeps_its_record(small):
    # The first update takes the weights to 1e37, the next ones beyond what float32 holds.
    wild = evolve(small, walker=ls.walkers.SGD(lr=1e38, batch_size=32, momentum=0.9), probes=("Loss",))
    with pytest.raises(NonFiniteLossError, match=r"lr"):
        wild.run(store="s", run_id="wild")
    run = ls.open("s/wild")
    assert run.status == "failed"
    assert len(run.metrics) >= 1
    assert "NonFiniteLossError" in run.directory.state["reason"]


def test_a_run_directory_that_exists_is_not_overwritten(small):
    first = small.run(store="s", run_id="same")
    with pytest.raises(RunError, match="same"):
        small.run(store="s", run_id="same")
    assert ls.open("s/same").status == first.status == "complete"


def test_a_store_that_cannot_be_written_is_named_before_any_work(small, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(RunError, match="file"):
        small.run(store="file/runs")


def test_a_run_that_is_complete_resumes_to_itself(small):
    run = small.run()
    assert run.resume() is run


def test_changes_by_schedule_are_what_changing_by_hand_is(small):
    scheduled = evolve(small, schedule=(ls.At(5, {"lr": 0.01}),), probes=())
    walk = evolve(small, probes=()).walk()
    for population in walk.steps(12):
        if population.step == 5:
            walk.set(lr=0.01)
    assert torch.equal(walk.positions[1], weights(scheduled.run())[(12, "1")])
    assert walk.changes == [{"step": 5, "values": {"lr": 0.01}}]


def test_every_change_is_recorded_and_survives_a_resume(small, tmp_path):
    fuse = tmp_path / "fuse"
    changing = evolve(
        small,
        schedule=(ls.At(3, {"lr": 0.05}), ls.At(9, {"lr": (0.02, 0.03)})),
        probes=(ls.Every(1, Bomb(10, str(fuse))),),
    )
    with pytest.warns(UserWarning, match="cannot be replicated"), pytest.raises(KeyboardInterrupt):
        changing.run(store="s", run_id="r")
    run = ls.open("s/r", trust=True).resume()
    assert run.changes.to_dict("records") == [
        {"step": 3, "name": "lr", "value": 0.05},
        {"step": 9, "name": "lr", "value": [0.02, 0.03]},
    ]


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_the_best_weights_are_kept_also_over_a_resume(small, tmp_path):
    def kept(probes, **options):
        return evolve(small, probes=("Loss", *probes), best="loss:max", **options)

    whole = kept(()).run()
    weights_of_best, facts = whole.best()
    metrics = whole.metrics
    row = metrics.loc[metrics["loss"].idxmax()]
    assert (facts["step"], facts["worker"], facts["value"]) == (row["step"], row["worker"], row["loss"])
    assert float(whole.landscape().value(weights_of_best)) == row["loss"]
    with pytest.raises(KeyboardInterrupt):
        kept((ls.Every(1, Bomb(6, str(tmp_path / "fuse"))),)).run(store="s", run_id="r")
    again, facts_again = ls.open("s/r", trust=True).resume().best()
    assert facts_again == facts
    assert torch.equal(again, weights_of_best)
    with pytest.raises(ConfigurationError, match="best="):
        small.run().best()
    with pytest.raises(ConfigurationError, match="metric:min"):
        evolve(small, best="loss:lowest")


@frozen
class Enough(StopRule):
    """Stops at a loss."""

    loss: float

    def reason(self, rows):
        losses = [row["loss"] for row in rows[-3:] if "loss" in row]
        return f"loss below {self.loss}" if losses and min(losses) < self.loss else None


@frozen
class After(StopRule):
    """Stops at a step."""

    step: int

    def reason(self, rows):
        return "enough" if rows and rows[-1]["step"] >= self.step else None


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_a_stop_rule_ends_the_run_and_says_why(small):
    run = evolve(small, stop=(Enough(100.0),)).run()
    assert run.status == "stopped"
    assert run.directory.state["reason"] == "loss below 100.0"
    assert set(run.metrics["step"]) == {0}
    assert ls.open(run.path, trust=True).resume().status == "stopped"
    late = evolve(
        small, stop=(Enough(100.0),), probes=(ls.Every(1, "Loss"), ls.Every(7, "GradientNorm")), snapshots=0
    )
    late = evolve(late, stop=(After(3),)).run()
    assert late.metrics.set_index("step").loc[3, "gradient_norm"].notna().all()
    assert [record.step for record in late.directory.snapshots()] == [3]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "MLP"}, "model"),
        ({"walker": 3}, "walker"),
        ({"steps": 0}, "steps"),
        ({"probes": (3,)}, "probes: 3 is not a probe"),
        ({"dtype": "half"}, "dtype"),
    ],
)
def test_wrong_arguments_are_refused_when_the_experiment_is_made(small, changes, says):
    with pytest.raises((ConfigurationError, ValueError, TypeError), match=says):
        evolve(small, **changes)


@frozen
class Constant(Probe):
    """Fills a column with its own field."""

    value: float

    def measure(self, point, generator):
        return Measurement(scalars={"constant": self.value})


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_two_probes_in_one_column_ask_for_a_label(small):
    with pytest.raises(ConfigurationError, match=r"both fill the column 'constant'.*label"):
        evolve(small, probes=(Constant(1.0), Constant(2.0))).run()
    run = evolve(small, probes=(Constant(1.0), ls.Every(None, Constant(2.0), label="second"))).run()
    assert set(run.metrics["constant"]) == {1.0}
    assert set(run.metrics["second.constant"]) == {2.0}


def test_a_run_that_cannot_be_replicated_says_so_when_it_starts_and_when_asked(small):
    local = evolve(small, probes=(Constant(1.0),), steps=1)
    with pytest.warns(UserWarning, match=r"cannot be replicated.*Constant is not a registered component"):
        run = local.run()
    assert run.provenance["replicable"] is False
    with pytest.raises(RunError, match="Constant"):
        ls.open(run.path).replicate()


def test_a_backend_carries_an_experiment(small):
    here, there = small.run(), small.run(backend=ls.backends.InProcess())
    pd.testing.assert_frame_equal(here.metrics, there.metrics, check_exact=True)


def test_projections_are_written_beside_the_metrics(small):
    run = evolve(small, projectors=(ls.projectors.PCA(), ls.projectors.SOM(rows=4, columns=4))).run()
    table = run.tables["path_PCA"]
    assert list(table.columns) == ["step", "worker", "x1", "x2"]
    assert len(table) == 4 * 3
    assert "path_SOM" in run.tables


def test_equal_projectors_give_the_same_projection(small):
    run = small.run()
    first = run.project(ls.projectors.SOM(rows=3, columns=3, epochs=2, end_radius=1))
    assert run.project(ls.projectors.SOM(rows=3, columns=3, epochs=2, end_radius=1.0)) is first
    again = ls.open(run.path).project(
        ls.projectors.SOM(rows=3, columns=3, epochs=2, end_radius=np.float64(1))
    )
    np.testing.assert_array_equal(again.coordinates, first.coordinates)


def test_independent_starts_differ_and_the_first_is_the_models_own(small):
    walk = evolve(small, start=ls.Fresh(identical=False)).walk()
    assert torch.equal(walk.positions[0], walk.landscape.initial())
    assert not torch.equal(walk.positions[0], walk.positions[1])


def test_weights_from_a_file_start_every_worker(small, tmp_path):
    landscape = small.landscapes()["train"]
    theta = torch.arange(landscape.size, dtype=torch.float32) / landscape.size
    torch.save({"state_dict": landscape.layout.state_dict(theta)}, tmp_path / "start.pt")
    walk = evolve(small, start=ls.FromFile(str(tmp_path / "start.pt"))).walk()
    assert torch.equal(walk.positions, theta.expand(2, -1))


def test_what_fits_of_a_file_is_taken_and_the_rest_is_reported(small, tmp_path):
    landscape = small.landscapes()["train"]
    state = landscape.layout.state_dict(torch.ones(landscape.size))
    first, *_, last = state
    state[last] = torch.ones(3)
    torch.save(state, tmp_path / "other.pt")
    experiment = evolve(small, start=ls.FromFile(str(tmp_path / "other.pt"), fit="partial"))
    with pytest.warns(UserWarning, match=rf"Left at the model's own initialisation: {last} \(\(3,\) there"):
        run = experiment.run(tmp_path / "runs")
    (note,) = run.provenance["start"]["notes"]
    assert last in note
    with pytest.warns(UserWarning, match="own initialisation"):
        begin = landscape.layout.split(experiment.walk().positions[0])
    assert (begin[first] == 1).all()
    assert torch.equal(begin[last], landscape.layout.split(landscape.initial())[last])
    torch.save({"nothing": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(ls.errors.DataError, match=r"other\.pt: No parameter"):
        experiment.walk()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"schedule": (ls.At(6, {"lrr": 0.1}),)}, ConfigurationError, r"schedule\[0\], step 6.*lrr"),
        ({"probes": (ls.Every(1, "Loss", on="centr"),)}, ConfigurationError, "Did you mean 'centre'"),
        ({"probes": (ls.probes.Loss(split="validation"),)}, ConfigurationError, "validation"),
        ({"loss": "crossentropy"}, ConfigurationError, "cross_entropy"),
        ({"start": ls.FromFile("nothing.pt")}, ls.errors.DataError, r"nothing\.pt"),
        ({"start": ls.FromRun("nothing")}, RunError, "nothing"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(small, tmp_path, changes, error, says):
    with pytest.raises(error, match=says):
        evolve(small, **changes).run(store="s")
    assert not (tmp_path / "s").exists()


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
@pytest.mark.parametrize("every", [1, 4])
def test_warm_starts_survive_a_pause_also_of_probes_that_only_ask_others(small, tmp_path, every):
    def probes(*more):
        overlap = ls.probes.GradientHessianOverlap(k=1)
        elsewhere = ls.Every(every, overlap, split="test", restrict="layer2.*")
        return (ls.Every(1, "Loss"), ls.Every(every, overlap), elsewhere, *more)

    whole = evolve(small, probes=probes()).run()
    with pytest.raises(KeyboardInterrupt):
        evolve(small, probes=probes(ls.Every(1, Bomb(10, str(tmp_path / "fuse"))))).run(store="s", run_id="r")
    resumed = ls.open("s/r", trust=True).resume()
    pd.testing.assert_frame_equal(resumed.metrics.drop(columns="bomb"), whole.metrics, check_exact=True)


def test_warm_starts_reach_over_measurements_of_other_probes(small):
    spectrum = ls.probes.HessianSpectrum(k=2)
    alone = evolve(small, probes=(ls.Every(4, spectrum),)).run().metrics
    mixed = evolve(small, probes=(ls.Every(4, spectrum), ls.Every(1, "Loss"))).run().metrics
    mixed = mixed.dropna(subset=["hessian_products"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(mixed[alone.columns], alone, check_exact=True)


class Drawing(torch.nn.Linear):
    """A layer whose initialisation comes from the global generator, as torch's own does."""


@frozen
class Careless(ls.Model):
    """A model that draws its weights from the global state."""

    def build(self, example, generator):
        return Drawing(example[0].shape[1], 10)


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_a_model_that_draws_from_the_global_state_is_repeatable_and_changes_nothing(small):
    import random

    random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), torch.random.get_rng_state()
    careless = evolve(small, model=Careless(), probes=("Loss",))
    first = careless.run()
    torch.manual_seed(2)
    second = careless.run()
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    torch.manual_seed(1)
    assert random.getstate() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_changes_by_hand_are_replicated_as_a_schedule(small, monkeypatch):
    answers = iter(["lr=0.01", ""])
    monkeypatch.setattr("builtins.input", lambda *prompt: next(answers))
    first = evolve(small, probes=("Loss",)).run(pause_at=[5])
    second = first.replicate()
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    assert second.provenance["replicates"] == first.id


def test_a_run_starts_where_another_ended(small):
    first = small.run(store="s", run_id="first")
    ends = weights(first)
    second = evolve(small, start=ls.FromRun("s/first", worker="centre")).walk()
    assert torch.equal(second.positions, ends[(12, "centre")].expand(2, -1))
    each = evolve(small, start=ls.FromRun("s/first", worker=None, step=8)).run()
    assert torch.equal(weights(each)[(0, "1")], ends[(8, "1")])
    assert each.provenance["start"]["step"] == 8
    with pytest.raises(RunError, match=r"step 5.*0, 4, 8, 12"):
        evolve(small, start=ls.FromRun("s/first", step=5)).walk()
    other = evolve(small, model=ls.models.MLP(hidden=(6,)))
    with pytest.raises(ls.errors.DataError):
        evolve(other, start=ls.FromRun("s/first")).walk()


def test_pre_training_takes_what_fits_and_reports_the_rest(small):
    first = evolve(small, model=ls.models.MLP(hidden=(4,), outputs=12), steps=3, probes=())
    with pytest.warns(UserWarning, match=r"Left at the model's own initialisation: layer2\.weight"):
        run = evolve(small, start=ls.PreTrained(first)).run()
    trained = first.walk()
    for _ in trained.steps(3):
        pass
    layout, other = run.landscape().layout, trained.landscape.layout
    begun = layout.split(weights(run)[(0, "1")])
    assert torch.equal(begun["layer1.weight"], other.split(trained.positions[0])["layer1.weight"])
    assert torch.equal(begun["layer2.weight"], layout.split(run.landscape().initial())["layer2.weight"])
    assert "layer2.weight" in run.provenance["start"]["notes"][0]
    assert ls.loads(ls.dumps(run.experiment)) == run.experiment


@frozen
class Streamed(ls.Dataset):
    """Clusters that can only be read from the beginning."""

    def load(self, generator):
        from landscape.objective import as_data

        class Batches:
            def __iter__(self):
                numbers = torch.Generator().manual_seed(0)
                for _ in range(3):
                    labels = torch.randint(3, (5,), generator=numbers)
                    yield torch.randn(5, 2, generator=numbers) + labels[:, None], labels

        return {"train": as_data(Batches())}


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_data_that_is_iterated_can_be_walked_on_with_all_of_it():
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(3,)),
        Streamed(),
        ls.walkers.SGD(lr=0.1, batch_size=None),
        probes=("Loss", ls.probes.HessianSpectrum(k=1)),
        steps=3,
    )
    metrics = experiment.run().metrics
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0]
    assert metrics.notna().all(axis=None)
    with pytest.raises(ls.errors.DataError, match=r"landscape\.fixed"):
        experiment.replace(walker=ls.walkers.SGD(lr=0.1, batch_size=5)).run()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"walker": "SDG"}, r"walker: 'SDG' is not a Walker; .*landscape\.walkers`\. Did you mean 'SGD'\?"),
        ({"dataset": "Digit"}, r"landscape\.datasets`\. Did you mean 'Digits'\?"),
        (
            {"stop": "Patiense"},
            r"stop: 'Patiense' is not a StopRule; .*landscape\.stops`\. Did you mean 'Patience'\?",
        ),
        ({"walker": 3}, r"walker: 3 is not a Walker; .*landscape\.walkers`\.$"),
    ],
)
def test_a_component_given_by_name_is_refused_with_the_nearest_name(fields, message):
    given = {"model": ls.models.MLP(), "dataset": ls.datasets.Digits(), "walker": ls.walkers.SGD(lr=0.1)}
    with pytest.raises(ConfigurationError, match=message):
        ls.Experiment(**(given | fields))
