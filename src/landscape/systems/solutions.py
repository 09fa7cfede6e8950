"""What a solver found, and how far it is to be trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError

from landscape.errors import PolynomialError

__all__ = ["Agreement", "Completeness", "Solutions", "match"]

Completeness = Literal["proved", "trace test", "heuristic", "unknown"]
_COMPLETENESS = ("proved", "trace test", "heuristic", "unknown")
#: Coordinates of points that are compared at once.
_COMPARED = 4_000_000

#: Errors of points are at most this many times their residuals, and at least this part of the largest coordinate.
_KNOWN, _ROUNDING = 1e3, 1e-12


def _distances(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the largest coordinate difference of points (n, N) and their partners, relative to their size."""
    difference = np.abs(a - b).max(axis=1, initial=0.0)
    size = np.maximum(np.abs(a).max(axis=1, initial=0.0), np.abs(b).max(axis=1, initial=0.0))
    return np.asarray(difference / np.maximum(size, 1.0))


def match(
    points: NDArray[np.complex128], others: NDArray[np.complex128], tolerance: float = 1e-6
) -> NDArray[np.int64]:
    """Return for every point the index of the nearest of `others` within `tolerance`, or -1.

    The distance is the largest coordinate difference, relative to the largest coordinate where that exceeds
    one. Shapes are (n, N) and (m, N); the result has shape (n,).
    """
    result = np.full(len(points), -1, dtype=np.int64)
    n = points.shape[1]
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    columns = np.flatnonzero(np.isfinite(others).all(axis=1))
    if rows.size == 0 or columns.size == 0:
        return result
    # Sorted along a direction whose moduli sum to one, so that neighbours stay neighbours: not all pairs are compared.
    direction = np.exp(1j * np.arange(1, n + 1) ** 2) / max(n, 1)
    along = (others[columns] @ direction).real
    order = np.argsort(along, kind="stable")
    columns, along = columns[order], along[order]
    here = (points[rows] @ direction).real
    size = np.maximum(np.abs(points[rows]).max(axis=1, initial=0.0), 1.0)
    # The larger one of two partners is at most so much larger; and both projections are rounded.
    reach = size * (tolerance / (1 - tolerance) + 8 * n * np.finfo(float).eps) if tolerance < 0.5 else np.inf
    first, last = np.searchsorted(along, here - reach), np.searchsorted(along, here + reach, side="right")
    ends = np.cumsum(last - first)
    begin = 0
    while begin < len(rows):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _COMPARED // max(n, 1), side="right")))
        number = (last - first)[begin:end]
        row = np.repeat(np.arange(begin, end), number)
        column = columns[np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number) + first[row]]
        distances = _distances(points[rows[row]], others[column])
        # By row, the nearest first, and of equally near ones the first.
        near = np.lexsort((column, distances, row))
        near = near[np.flatnonzero(np.diff(row[near], prepend=-1))]
        near = near[distances[near] <= tolerance]
        result[rows[row[near]]] = column[near]
        begin = end
    return result


