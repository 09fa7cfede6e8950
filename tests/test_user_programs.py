"""The programs that a user writes on the first day, small enough to run as tests."""

from glob import glob

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls


def _digits(n=96):
    data = ls.datasets.Digits(examples=n, test_fraction=0.0).load(torch.Generator().manual_seed(0))["train"]
    return data.take(torch.arange(n))


def _net(width=8):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))


def test_a_inside_my_own_training_loop(tmp_path):
    net, loss = _net(), nn.functional.cross_entropy
    loader = DataLoader(
        TensorDataset(*_digits()), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)

    watch = ls.Recorder(ls.Landscape(net, loss, loader), [ls.probes.HessianSpectrum(k=5)], every=2)
    for step, (x, y) in enumerate(loader):
        watch(step)
        sgd.zero_grad()
        loss(net(x), y).backward()
        sgd.step()

    assert list(watch.metrics["step"]) == [0, 2, 4]
    eigenvalues = watch.metrics[[f"hessian_eigenvalue_{i}" for i in range(1, 6)]].to_numpy()
    assert (np.diff(eigenvalues, axis=1) <= 0).all()


def test_a_with_a_store_it_is_a_run_that_goes_on(tmp_path):
    net = _net()
    landscape = ls.Landscape(net, "cross_entropy", _digits())
    with ls.Recorder(landscape, ["Loss"], every=2, store=tmp_path / "runs", run="mine") as watch:
        for step in range(5):
            watch(step)
    with ls.Recorder(landscape, ["Loss"], every=2, store=tmp_path / "runs", run="mine") as watch:
        for step in range(4, 9):
            watch(step)
    run = ls.open(tmp_path / "runs" / "mine")
    assert list(run.metrics["step"]) == [0, 2, 4, 6, 8]
    assert list(watch.metrics["step"]) == [0, 2, 4, 6, 8]


def _experiment():
    return ls.Experiment(
        model=ls.models.MLP(hidden=(6,)),
        dataset=ls.datasets.Digits(examples=120),
        loss="cross_entropy",
        walker=ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=16), workers=4),
        probes=(
            "Loss",
            ls.probes.GradientCovariance(batches=5),
            ls.Every(10, ls.probes.HessianSpectrum(k=3)),
        ),
        projectors=(ls.projectors.SOM(rows=4, columns=3),),
        steps=20,
        seed=1,
    )


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """The run of program (b)."""
    return _experiment().run(store=tmp_path_factory.mktemp("store") / "runs")


def test_b_a_composed_experiment_is_recorded(composed):
    metrics = composed.metrics
    assert set(metrics["worker"]) == {"0", "1", "2", "3", "centre"}
    assert metrics["step"].max() == 20
    spectra = metrics.dropna(subset=["hessian_eigenvalue_1"])
    assert sorted(spectra["step"].unique()) == [0, 10, 20]
    assert (metrics["covariance_eigenvalue_1"].dropna() > 0).all()
    last = metrics[(metrics["step"] == 20) & (metrics["worker"] == "centre")]
    first = metrics[(metrics["step"] == 0) & (metrics["worker"] == "centre")]
    assert last["loss"].item() < first["loss"].item()


def test_b_the_report_is_one_self_contained_page(composed):
    composed.report()
    page = (composed.path / "report.html").read_text(encoding="utf-8")
    assert "EASGD" in page
    assert "<script src=" not in page
    assert 'src="http' not in page


def test_b_the_same_seed_gives_the_same_path_and_another_one_does_not(composed, tmp_path):
    again = _experiment().run(store=tmp_path / "again")
    assert composed.metrics["loss"].tolist() == again.metrics["loss"].tolist()
    other = _experiment().replace(seed=2, probes=("Loss",), projectors=()).run(store=tmp_path / "other")
    assert other.metrics["loss"].iloc[-1] != again.metrics["loss"].iloc[-1]


def test_b_measuring_less_often_never_changes_the_path(composed, tmp_path):
    bare = _experiment().replace(probes=(ls.Every(20, "Loss"),), projectors=()).run(store=tmp_path / "bare")
    columns = ["worker", "loss"]
    expected = composed.metrics.query("step == 20")[columns].to_numpy().tolist()
    assert bare.metrics.query("step == 20")[columns].to_numpy().tolist() == expected


