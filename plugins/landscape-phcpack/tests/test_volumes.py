import numpy as np
import pytest

import landscape as ls
from landscape.errors import SolverError
from landscape.systems import PolynomialSystem
from landscape_phcpack import MixedVolumes, mixed_volumes
from landscape_phcpack.volumes import _of_support


@pytest.fixture(autouse=True)
def _nothing_remembered():
    _of_support.cache_clear()
    yield
    _of_support.cache_clear()


@pytest.fixture
def only(way, monkeypatch):
    """Let mixed volumes be computed one way only."""
    if way == "phc":
        monkeypatch.setenv("LANDSCAPE_PHCPY_PYTHON", "/nowhere/python3")
    else:
        monkeypatch.setenv("LANDSCAPE_PHC", "/nowhere/phc")


def cyclic(n):
    names = [f"x{k}" for k in range(n)]
    sums = [
        " + ".join("*".join(names[(i + j) % n] for j in range(size)) for i in range(n))
        for size in range(1, n)
    ]
    return PolynomialSystem([*sums, "*".join(names) + " - 1"], names)


@pytest.mark.parametrize(
    ("system", "mixed", "stable"),
    [
        (PolynomialSystem(["x*y + 2*x", "x + y - 3"], ["x", "y"]), 1, 2),
        (PolynomialSystem(["x^3 + x*y + y^2 - 1", "x^2 + y - 7"], ["x", "y"]), 4, 4),
        (PolynomialSystem(["x^5 - 1"], ["x"]), 5, 5),
        (PolynomialSystem(["x^3*y^2 - 1", "x*y^4 - 1"], ["x", "y"]), 10, 10),  # a determinant: 3*4 - 2*1
        (cyclic(5), 70, 70),
        (cyclic(6), 156, 156),
    ],
)
def test_known_volumes_are_found(only, system, mixed, stable):
    assert mixed_volumes(system) == MixedVolumes(mixed, stable)


def test_the_volume_of_a_dense_system_is_the_bound_of_bezout(phc):
    dense = PolynomialSystem(["x^2 + x*y + y^2 + x + y + 1", "x^3 + y^3 + x*y + 2"], ["x", "y"])
    assert mixed_volumes(dense) == MixedVolumes(6, 6)


def test_the_coefficients_do_not_matter(phc):
    first = PolynomialSystem(["1e-300*x^2 + y - 1e300", "x*y - 1"], ["x", "y"])
    second = PolynomialSystem(["x^2 + I*y - 1", "x*y - 1"], ["x", "y"])
    assert mixed_volumes(first) == mixed_volumes(second) == MixedVolumes(3, 3)


def test_empty_and_constant_systems_need_no_program(no_phcpack):
    assert mixed_volumes(PolynomialSystem([], [])) == MixedVolumes(1, 1)
    assert mixed_volumes(PolynomialSystem(["x", "3"], ["x", "y"])) == MixedVolumes(0, 0)


def test_without_phcpack_the_error_says_what_to_install(no_phcpack):
    with pytest.raises(SolverError, match="apt install phcpack"):
        mixed_volumes(cyclic(3))


def test_a_time_limit_is_kept(phc):
    with pytest.raises(SolverError, match="stopped at the time limit"):
        mixed_volumes(cyclic(12), time_limit=0.3)


def test_studies_have_them_as_bounds(phc, tmp_path):
    study = ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 2, 2)), ls.solvers.Monodromy(), samples=2)
    table = study.run(store=tmp_path).summary()
    assert table["BKK"].tolist() == [64, 64]
    assert table["BKK_stable"].tolist() == [81, 81]
    assert (table["N_C_torus"] <= table["BKK"]).all()
    assert (table["N_C"] <= table["BKK_stable"]).all()


def test_studies_without_phcpack_have_no_such_column(no_phcpack, tmp_path):
    study = ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 1, 1)), ls.solvers.Monodromy(), samples=1)
    assert "BKK" not in study.run(store=tmp_path).summary()


@pytest.mark.parametrize(
    ("polynomial", "mixed", "stable"), [("x^2 + 3*x + 2", 2, 2), ("x^5 + 2*x + 1", 5, 5), ("x^3 + 2*x", 2, 3)]
)
def test_the_volumes_of_one_polynomial_are_its_degree_and_its_nonzero_roots(polynomial, mixed, stable):
    assert mixed_volumes(PolynomialSystem([polynomial], ["x"])) == MixedVolumes(mixed, stable)


def test_the_volume_of_polynomials_in_one_unknown_each_is_the_product_of_degrees(only):
    system = PolynomialSystem(["x^2 + 3*x + 2", "y^3 + y + 1", "z^2 + z + 5"], ["x", "y", "z"])
    assert mixed_volumes(system) == MixedVolumes(12, 12)


def test_in_the_plane_it_is_the_mixed_area(phc):
    generator = np.random.default_rng(0)
    for _ in range(15):
        supports = [
            sorted({tuple(map(int, m)) for m in generator.integers(0, 5, (generator.integers(3, 6), 2))})
            for _ in range(2)
        ]
        if min(map(len, supports)) < 2:
            continue
        system = PolynomialSystem.from_monomials([dict.fromkeys(s, 1.0) for s in supports], ["x", "y"])
        sums = [(a + c, b + d) for a, b in supports[0] for c, d in supports[1]]
        assert mixed_volumes(system).mixed == round(_area(sums) - _area(supports[0]) - _area(supports[1]))


def _area(points):
    """Return the area of the convex hull, by the shoelace formula along the monotone chain."""

    def chain(ordered):
        kept = []
        for p in ordered:
            while len(kept) > 1 and _turn(*kept[-2:], p) <= 0:
                kept.pop()
            kept.append(p)
        return kept[:-1]

    ordered = sorted(set(points))
    hull = chain(ordered) + chain(ordered[::-1])
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(hull, hull[1:] + hull[:1], strict=True)) / 2


def _turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
