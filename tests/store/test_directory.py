"""Runs: written, read back, resumed, refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from attrs import frozen

from landscape.errors import ConfigurationError, RunError
from landscape.store import RunDirectory, RunStore


@frozen
class State:
    position: torch.Tensor
    step: int = 0


LAYOUT = [{"name": "0.weight", "shape": [2, 2]}, {"name": "0.bias", "shape": [2]}]


# -- written and read back ------------------------------------------------------------------------------------


def test_a_run_reads_back_what_was_written(run, weights):
    run.write_row({"step": 0, "worker": "0", "loss": 0.5, "accuracy": float("nan")})
    run.write_row({"step": np.int64(1), "worker": "0", "loss": math.inf, "gap": np.float64(2.0)})
    run.write_snapshot(0, {"0": weights(0), "centre": weights(1)}, {"running": torch.ones(2)}, LAYOUT)
    run.write_arrays("Spectrum", 0, "0", {"values": np.arange(3.0)})
    again = RunDirectory(run.path)
    metrics = again.metrics
    assert list(metrics) == ["step", "worker", "loss", "accuracy", "gap"]
    assert metrics["step"].tolist() == [0, 1]
    assert metrics["loss"].tolist() == [0.5, math.inf]
    assert math.isnan(metrics["accuracy"][0])
    (snapshot,) = again.snapshots()
    assert (snapshot.step, snapshot.labels, snapshot.layout) == (0, ("0", "centre"), LAYOUT)
    assert torch.equal(snapshot.weights("centre"), weights(1))
    assert {label: tensor.tolist() for label, tensor in snapshot.read().items()} == {
        "0": weights(0).tolist(),
        "centre": weights(1).tolist(),
    }
    assert snapshot.buffers("0")["running"].tolist() == [1, 1]
    (record,) = again.arrays("Spectrum")
    assert dict(record)["values"].tolist() == [0, 1, 2]
    assert (record["step"], record["worker"], set(record)) == (0, "0", {"step", "worker", "values"})
    assert again.array_names() == ["Spectrum"]
    assert again.configuration == {"experiment": {"seed": 1}}
    assert (again.kind, again.status, again.last_step) == ("experiment", "running", 1)


def test_files_lie_where_the_documentation_says(run, weights):
    run.write_row({"step": 0, "worker": "0"})
    run.write_snapshot(12, {"0": weights(0)})
    run.write_arrays("dist:Probe", 12, "centre", {"a": np.zeros(1)})
    run.write_solutions(3, {"points": np.zeros((1, 2), complex)})
    run.write_table("summary", pd.DataFrame({"a": [1]}))
    run.write_resume(12, State(weights(0)))
    run.close("complete")
    found = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())
    assert found == [
        "MANIFEST.json",
        "config.json",
        "metrics.jsonl",
        "provenance.json",
        "resume/step-00000012-000000.json",
        "resume/step-00000012-000000.safetensors",
        "snapshots.jsonl",
        "solutions/index.jsonl",
        "solutions/sample-00000003.safetensors",
        "spectra/dist%3AProbe/step-00000012-centre.safetensors",
        "spectra/index.jsonl",
        "state.json",
        "tables/summary.csv",
        "tables/summary.json",
        "weights/step-00000012.safetensors",
    ]


def test_every_line_on_disk_is_standard_json(run):
    run.write_row({"step": 0, "worker": "0", "loss": float("nan"), "bound": -math.inf, "note": "NaN"})
    (line,) = (run.path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=lambda token: pytest.fail(token))
    assert record == {
        "step": 0,
        "worker": "0",
        "loss": "NaN",
        "bound": "-Infinity",
        "note": "\\NaN",
        "attempt": 0,
    }
    assert run.rows()[0]["note"] == "NaN"


def test_rows_of_one_step_and_worker_become_one_row(run):
    run.write_row({"step": 0, "worker": "0", "loss": 1.0})
    run.write_row({"step": 0, "worker": "1", "loss": 2.0})
    run.write_row({"step": 0, "worker": "0", "score": 0.1})
    assert run.rows() == [
        {"step": 0, "worker": "0", "loss": 1.0, "score": 0.1},
        {"step": 0, "worker": "1", "loss": 2.0},
    ]


def test_a_run_without_rows_has_an_empty_table(run):
    assert list(run.metrics) == ["step", "worker"]
    assert run.metrics.empty
    assert run.last_step is None


def test_buffers_of_a_worker_stand_over_those_of_all(run, weights):
    shared, own = torch.zeros(1), torch.ones(1)
    run.write_snapshot(0, {"0": weights(0), "1": weights(1)}, {"all": {"m": shared}, "1": {"m": own}})
    (snapshot,) = run.snapshots()
    assert snapshot.buffers("0")["m"] == 0
    assert snapshot.buffers("1")["m"] == 1


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=lambda dtype: str(dtype)
)
def test_weights_keep_every_bit(run, dtype, weights):
    tensor = weights(0, 50).to(dtype)
    tensor[3], tensor[4], tensor[5] = float("nan"), -0.0, math.inf
    run.write_snapshot(0, {"0": tensor})
    back = run.snapshots()[0].weights("0")
    assert back.dtype == dtype
    assert back.view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()


def test_views_that_share_memory_are_stored_apart(run, weights):
    both = weights(0, 2, 6)
    run.write_snapshot(0, {"0": both[0], "1": both[1], "again": both[0]})
    snapshot = run.snapshots()[0]
    assert snapshot.bytes < 3000
    assert torch.equal(snapshot.weights("1"), both[1])
    assert torch.equal(snapshot.weights("again"), both[0])


def test_solutions_come_back_complex_and_in_order_of_samples(run):
    points = np.array([[1 + 2j, -0.5j]])
    run.write_solutions(1, {"points": points * 2}, {"sample": 1, "bound": math.inf})
    run.write_solutions(0, {"points": points, "real": np.array([True])}, {"sample": 0})
    (first, metadata), (second, other) = RunDirectory(run.path).solutions()
    assert first["points"].dtype == np.complex128
    np.testing.assert_array_equal(first["points"], points)
    np.testing.assert_array_equal(second["points"], points * 2)
    assert first["real"].tolist() == [True]
    assert (metadata, other) == ({"sample": 0}, {"sample": 1, "bound": math.inf})


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2], "b": [0.1, math.nan], "c": ["x", "NaN"], "d": [True, False]}),
        pd.DataFrame({"a": [math.inf, -0.0]}, index=pd.Index(["u", "v"], name="who")),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01", None])}),
        pd.DataFrame({"a": []}),
    ],
    ids=["plain", "named index", "missing integers", "dates", "no rows"],
)
def test_tables_come_back_as_they_were(run, frame):
    csv = run.write_table("a table", frame)
    pd.testing.assert_frame_equal(run.tables()["a table"], frame)
    assert csv.read_text().splitlines()[0].split(",")[-1] == frame.columns[-1]


def test_metrics_are_exported_to_the_last_digit(run, tmp_path):
    run.write_row({"step": 0, "worker": "0", "loss": 0.1 + 0.2, "gap_%": math.nan})
    path = run.export_metrics(tmp_path / "m.csv")
    back = pd.read_csv(path, dtype={"worker": str})
    pd.testing.assert_frame_equal(back, run.metrics)
    latex = run.export_metrics(tmp_path / "m.tex").read_text()
    assert "0.3 & --" in latex
    assert r"gap\_\%" in latex


def test_an_export_says_what_it_can_do(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"m\.xlsx.*\.csv, \.parquet or \.tex"):
        run.export_metrics(tmp_path / "m.xlsx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"landscape-core\[parquet\]"):
        run.export_metrics(tmp_path / "m.parquet")
    assert list(tmp_path.glob("m.*")) == []


def test_plugins_add_to_the_provenance(run):
    run.add_provenance({"dask": {"workers": 3}})
    run.add_provenance({"other": {"x": 1}})
    assert run.provenance == {"python": "3", "from_plugins": {"dask": {"workers": 3}, "other": {"x": 1}}}


# -- resumed --------------------------------------------------------------------------------------------------


def test_a_resume_supersedes_what_came_after_it(run, weights):
    for step in range(5):
        run.write_row({"step": step, "worker": "0", "loss": float(step)})
        run.write_snapshot(step, {"0": weights(step)})
        run.write_arrays("P", step, "0", {"a": np.array(step)})
    run.close("interrupted", "Ctrl-C")
    again = RunDirectory(run.path).reopen()
    assert again.begin_attempt(2) == 1
    assert [row["step"] for row in again.rows()] == [0, 1, 2]
    assert [snapshot.step for snapshot in again.snapshots()] == [0, 1, 2]
    assert [record.step for record in again.arrays("P")] == [0, 1, 2]
    again.write_row({"step": 3, "worker": "0", "loss": 30.0})
    again.write_snapshot(3, {"0": weights(30)})
    again.write_arrays("P", 3, "0", {"a": np.array(30)})
    assert [row["loss"] for row in again.rows()] == [0, 1, 2, 30]
    assert torch.equal(again.snapshots()[3].weights("0"), weights(30))
    assert again.arrays("P")[3]["a"] == 30
    assert [row["attempt"] for row in again.rows(superseded=True)] == [0, 0, 0, 0, 0, 1]
    again.close("complete")


def test_an_earlier_resume_supersedes_a_later_one(run):
    for attempt, (resume, steps) in enumerate([(None, (0, 1, 2, 3)), (3, (4, 5)), (1, (2,)), (2, (3,))]):
        if attempt:
            run.begin_attempt(resume)
        for step in steps:
            run.write_row({"step": step, "worker": "0", "by": attempt})
    assert [(row["step"], row["by"]) for row in run.rows()] == [(0, 0), (1, 0), (2, 2), (3, 3)]


def test_a_step_measured_again_replaces_the_old_row_whole(run):
    run.write_row({"step": 2, "worker": "0", "loss": 1.0, "old": 1.0})
    run.begin_attempt(2)
    run.write_row({"step": 2, "worker": "0", "loss": 2.0})
    assert run.rows() == [{"step": 2, "worker": "0", "loss": 2.0}]


@pytest.mark.parametrize("step", [None, -1])
def test_starting_over_supersedes_everything(run, step, weights):
    run.write_row({"step": 0, "worker": "0"})
    run.write_snapshot(0, {"0": weights(0)})
    run.write_resume(0, State(weights(0)))
    run.begin_attempt(step)
    assert run.rows() == []
    assert run.snapshots() == ()
    assert run.latest_resume(State(weights(1))) is None


def test_the_two_last_states_are_kept_and_the_newest_is_found(run, weights):
    for step in range(4):
        run.write_resume(step, State(weights(step), step))
    step, state = run.latest_resume(State(weights(9)))
    assert (step, state.step) == (3, 3)
    assert torch.equal(state.position, weights(3))
    assert run.latest_resume(State(weights(9)), before=3)[0] == 2
    assert run.latest_resume(State(weights(9)), before=2) is None
    assert len(list((run.path / "resume").iterdir())) == 4


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_state_is_passed_over_with_a_warning(run, suffix, weights):
    run.write_resume(1, State(weights(1), 1))
    run.write_resume(2, State(weights(2), 2))
    newest = run.path / "resume" / f"step-00000002-000001{suffix}"
    newest.write_bytes(newest.read_bytes().replace(b"e", b"f", 1))
    with pytest.warns(RuntimeWarning, match="passed over.*damaged"):
        assert run.latest_resume(State(weights(9)))[0] == 1


def test_a_state_of_a_superseded_step_is_not_resumed_from(run, weights):
    run.write_resume(1, State(weights(1), 1))
    run.write_resume(5, State(weights(5), 5))
    run.begin_attempt(1)
    assert run.latest_resume(State(weights(9)))[0] == 1


def test_resuming_with_another_walker_is_refused(run, weights):
    run.write_resume(1, State(weights(1), 1))
    with pytest.raises(RunError, match=r"State, which does not occur in a fresh state"):
        run.latest_resume({"position": weights(0)})


# -- verified -------------------------------------------------------------------------------------------------


def test_one_flipped_bit_is_found(run, weights):
    path = run.write_snapshot(0, {"0": weights(0)})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"step-00000000\.safetensors is damaged"):
        RunDirectory(run.path).snapshots()[0].weights("0")
    with pytest.raises(RunError, match=r"step-00000000\.safetensors is damaged"):
        RunDirectory(run.path).span()


def test_a_missing_file_is_named(run, weights):
    run.write_snapshot(0, {"0": weights(0)}).unlink()
    with pytest.raises(RunError, match=r"step-00000000\.safetensors: No such file"):
        run.snapshots()[0].weights("0")


def test_a_closed_run_agrees_with_its_manifest_until_it_is_changed(run, weights):
    run.write_row({"step": 0, "worker": "0"})
    path = run.write_snapshot(0, {"0": weights(0)})
    run.write_table("t", pd.DataFrame({"a": [1]}))
    run.close("complete")
    assert run.verify() == []
    (run.path / "tables" / "t.csv").unlink()
    path.write_bytes(b"x")
    assert [sentence.split("/")[-1] for sentence in run.verify()] == [
        "t.csv is missing.",
        "step-00000000.safetensors differs from what was recorded.",
    ]


def test_a_torn_last_line_is_ignored_and_then_cut(run):
    run.write_row({"step": 0, "worker": "0"})
    run.close("interrupted")
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 1, "wor')
    assert len(RunDirectory(run.path).rows()) == 1
    again = RunDirectory(run.path).reopen()
    again.write_row({"step": 1, "worker": "0"})
    again.close("complete")
    assert [row["step"] for row in again.rows()] == [0, 1]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(run):
    run.write_row({"step": 0, "worker": "0"})
    run.write_row({"step": 1, "worker": "0"})
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":0', b'"step":'))
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1 is damaged"):
        run.rows()


# -- refused --------------------------------------------------------------------------------------------------


def test_a_run_that_is_read_cannot_be_written(run, weights):
    reader = RunDirectory(run.path)
    for write in (
        lambda: reader.write_row({"step": 0, "worker": "0"}),
        lambda: reader.write_snapshot(0, {"0": weights(0)}),
        lambda: reader.write_resume(0, State(weights(0))),
        lambda: reader.write_arrays("a", 0, "0", {}),
        lambda: reader.write_solutions(0, {}),
        lambda: reader.write_table("a", pd.DataFrame()),
        lambda: reader.begin_attempt(0),
    ):
        with pytest.raises(RunError, match=r"reopen\(\)"):
            write()
    reader.close("failed")
    assert reader.status == "running"


def test_bad_rows_and_snapshots_are_refused_before_anything_is_written(run, weights):
    before = sorted(run.path.rglob("*"))
    cases = {
        r"got -1": lambda: run.write_row({"step": -1, "worker": "0"}),
        r"got 1\.5": lambda: run.write_row({"step": 1.5, "worker": "0"}),
        r"got True": lambda: run.write_row({"step": True, "worker": "0"}),
        r"'worker'; got 0": lambda: run.write_row({"step": 0, "worker": 0}),
        r"'attempt' is a column": lambda: run.write_row({"step": 0, "worker": "0", "attempt": 1}),
        r"common shape": lambda: run.write_snapshot(0, {"0": weights(0), "1": weights(0, 3)}),
        r"got none": lambda: run.write_snapshot(0, {}),
        r"has no slash": lambda: run.write_snapshot(0, {"a/b": weights(0)}),
        r"describes 4 weights": lambda: run.write_snapshot(0, {"0": weights(0)}, layout=LAYOUT[:1]),
        r"cannot name an array": lambda: run.write_arrays("a", 0, "0", {"step": np.zeros(1)}),
        r"is not how a run ends": lambda: run.close("done"),
        r"distinct strings": lambda: run.write_table("t", pd.DataFrame({1: [2]})),
    }
    for message, write in cases.items():
        with pytest.raises(RunError, match=message):
            write()
    written = [path for path in run.path.rglob("*") if path.is_file() and path not in before]
    assert written == []


def test_a_row_that_json_cannot_say_leaves_the_log_as_it_was(run):
    run.write_row({"step": 0, "worker": "0"})
    with pytest.raises(RunError, match=r"metrics\.jsonl\.model is of type object"):
        run.write_row({"step": 1, "worker": "0", "model": object()})
    assert len(run.rows()) == 1


def test_unknown_names_are_answered_with_the_known_ones(run, weights):
    run.write_arrays("HessianSpectrum", 0, "0", {"a": np.zeros(1)})
    run.write_snapshot(0, {"centre": weights(0)})
    with pytest.raises(RunError, match="Did you mean 'HessianSpectrum'"):
        run.arrays("HessianSpectra")
    with pytest.raises(RunError, match="Did you mean 'centre'"):
        run.snapshots()[0].weights("center")
    with pytest.raises(RunError, match="Did you mean 'centre'"):
        run.span(workers=["center"])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json"):
        RunDirectory(tmp_path)


def test_a_run_of_a_newer_format_is_refused(run):
    state = json.loads((run.path / "state.json").read_text())
    (run.path / "state.json").write_text(json.dumps(state | {"format": 2}))
    with pytest.raises(RunError, match="newer version of landscape"):
        RunDirectory(run.path)
    (run.path / "state.json").write_text(json.dumps(state))


def test_space_that_is_not_there_is_missed_in_words(run, store, tmp_path):
    run.ensure_space(1)
    store.ensure_space(1)
    with pytest.raises(RunError, match=r"1e\+03 TB are needed and .* (MB|GB|TB) are available"):
        run.ensure_space(10**15)
    with pytest.raises(RunError, match="are needed"):
        RunStore(tmp_path / "not" / "there").ensure_space(10**15)
    assert not (tmp_path / "not").exists()
