"""What is told of the solutions of samples: counts, checks, real critical points, and tables of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, Solutions, match

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "checks",
    "evidence_table",
    "failed_checks",
    "index_table",
    "joined",
    "latex_of",
    "network_row",
    "pattern_table",
    "real_count_table",
    "real_points",
    "sample_rows",
    "unequal_counts",
]

#: Newton corrections of regular solutions end near 1e-14; this leaves room for conditioning.
_RESIDUAL = 1e-8
#: Rounding of an equation, relative to its terms: some hundred operations in double precision.
_ROUNDING = 100 * np.finfo(np.float64).eps
#: From the least to the most that may be known.
_COMPLETENESS = ("unknown", "heuristic", "trace test", "proved")
#: Columns of the summary that are no bounds.
_NO_BOUNDS = frozenset(
    {"sample", "seed", "N", "N_C", "N_C_torus", "N_R", "certified", "certified_torus", "certified_real"}
    | {"completeness", "lost", "retried", "singular", "checks_failed"}
)
#: Columns of a table for print, as the thesis has them; what telling families apart takes stands before them.
_PRINTED = (
    *("N", "CBB", "BKK_stable", "B_C", "N_C", "BKK", "B_C_torus", "N_C_torus", "N_R_mean", "N_R_max"),
    *("completeness", "certified", "formula", "dedieu_malajovich"),
)


def checks(family: ParametricFamily, parameters: NDArray[Any], solutions: Solutions) -> list[str]:
    """Return which necessary conditions on a complete set of regular solutions do not hold.

    Each is a sentence: a set that passes may still be incomplete, one that fails certainly is not right.

    - None is missing that a generic member has, by the solver's word, and none was left out as singular: what was may
      be isolated all the same.
    - No solution stands twice, and Newton's method stays at each: both by the solver's word and by a step of
      our own (which says nothing of multiple solutions).
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
    # Curves are counted apart where somebody asked for the isolated solutions alone.
    singular = int(solutions.statistics.get("singular", 0)) - int(solutions.statistics.get("curves", 0))
    if singular > 0:
        failed.append(
            f"{singular} points were left out because the Jacobian is singular there, multiple solutions or points of "
            f"curves"
        )
    if n == 0:
        return [*failed, "no solution was found"]
    largest = float(np.nanmax(solutions.residuals)) if np.isfinite(solutions.residuals).any() else 0.0
    if largest > _RESIDUAL:
        failed.append(f"a Newton correction of {largest:.1e} is left")
    correction = _corrections(family, parameters, solutions)
    if (correction > _RESIDUAL).any():
        failed.append(
            f"{int((correction > _RESIDUAL).sum())} points are no solutions: Newton's method moves number "
            f"{int(correction.argmax())}, counted from zero, by {float(correction.max()):.1e}"
        )
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
    certified_real = solutions.statistics.get("certified_real")
    everything = solutions.certificates is not None and np.isfinite(solutions.certificates).all()
    if (
        everything
        and certified_real is not None
        and certified_real != (found := int(solutions.is_real().sum()))
    ):
        failed.append(f"{found} solutions look real, {certified_real} were proved to be")
    return failed


