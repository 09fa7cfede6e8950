import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_projectors.figures import figures
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


def test_walks_are_drawn_in_the_plane_of_the_points_they_were_chosen_from(tmp_path):
    grid = lattice(60)  # of all 121 two components would have equal variance
    run = grid.replace(
        start=Ranked(grid, samples=2),
        walker=ls.walkers.SGD(lr=0.5, batch_size=20, workers=4),
        projectors=(ls.projectors.Part(ls.projectors.PCA(), "layer2.weight"),),
        steps=6,
        snapshots=3,
    ).run(tmp_path)
    (figure,) = [figure for figure in figures(run) if figure.name == "map-common"]
    # The truth: singular vectors of the 20 weights of the 121 points.
    landscape, points, scores = Ranked(grid, samples=2).points()
    place = landscape.layout.slices["layer2.weight"]
    of_points = points[:, place].double().numpy()
    _, _, right = np.linalg.svd(of_points - of_points.mean(axis=0), full_matrices=False)
    walks = run.span("layer2.weight").weights().double().numpy()
    expected = np.abs((walks - of_points.mean(axis=0)) @ right[:2].T)
    ax = figure.figure.axes[0]
    stars = {tuple(np.abs(line.get_xydata()[0])) for line in ax.get_lines() if line.get_marker() == "*"}
    last = expected[run.span().rows["step"].to_numpy() == 6]
    np.testing.assert_allclose(sorted(stars), sorted(map(tuple, last)), atol=1e-6)
    (mesh,) = [artist for artist in ax.collections if artist.get_array() is not None]
    assert mesh.get_clim() == pytest.approx((scores.min(), scores.max()))
    # Two walks from the best points, two from the worst, each kind in one colour.
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["best (2)", "worst (2)", "start", "end"]
    drawn = [line.get_color() for line in ax.get_lines() if line.get_marker() == "*"]
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]