def test_c_critical_points_of_a_deep_linear_network(tmp_path):
    study = ls.CriticalPointStudy(
        ls.models.DeepLinear(widths=(2, 2, 2), examples=1),
        solver=ls.solvers.Monodromy(),
        samples=5,
        seed=0,
    )
    run = study.run(store=tmp_path / "runs")
    summary = run.summary()
    assert list(summary["N_C"]) == [33] * 5
    assert list(summary["N_C_torus"]) == [16] * 5
    assert (summary["N_R"] % 2 == 1).all()
    real = run.tables["real_points"]
    assert len(real) == summary["N_R"].sum()


def test_d_step_by_step_and_on_from_a_file(tmp_path):
    landscape = ls.Landscape(_net(), "cross_entropy", _digits())
    walk = ls.Walk(landscape, ls.walkers.SGD(lr=0.1, batch_size=16, momentum=0.9), seed=0)
    for population in walk.steps(50):
        if population.step == 20:
            walk.set(lr=0.01)  # recorded like any schedule
    assert walk.step == 50
    assert walk.changes == [{"step": 20, "values": {"lr": 0.01}}]

    walk.save(tmp_path / "walk")
    loaded = ls.Walk.load(tmp_path / "walk", landscape)
    assert loaded.changes == walk.changes
    assert torch.equal(loaded.positions, walk.positions)
    for _ in zip(walk.steps(30), loaded.steps(30), strict=True):
        pass
    assert loaded.step == walk.step == 80
    assert torch.equal(loaded.positions, walk.positions)


@pytest.mark.parametrize("period", [1, 3])
def test_d_coupled_workers_go_on_from_a_file_bit_for_bit_too(tmp_path, period):
    landscape = ls.Landscape(_net(), "cross_entropy", _digits())
    walker = ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=10), workers=3, period=period)
    walk = ls.Walk(landscape, walker, seed=0)
    for population in walk.steps(10):
        if population.step == 5:
            walk.set(lr=(0.1, 0.05, 0.01), moving_rate=0.5)
    walk.save(tmp_path / "walk")
    loaded = ls.Walk.load(tmp_path / "walk", landscape)
    for here, there in zip(walk.steps(10), loaded.steps(10), strict=True):
        assert [point.worker for point in here.points] == ["0", "1", "2", "centre"]
        for one, other in zip(here.points, there.points, strict=True):
            assert torch.equal(one.theta, other.theta)
            assert torch.equal(one.initial, other.initial)


def test_e_part_of_a_network_at_many_checkpoints(tmp_path):
    net = _net()
    landscape = ls.Landscape(net, "cross_entropy", _digits())
    sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    (tmp_path / "ckpt").mkdir()
    expected = []
    for step in range(3):
        torch.save(net.state_dict(), tmp_path / "ckpt" / f"{step:03}.pt")
        expected.append(ls.measure(landscape.restrict("2.*"), [ls.probes.HessianSpectrum(k=5)]))
        sgd.zero_grad()
        nn.functional.cross_entropy(net(_digits()[0]), _digits()[1]).backward()
        sgd.step()

    table = ls.measure(
        landscape.restrict("2.*"),
        [ls.probes.HessianSpectrum(k=5)],
        at=sorted(glob(str(tmp_path / "ckpt" / "*.pt"))),
    )
    assert list(table["step"]) == [0, 1, 2]
    columns = [f"hessian_eigenvalue_{i}" for i in range(1, 6)]
    # The rest of the network is each checkpoint's own, not that of the module today.
    np.testing.assert_allclose(
        table[columns].to_numpy(float),
        np.concatenate([row[columns].to_numpy(float) for row in expected]),
        rtol=1e-4,
        atol=1e-5,
    )
    with pytest.raises(ls.LandscapeError, match="Did the pattern match no file"):
        ls.measure(landscape, ["Loss"], at=sorted(glob(str(tmp_path / "nothing" / "*.pt"))))