def _pairs(
    points: NDArray[np.complex128], others: NDArray[np.complex128], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair points (n, N) with `others` (m, N) one to one; return the indices of the pairs on both sides."""
    free, free_others = np.arange(len(points)), np.arange(len(others))
    here: list[NDArray[np.int64]] = []
    there: list[NDArray[np.int64]] = []
    while free.size and free_others.size:
        partners = match(points[free], others[free_others], tolerance)
        # The nearest among the points that want the same partner gets it; the rest look again.
        back = match(others[free_others], points[free], tolerance)
        mutual = (partners >= 0) & (back[partners] == np.arange(len(free)))
        if not mutual.any():
            break
        here.append(free[mutual])
        there.append(free_others[partners[mutual]])
        free_others = np.delete(free_others, partners[mutual])
        free = free[~mutual]
    none = [np.zeros(0, dtype=np.int64)]
    return np.concatenate(here or none), np.concatenate(there or none)


@frozen(eq=False)
class Agreement:
    """How far two lists of solutions agree: what :meth:`Solutions.matches` returns.

    True when they hold the same points.

    Attributes
    ----------
    common
        Number of points that both have.
    missing
        Points that only the other list has, shape (k, N).
    surplus
        Points that only this list has, shape (l, N).
    largest_difference
        Between partners, relative to the size of the points.
    """

    common: int
    missing: NDArray[np.complex128]
    surplus: NDArray[np.complex128]
    largest_difference: float

    def __bool__(self) -> bool:
        return len(self.missing) == 0 and len(self.surplus) == 0

    def __str__(self) -> str:
        if self:
            return f"the same {self.common} solutions"
        return f"{self.common} in common, {len(self.missing)} missing, {len(self.surplus)} more"


def _points(value: ArrayLike) -> NDArray[np.complex128]:
    points = np.ascontiguousarray(value, dtype=np.complex128)
    if points.ndim != 2:
        raise PolynomialError(f"points must have shape (n, N), got {points.shape}.")
    return points


def _known(instance: object, attribute: object, value: str) -> None:
    if value not in _COMPLETENESS:
        raise PolynomialError(f"completeness is one of {', '.join(_COMPLETENESS)}; got {value!r}.")


@frozen(eq=False, repr=False)
class Solutions:
    """The isolated complex solutions of one polynomial system.

    Attributes
    ----------
    points
        Shape (n, N), complex128. A coordinate that is zero for structural reasons is exactly zero.
    residuals
        Size of the last Newton correction relative to the point (the distance to the true solution is about
        this, at best the rounding error), shape (n,).
    multiplicities
        Shape (n,); one for a regular solution.
    certificates
        Radii of boxes in which exactly one true solution was proved to lie, shape (n,), or None where nothing
        was proved.
    completeness
        How it is known that no solution is missing: ``"proved"``, ``"trace test"``, ``"heuristic"`` or
        ``"unknown"``; `evidence` says what was done.
    evidence
        One sentence or a few.
    parameters
        The parameters of the system in its family, shape (M,), or None.
    statistics
        Counts of what happened: paths tracked, retried, lost, jumped and so on.
    """

    points: NDArray[np.complex128] = field(converter=_points)
    residuals: NDArray[np.float64] = field()
    multiplicities: NDArray[np.int64] = field()
    certificates: NDArray[np.float64] | None = field(default=None, kw_only=True)
    completeness: Completeness = field(default="unknown", kw_only=True, validator=_known)
    evidence: str = field(default="", kw_only=True)
    parameters: NDArray[Any] | None = field(default=None, kw_only=True)
    statistics: Mapping[str, int] = field(default=Factory(dict), kw_only=True)

    @residuals.default
    def _(self) -> NDArray[np.float64]:
        return np.full(len(self.points), np.nan)

    @multiplicities.default
    def _(self) -> NDArray[np.int64]:
        return np.ones(len(self.points), dtype=np.int64)

    def __attrs_post_init__(self) -> None:
        n = len(self.points)
        for name, array in (
            ("residuals", self.residuals),
            ("multiplicities", self.multiplicities),
            ("certificates", self.certificates),
        ):
            if array is not None and array.shape != (n,):
                raise PolynomialError(f"{name} must have shape ({n},), got {array.shape}.")

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        lost = self.statistics.get("lost", 0)
        return (
            f"Solutions({len(self)} in {self.points.shape[1]} unknowns, {len(self.real())} real, "
            f"{len(self.torus())} without zero coordinate; completeness: {self.completeness}"
            + (f"; {lost} lost" if lost else "")
            + ")"
        )

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Solutions:
        """Return the solutions that a mask or an index array names, everything else unchanged."""
        return Solutions(
            self.points[which],
            self.residuals[which],
            self.multiplicities[which],
            certificates=None if self.certificates is None else self.certificates[which],
            completeness=self.completeness,
            evidence=self.evidence,
            parameters=self.parameters,
            statistics=self.statistics,
        )

    def is_real(self, tolerance: float = 1e-8) -> NDArray[np.bool_]:
        """Return which points are real, shape (n,).

        Where a solution has a certificate, that decides: it is real where its box reaches the complex conjugate of
        the point, since the box holds one solution, and of real equations the conjugate of one is another.
        Elsewhere every coordinate is compared with its own modulus, and with the error to which it is known.

        Parameters
        ----------
        tolerance
            Largest imaginary part of a coordinate relative to its modulus, for points without certificate. An
            imaginary part at the level of the error is no evidence either: below 1e-12 of the largest coordinate,
            or a thousand times the residual. Where no residual is known, the error is taken to be `tolerance`
            relative to the largest coordinate, and for multiple solutions relative to one where that is more; it is
            never taken to be more than that. Regular solutions are known to about 1e-14, so that 1e-8 is far from
            both rounding and, for generic real parameters, from pairs of complex conjugates.
        """
        modulus, imaginary = np.abs(self.points), np.abs(self.points.imag)
        size = modulus.max(axis=1, initial=0.0)
        coarse = tolerance * np.maximum(size, 1.0)
        error = np.maximum(_KNOWN * self.residuals * np.maximum(size, 1.0), _ROUNDING * size)
        error = np.where(self.multiplicities == 1, np.fmin(error, coarse), coarse)
        error = np.where(np.isnan(self.residuals), tolerance * size, error)
        real = (imaginary <= np.maximum(tolerance * modulus, error[:, None])).all(axis=1)
        if self.certificates is None:
            return np.asarray(real)
        proved = np.isfinite(self.certificates)
        reached = 2 * imaginary.max(axis=1, initial=0.0) <= self.certificates
        return np.asarray(np.where(proved, reached, real))

    def real(self, tolerance: float = 1e-8) -> Solutions:
        """Return the real solutions (see :meth:`is_real`); imaginary rounding is removed."""
        real = self.select(self.is_real(tolerance))
        real.points.imag = 0.0
        return real

    def in_torus(self, tolerance: float = 0.0) -> NDArray[np.bool_]:
        """Return which points have no coordinate of modulus <= `tolerance`, shape (n,).

        The default counts exact zeros only: solvers that know the zero patterns write exact zeros.
        """
        return np.asarray((np.abs(self.points) > tolerance).all(axis=1))

    def torus(self, tolerance: float = 0.0) -> Solutions:
        """Return the solutions without zero coordinate (see :meth:`in_torus`)."""
        return self.select(self.in_torus(tolerance))

    def matches(self, other: Solutions, tolerance: float = 1e-6) -> Agreement:
        """Pair the points of both, in whatever order, and return what is missing on either side.

        Parameters
        ----------
        other
            Solutions of the same system, by another solver say.
        tolerance
            Points are the same when their largest coordinate difference, relative to their largest coordinate
            where that exceeds one, is at most this. Every point has one partner; the nearest pairs come first.

        Returns
        -------
        Agreement
            True when nothing is missing: ``assert ours.matches(theirs)``.

        Raises
        ------
        PolynomialError
            When the points have different numbers of coordinates.
        """
        if self.points.shape[1] != other.points.shape[1]:
            raise PolynomialError(
                f"points with {self.points.shape[1]} and {other.points.shape[1]} coordinates cannot be compared; "
                f"they are of different systems."
            )
        here, there = _pairs(self.points, other.points, tolerance)
        largest = 0.0
        for first in range(0, len(here), 1024):
            chunk = slice(first, first + 1024)
            distances = np.abs(self.points[here[chunk]] - other.points[there[chunk]]).max(axis=1, initial=0.0)
            size = np.maximum(np.abs(other.points[there[chunk]]).max(axis=1, initial=0.0), 1.0)
            largest = max(largest, float((distances / size).max(initial=0.0)))
        only_here, only_there = np.ones(len(self), dtype=bool), np.ones(len(other), dtype=bool)
        only_here[here] = only_there[there] = False
        return Agreement(len(here), other.points[only_there], self.points[only_here], largest)

    # -- files --------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a safetensors file, which :meth:`load` reads.

        Raises
        ------
        PolynomialError
            When the file cannot be written.
        """
        from safetensors.numpy import save_file

        arrays, metadata = self.to_arrays()
        try:
            # Written beside it first: a full disk leaves no half of a file under the name.
            partial = f"{os.fspath(path)}.partial"
            save_file(arrays, partial, {"solutions": json.dumps(metadata)})
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            raise PolynomialError(f"solutions cannot be written to {os.fspath(path)}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Solutions:
        """Return what :meth:`save` wrote.

        Raises
        ------
        PolynomialError
            When the file cannot be read, or holds something else.
        """
        from safetensors import safe_open

        try:
            with safe_open(os.fspath(path), framework="np") as file:
                metadata = json.loads((file.metadata() or {})["solutions"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise PolynomialError(
                f"{os.fspath(path)} does not hold solutions that Solutions.save wrote: {error!r}"
            ) from error
        return cls.from_arrays(arrays, metadata)

    # -- for the store ------------------------------------------------------------------------------------

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return real arrays by name, and JSON values: together everything there is."""
        arrays: dict[str, NDArray[Any]] = {
            "points_real": np.ascontiguousarray(self.points.real),
            "points_imag": np.ascontiguousarray(self.points.imag),
            "residuals": self.residuals,
            "multiplicities": self.multiplicities,
        }
        if self.certificates is not None:
            arrays["certificates"] = self.certificates
        if self.parameters is not None:
            arrays["parameters_real"] = np.ascontiguousarray(self.parameters.real, dtype=np.float64)
            if np.iscomplexobj(self.parameters):
                arrays["parameters_imag"] = np.ascontiguousarray(self.parameters.imag)
        metadata = {
            "completeness": self.completeness,
            "evidence": self.evidence,
            "statistics": {name: int(count) for name, count in self.statistics.items()},
        }
        return arrays, metadata

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> Solutions:
        """Return what :meth:`to_arrays` wrote.

        Raises
        ------
        PolynomialError
            When something is missing.
        """
        try:
            parameters = arrays.get("parameters_real")
            if parameters is not None and "parameters_imag" in arrays:
                parameters = parameters + 1j * arrays["parameters_imag"]
            return cls(
                arrays["points_real"] + 1j * arrays["points_imag"],
                np.asarray(arrays["residuals"], dtype=np.float64),
                np.asarray(arrays["multiplicities"], dtype=np.int64),
                certificates=arrays.get("certificates"),
                completeness=metadata["completeness"],
                evidence=metadata["evidence"],
                parameters=parameters,
                statistics=dict(metadata["statistics"]),
            )
        except KeyError as error:
            raise PolynomialError(f"stored solutions lack {error}; write them with to_arrays.") from error