def _corrections(
    family: ParametricFamily, parameters: NDArray[Any], solutions: Solutions
) -> NDArray[np.float64]:
    """Return how far Newton's method moves each point, relative to it, shape (n,).

    Zero for multiple solutions, and where rounding of the equations alone explains the step.
    """
    points = solutions.points
    n, size = points.shape
    moved = np.zeros(n)
    if size == 0:
        return moved
    p = np.asarray(parameters, dtype=np.complex128)
    rows = max(1, 4_000_000 // size**2)
    for first in range(0, n, rows):
        z = points[first : first + rows]
        value, jacobian = family.value_and_jacobian(z, np.broadcast_to(p, (len(z), len(p))))
        try:
            step = np.linalg.solve(jacobian, value[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            # Exactly singular somewhere: the shortest step, which is zero at a solution.
            step = (np.linalg.pinv(jacobian) @ value[:, :, None])[:, :, 0]
        length = np.abs(step).max(axis=1) / np.maximum(np.abs(z).max(axis=1), 1.0)
        moved[first : first + rows] = np.where(np.isfinite(length), length, np.inf)
        for k in np.flatnonzero(length > _RESIDUAL):
            # What rounding of the equations alone can do (Skeel): such a point cannot be told from the solution.
            inverse = np.abs(np.linalg.pinv(jacobian[k]))
            rounding = inverse @ (np.abs(jacobian[k]) @ np.abs(z[k])) * _ROUNDING
            if length[k] <= rounding.max() / max(float(np.abs(z[k]).max()), 1.0):
                moved[first + k] = 0.0
    moved[solutions.multiplicities > 1] = 0.0
    return moved


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
    """Return the row of one sample in the summary, what is asked for most first.

    ``N_C`` isolated complex solutions found; ``certified``, how many are proved to exist and to be different (NaN where
    the solver did not try); ``N_R`` real ones; ``completeness``, unknown where a check failed; ``checks_failed``, empty
    or what :func:`checks` found; ``N_C_torus`` solutions without zero coordinate, ``certified_torus`` and
    ``certified_real``, how many certified ones have no zero coordinate and how many are proved to be real; how many
    solutions were ``lost`` or left out as ``singular``, and paths ``retried``; ``N`` unknowns; the bounds of the family
    (``CBB`` and so on) and those in `bounds`, which plugins know.
    """
    none = float("nan")
    proved = None if solutions.certificates is None else np.isfinite(solutions.certificates)
    torus, real = solutions.in_torus(), solutions.is_real()
    failed = checks(family, parameters, solutions)
    row: dict[str, int | float | str] = {
        "N_C": len(solutions),
        "certified": none if proved is None else int(proved.sum()),
        "N_R": int(real.sum()),
        # What fails a check that every complete set passes is not known to be complete, whatever a solver says.
        "completeness": "unknown" if failed else solutions.completeness,
        "checks_failed": "; ".join(failed),
        "N_C_torus": int(torus.sum()),
        "certified_torus": none if proved is None else int((proved & torus).sum()),
        "certified_real": none
        if proved is None or "certified_real" not in solutions.statistics
        else min(int((proved & real).sum()), int(solutions.statistics["certified_real"])),
        "lost": int(solutions.statistics.get("lost", 0)),
        "singular": int(solutions.statistics.get("singular", 0)),
        "retried": int(solutions.statistics.get("retried", 0)),
        "N": len(family.unknown_names),
        **{name: float(bound) for name, bound in family.bounds().items()},
    }
    for name, bound in bounds.items():
        row.setdefault(name, float(bound))  # a plugin replaces no column
    return row


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


def unequal_counts(summary: list[dict[str, Any]]) -> None:
    """Add to the failed checks of samples that other samples of the same family have other counts.

    Generic members of a family have equally many solutions, with and without zero coordinates; what most samples
    have, and of several such the most, is taken as the rule. Unless it is proved, the completeness of the others is
    then unknown.
    """
    pairs = Counter((int(row["N_C"]), int(row["N_C_torus"])) for row in summary)
    if len(pairs) < 2:
        return
    usual, times = max(pairs.items(), key=lambda entry: (entry[1], entry[0]))
    for row in summary:
        own = (int(row["N_C"]), int(row["N_C_torus"]))
        if own != usual:
            said = (
                f"{own[0]} solutions, {own[1]} of them without zero coordinate; {times} of {len(summary)} samples have "
                f"{usual[0]} and {usual[1]}"
            )
            row["checks_failed"] = "; ".join(filter(None, [row["checks_failed"], said]))
            if row["completeness"] != "proved":
                row["completeness"] = "unknown"


def evidence_table(found: Iterable[Solutions]) -> pd.DataFrame:
    """Return how it is known that nothing is missing: a row per statement of the solver.

    ``samples``, how many it is about; ``first``, the first of them; ``evidence``.
    """
    import pandas as pd

    first: dict[str, int] = {}
    times: Counter[str] = Counter()
    for sample, solutions in enumerate(found):
        first.setdefault(solutions.evidence, sample)
        times[solutions.evidence] += 1
    rows = [{"samples": times[text], "first": first[text], "evidence": text} for text in first if text]
    return pd.DataFrame(rows, columns=["samples", "first", "evidence"])


def failed_checks(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the samples whose checks failed: sample, the study's seed, and what failed."""
    bad = summary[summary["checks_failed"] != ""]
    return bad[["sample", "seed", "checks_failed"]].reset_index(drop=True)


def network_row(family: ParametricFamily, summary: pd.DataFrame, points: pd.DataFrame) -> dict[str, Any]:
    """Return what all samples say of a family, in one row.

    What tells the family from others; ``N`` and the bounds; ``N_C`` and ``N_C_torus``, the most in any sample: a
    generic member has at least as many, and what single samples lack stands among the failed checks; ``certified``
    and ``certified_torus``, the most in any sample; ``uncertified``, in how many samples solutions are left that were
    not, there only where a solver tried; ``completeness``, the worst of all; ``formula``: whether the
    counts are those of a conjectured formula, where there is one; ``samples``; mean and largest ``N_R``;
    ``minima``: mean number of local minima; ``index``: the share of every Hessian index among the real points;
    ``lost``; ``checks_failed``: in how many samples.
    """
    row: dict[str, Any] = {**family.description(), "N": len(family.unknown_names)}
    row |= {name: float(summary[name].iloc[0]) for name in summary.columns if name not in _NO_BOUNDS}
    for name in ("N_C", "N_C_torus"):
        row[name] = int(summary[name].max())
    for name in ("certified", "certified_torus"):
        row[name] = float(summary[name].max())
    if summary["certified"].notna().any():
        row["uncertified"] = int((summary["certified"] != summary["N_C"]).sum())
    row["completeness"] = min(summary["completeness"], key=_COMPLETENESS.index)
    conjectured = family.conjectured_counts()
    if conjectured:
        differ = {name: count for name, count in conjectured.items() if row[name] != count}
        row["formula"] = "; ".join(f"gives {name} = {count}" for name, count in differ.items()) or "agrees"
    samples = len(summary)
    row |= {
        "samples": samples,
        "N_R_mean": float(summary["N_R"].mean()),
        "N_R_max": int(summary["N_R"].max()),
    }
    if "index" in points and points["index"].notna().any():
        shares = points["index"].value_counts(normalize=True).sort_index()
        row["minima"] = float((points["index"] == 0).sum()) / samples
        row["index"] = ", ".join(
            f"{index:.0f}: {100 * share:.1f} %"
            for index, share in zip(shares.index.to_numpy(), shares.to_numpy(), strict=True)
        )
    row["lost"] = int(summary["lost"].sum())
    row["checks_failed"] = int((summary["checks_failed"] != "").sum())
    # Each number beside its bounds, and what explains it behind.
    order = [*family.description(), *(name for name in _PRINTED if name in row)]
    return {name: row[name] for name in (*order, *(name for name in row if name not in order))}


def pattern_table(family: ParametricFamily, found: Iterable[Solutions]) -> pd.DataFrame:
    """Return the zero patterns of the solutions: a row per pattern, those with the most non-zero unknowns first.

    ``pattern`` as the family writes it; ``nonzero`` unknowns; ``solutions`` in a sample, the most, and
    ``solutions_min``, the least; mean and largest number of real ones, ``real_mean`` and ``real_max``.
    """
    import pandas as pd

    counted: dict[bytes, list[tuple[int, int, int]]] = {}
    samples, size = 0, len(family.unknown_names)
    for sample, solutions in enumerate(found):
        samples += 1
        nonzero = np.abs(solutions.points) > 0
        patterns, which = np.unique(nonzero, axis=0, return_inverse=True)
        real = solutions.is_real()
        for number, pattern in enumerate(patterns):
            here = which.reshape(-1) == number
            counted.setdefault(pattern.tobytes(), []).append(
                (sample, int(here.sum()), int((here & real).sum()))
            )
    rows: list[dict[str, Any]] = []
    for key, counts in counted.items():
        flags = np.frombuffer(key, dtype=bool) if size else np.zeros(0, dtype=bool)
        everywhere = len(counts) == samples
        rows.append(
            {
                "pattern": family.zero_pattern(flags),
                "nonzero": int(flags.sum()),
                "solutions": max(count for _, count, _ in counts),
                "solutions_min": min(count for _, count, _ in counts) if everywhere else 0,
                "real_mean": sum(real for _, _, real in counts) / samples,
                "real_max": max(real for _, _, real in counts),
            }
        )
    rows.sort(key=lambda row: (-row["nonzero"], row["pattern"]))
    columns = ["pattern", "nonzero", "solutions", "solutions_min", "real_mean", "real_max"]
    return pd.DataFrame(rows, columns=columns)


def real_count_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the histogram of real counts: ``N_R``, how many ``samples`` have it, and their ``share``."""
    import pandas as pd

    counts = summary["N_R"].value_counts().sort_index()
    return pd.DataFrame(
        {
            "N_R": counts.index.to_numpy(),
            "samples": counts.to_numpy(),
            "share": counts.to_numpy() / len(summary),
        }
    )


def index_table(points: pd.DataFrame) -> pd.DataFrame:
    """Return a row per Hessian index: how many real ``points`` have it, their ``share``, and their losses."""
    import pandas as pd

    columns = ["index", "points", "share", "loss_min", "loss_median", "loss_max"]
    if "index" not in points or points["index"].isna().all():
        return pd.DataFrame(columns=columns)
    rows = []
    for index in sorted(points["index"].dropna().unique()):
        losses = points["loss"][points["index"] == index]
        rows.append(
            {
                "index": int(index),
                "points": len(losses),
                "share": len(losses) / len(points),
                "loss_min": float(losses.min()),
                "loss_median": float(losses.median()),
                "loss_max": float(losses.max()),
            }
        )
    return pd.DataFrame(rows, columns=columns)


def latex_of(networks: pd.DataFrame, caption: str = "") -> str:
    """Return rows of :func:`network_row` as a table for LaTeX, which says below how each count is known."""
    from landscape.report.counts import latex

    before = [name for name in networks.columns[: list(networks.columns).index("N")] if name != "member"]
    columns = [*before, *(name for name in _PRINTED if name in networks)]
    bad, samples = int(networks["checks_failed"].sum()), int(networks["samples"].sum())
    note = f"In {bad} of {samples} samples a check failed." if bad else ""
    return latex(networks, columns, caption=caption, note=note)


def joined(
    members: Mapping[str, tuple[Mapping[str, Any], Mapping[str, pd.DataFrame]]],
) -> dict[str, pd.DataFrame]:
    """Join the tables of several studies.

    Parameters
    ----------
    members
        By name: what the member was told that others were not, and its tables.

    Returns
    -------
    dict
        ``summary``: a row per member, as :func:`network_row`; ``zero_patterns``: a row per member and pattern;
        ``failed_checks`` where any failed. Empty where no member has such tables.
    """
    import pandas as pd

    found: dict[str, list[pd.DataFrame]] = {"summary": [], "zero_patterns": [], "failed_checks": []}
    for name, (settings, tables) in members.items():
        if "network" not in tables:
            continue
        network = tables["network"]
        described = list(network.columns[: list(network.columns).index("N")])
        # What a family says of itself says what its model was told.
        told = {
            path: value for path, value in settings.items() if not (described and path.startswith("model"))
        }
        head = {"member": name} | told
        which = head | network[described].iloc[0].to_dict()
        found["summary"].append(network.assign(**head)[[*head, *network.columns]])
        for table in ("zero_patterns", "failed_checks"):
            if table in tables:
                rows = tables[table]
                found[table].append(rows.assign(**which)[[*which, *rows.columns]])
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items() if tables}
