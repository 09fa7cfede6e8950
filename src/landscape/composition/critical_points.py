"""What is told of the solutions of one sample: counts, checks, and the real critical points one by one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, Solutions, match

__all__ = ["checks", "real_points", "sample_rows"]

#: Newton corrections of regular solutions end near 1e-14; this leaves room for conditioning.
_RESIDUAL = 1e-8


def checks(family: ParametricFamily, parameters: NDArray[Any], solutions: Solutions) -> list[str]:
    """Return which necessary conditions on a complete set of regular solutions do not hold.

    Each is a sentence: a set that passes may still be incomplete, one that fails certainly is not right.

    - No solution stands twice, and Newton's method stays at each.
    - For real parameters of a family with real coefficients the complex conjugate of a solution is one.
    - The sign changes of the family map solutions to solutions; where only the origin is fixed by all of
      them, the number of other solutions is even, and so is the number of other real ones. For a deep linear
      network the origin is a solution, so that N_C and N_R are odd.
    """
    failed: list[str] = []
    points = solutions.points
    n = len(points)
    lost = int(solutions.statistics.get("lost", 0))
    if lost:
        failed.append(f"{lost} solutions of a generic member did not arrive")
    if n == 0:
        return [*failed, "no solution was found"]
    largest = float(np.nanmax(solutions.residuals)) if np.isfinite(solutions.residuals).any() else 0.0
    if largest > _RESIDUAL:
        failed.append(f"a Newton correction of {largest:.1e} is left")
    partners = match(points, points)
    if (partners != np.arange(n)).any():
        failed.append("two solutions coincide")
    real_family = not np.iscomplexobj(parameters) or not np.imag(parameters).any()
    if (
        real_family
        and _has_real_coefficients(family, parameters)
        and (match(points.conj(), points) < 0).any()
    ):
        failed.append("not closed under complex conjugation")
    group = family.sign_group()
    for generator in group.generators:
        if (match(np.where(generator, -points, points), points) < 0).any():
            failed.append("not closed under the sign changes of the family")
            break
    if group.moves_everything():
        origin = ~points.any(axis=1)
        others, real_others = int((~origin).sum()), int((solutions.is_real() & ~origin).sum())
        if others % 2:
            failed.append(f"{others} solutions besides the origin, an odd number")
        if real_others % 2:
            failed.append(f"{real_others} real solutions besides the origin, an odd number")
    return failed


def _has_real_coefficients(family: ParametricFamily, parameters: NDArray[Any]) -> bool:
    """Return whether F(conj z; p) = conj F(z; p) at a point, for real p."""
    generator = np.random.default_rng(0)
    size = len(family.unknown_names)
    z = (generator.normal(size=size) + 1j * generator.normal(size=size))[None]
    p = np.asarray(parameters, dtype=np.complex128)[None]
    value = family.value(z, p)
    mirrored = family.value(z.conj(), p).conj()
    return bool(np.allclose(value, mirrored, rtol=1e-10, atol=1e-12 * np.abs(value).max(initial=1.0)))


def sample_rows(
    family: ParametricFamily,
    parameters: NDArray[Any],
    solutions: Solutions,
    bounds: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, int | float | str]:
    """Return the row of one sample in the summary.

    ``N`` unknowns, ``N_C`` isolated complex solutions found, ``N_C_torus`` of these without zero coordinate,
    ``N_R`` real ones; ``certified``, how many are proved to exist and to be different (NaN where the solver did
    not try); the bounds of the family (``CBB`` and so on) and those in `bounds`, which plugins know;
    ``completeness``; how many solutions were ``lost`` and paths ``retried``; ``checks_failed``, empty or what
    :func:`checks` found.
    """
    row: dict[str, int | float | str] = {
        "N": len(family.unknown_names),
        "N_C": len(solutions),
        "N_C_torus": int(solutions.in_torus().sum()),
        "N_R": int(solutions.is_real().sum()),
        "certified": float("nan")
        if solutions.certificates is None
        else int(np.isfinite(solutions.certificates).sum()),
        **{name: float(bound) for name, bound in family.bounds().items()},
    }
    for name, bound in bounds.items():
        row.setdefault(name, float(bound))  # a plugin replaces no column
    return row | {
        "completeness": solutions.completeness,
        "lost": int(solutions.statistics.get("lost", 0)),
        "retried": int(solutions.statistics.get("retried", 0)),
        "checks_failed": "; ".join(checks(family, parameters, solutions)),
    }


def real_points(
    family: ParametricFamily, parameters: NDArray[Any], solutions: Solutions
) -> list[dict[str, int | float | str]]:
    """Return a row for every real solution of one sample, by rising loss.

    ``loss``: the function whose critical point it is; ``index``: the number of negative eigenvalues of its
    Hessian (NaN both where the family is not a gradient); ``smallest_eigenvalue``: the smallest modulus of an
    eigenvalue, relative to the largest, near zero where the index is not safe; ``gradient_residual``: the
    largest entry of F; ``zero_pattern``: which unknowns are not zero.
    """
    real = solutions.real()
    if len(real) == 0 or np.imag(parameters).any():
        return []
    z = real.points.real
    p = np.broadcast_to(np.real(np.asarray(parameters)).astype(np.float64), (len(z), len(parameters)))
    complex_z, complex_p = z.astype(np.complex128), p.astype(np.complex128)
    residual = np.abs(family.value(complex_z, complex_p)).max(axis=1, initial=0.0)
    loss = np.full(len(z), np.nan)
    index = np.full(len(z), np.nan)
    smallest = np.full(len(z), np.nan)
    if family.has_objective:
        loss = family.objective_value(z, p)
        eigenvalues = np.linalg.eigvalsh(family.jacobian(complex_z, complex_p).real)
        index = (eigenvalues < 0).sum(axis=1)
        moduli = np.abs(eigenvalues)
        smallest = moduli.min(axis=1) / np.maximum(moduli.max(axis=1), np.finfo(float).tiny)
    return [
        {
            "loss": float(loss[k]),
            "index": int(index[k]) if family.has_objective else float("nan"),
            "smallest_eigenvalue": float(smallest[k]),
            "gradient_residual": float(residual[k]),
            "zero_pattern": family.zero_pattern(z[k] != 0),
        }
        for k in np.argsort(loss, kind="stable")
    ]
