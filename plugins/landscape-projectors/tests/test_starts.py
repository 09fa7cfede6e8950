import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_projectors.starts import Ranked, WeightLattice


def lattice(workers, step=100, **options):
    return ls.Experiment(
        ls.models.MLP(hidden=(2,)),
        ls.datasets.Digits(examples=60),
        ls.walkers.SGD(lr=0.0, batch_size=1, workers=workers),
        start=WeightLattice("layer2.weight", step=step, **options),
        probes=("Loss", "Score"),
        steps=1,
        seed=3,
    )


def test_each_worker_begins_at_a_pair_of_integers():
    walk = lattice(121).walk()
    layout = walk.landscape.layout
    weights = np.stack(
        [point.theta[layout.slices["layer2.weight"]].numpy() for point in walk.population().points]
    )
    assert set(np.unique(weights)) == {0.0, 1.0}
    halves = weights.reshape(121, 2, 10) @ 2.0 ** np.arange(9, -1, -1)
    expected = [(x, y) for x in range(0, 1024, 100) for y in range(0, 1024, 100)]
    np.testing.assert_array_equal(halves, expected)
    first = np.stack(
        [point.theta[layout.slices["layer1.weight"]].numpy() for point in walk.population().points]
    )
    assert (first == first[0]).all()
    assert first[0].any()
    assert WeightLattice.size(20, 100) == 121
    assert WeightLattice.size(20, 1) == 2**20


def test_a_lattice_is_shared_out_and_its_end_is_known():
    some = lattice(5, first=116, others="zero").walk()
    layout = some.landscape.layout
    last = some.population().points[4].theta
    assert last[layout.slices["layer2.weight"]].tolist() == [float(b) for b in "11111010001111101000"]
    assert not last[layout.slices["layer1.weight"]].any()
    with pytest.raises(ConfigurationError, match="make 121 networks; 6 workers from number 116 on are more"):
        lattice(6, first=116).walk()
    with pytest.raises(ConfigurationError, match="matches 'layer9'"):
        lattice(6).replace(start=WeightLattice("layer9")).walk()


@pytest.mark.parametrize("by", ["score", "loss"])
def test_walks_begin_at_the_best_and_the_worst_points(by):
    grid = lattice(40)
    walk = grid.replace(
        start=Ranked(grid, samples=3, by=by), walker=ls.walkers.SGD(lr=0.1, workers=12)
    ).walk()
    there = grid.walk()
    points = [point.theta for point in there.population().points]
    value = (
        (lambda p: float(there.landscape.score(p)))
        if by == "score"
        else (lambda p: -float(there.landscape.value(p)))
    )
    goodness = np.array([value(p) for p in points])
    found = np.array([value(point.theta) for point in walk.population().points])
    best, worst = np.sort(goodness)[::-1][:3], np.sort(goodness)[:3]
    np.testing.assert_allclose(found, [*best, *best, *worst, *worst])
    assert Ranked.groups(4) == {"0": "best", "1": "best", "2": "worst", "3": "worst"}


def test_what_cannot_be_ranked_is_refused():
    grid = lattice(4)
    walker = ls.walkers.SGD(lr=0.1, workers=12)
    with pytest.raises(ConfigurationError, match="multiple of 10"):
        grid.replace(start=Ranked(grid, samples=5), walker=walker).walk()
    with pytest.raises(ConfigurationError, match="has 4 points, fewer than 6"):
        grid.replace(start=Ranked(grid, samples=3), walker=walker).walk()
    other = grid.replace(model=ls.models.MLP(hidden=(3,)))
    with pytest.raises(ConfigurationError, match="differs from this one in its parameters"):
        other.replace(start=Ranked(lattice(12), samples=3), walker=walker).walk()
    with pytest.raises(ConfigurationError, match="is not an Experiment"):
        Ranked("runs/first")


def test_a_start_survives_a_file(tmp_path):
    grid = lattice(12)
    whole = grid.replace(start=Ranked(grid, samples=3), walker=ls.walkers.SGD(lr=0.1, workers=6))
    ls.save(whole, tmp_path / "experiment.toml")
    assert ls.load(tmp_path / "experiment.toml") == whole
