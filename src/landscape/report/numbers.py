"""Numbers and names as people read them."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from markupsafe import Markup

from landscape.report.columns import MATRICES, prefix_of, where

__all__ = ["duration", "heading", "name_of", "number", "subscript", "with_error"]

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Groups digits and does not break.
_THIN = "\N{NARROW NO-BREAK SPACE}"

_NAMES = {
    "loss": "Loss (training)",
    "loss_test": "Loss (test)",
    "score": "Score (training)",
    "score_test": "Score (test)",
    "gradient_norm": "Gradient norm ‖∇L‖",
    "weight_norm": "Weight norm ‖θ‖",
    "cosine_with_start": "Cosine with the start",
    "distance_from_start": "Distance from the start",
    "distance_mean": "Distance between points, mean",
    "distance_to_centre_mean": "Distance to the centre, mean",
    "covariance_trace": "Trace of the gradient covariance",
    "covariance_stable_rank": "Stable rank of the gradient covariance",
    "covariance_hessian_overlap": "Overlap of covariance and Hessian",
    "covariance_hessian_slope": "Slope of noise over curvature, log-log",
    "gradient_noise_scale": "Gradient noise scale (examples)",
    "gradient_noise_trace": "Variance of an example's gradient",
    "gradient_noise_scale_hessian": "Noise scale with the Hessian (examples)",
    "gradient_noise_trace_hessian": "Trace of Hessian times noise",
    "spherical_barrier_mean": "Norm-corrected barrier, mean",
    "spherical_barrier_max": "Norm-corrected barrier, max",
    "hessian_products": "Hessian-vector products",
    "positive_eigenvalue_share": "Share of positive Hessian eigenvalues",
}
_FAMILIES = {
    "hessian_eigenvalue": "Hessian eigenvalue λ",
    "covariance_eigenvalue": "Covariance eigenvalue κ",
    "gradient_hessian_overlap": "Gradient in the first eigenvectors, i = ",
    "batch_gradient_hessian_overlap": "Mini-batch gradients in the first eigenvectors, i = ",
    "covariance_along_hessian": "Gradient noise along the Hessian's eigenvector v",
    "covariance_hessian_ratio": "Gradient noise over curvature along v",
    "covariance_hessian_cosine": "Cosine of v with the covariance times v, i = ",
    "covariance_in_hessian": "Gradient noise in the first eigenvectors, i = ",
}
#: Quantities of a matrix of the curvature: how their columns go on, and what they are called.
_OF_MATRICES = (
    (r"density_zero", "Share of eigenvalues near 0, {0}"),
    (r"density_zero_(low|high)", "Share of eigenvalues near 0, {0}: {1} end"),
    (r"density_negative", "Share of negative eigenvalues, {0}"),
    (r"density_negative_(low|high)", "Share of negative eigenvalues, {0}: {1} end"),
    (r"density_trace", "Trace of the {0}, from its density"),
    (r"products", "Products with the {0}"),
    (r"(.+)_products", "Products with the {0} ({1})"),
    (r"trace", "Trace of the {0}"),
    (r"trace_(.+)", "Trace of the {0}, {1}"),
)


def subscript(digits: str) -> str:
    """Return digits as an index."""
    return digits.translate(_SUBSCRIPTS)


def name_of(column: str) -> str:
    """Return what a column of the metrics is called in print."""
    prefix = prefix_of(column)
    if prefix:
        return f"{name_of(column.removeprefix(prefix)).removesuffix(' (training)')} ({where(prefix)})"
    if column in _NAMES:
        return _NAMES[column]
    found = re.fullmatch(r"(.+)_(\d+)", column)
    if found and found[1] in _FAMILIES:
        family = _FAMILIES[found[1]]
        return family + (found[2] if family.endswith(" ") else subscript(found[2]))
    matrix = re.fullmatch(rf"({'|'.join(MATRICES)})_(.+)", column)
    if matrix:
        name, rest = MATRICES[matrix[1]], matrix[2]
        for pattern, words in _OF_MATRICES:
            known = re.fullmatch(pattern, rest)
            if known:
                return words.format(name, *known.groups())
    if column.endswith("_test"):
        return f"{name_of(column.removesuffix('_test'))} (test)"
    text = column.replace("_", " ")
    return text[:1].upper() + text[1:]


#: Headings of counts of solutions, as in the LaTeX of the same table, in HTML.
_HEADINGS = {
    "N_C": Markup("N<sub>ℂ</sub>"),
    "N_C_torus": Markup("N<sub>ℂ*</sub>"),
    "N_R": Markup("N<sub>ℝ</sub>"),
    "N_R_mean": Markup("mean N<sub>ℝ</sub>"),
    "N_R_max": Markup("max N<sub>ℝ</sub>"),
    "B_C": Markup("B<sub>ℂ</sub>"),
    "B_C_torus": Markup("B<sub>ℂ*</sub>"),
    "BKK_stable": "BKK stable",
    "dedieu_malajovich": "D–M",
}


def heading(column: str) -> str:
    """Return what a column of a table is headed with: its name in print, with spaces where lines may break."""
    if column in _HEADINGS:
        return _HEADINGS[column]
    spaced, name = column.replace("_", " "), name_of(column)
    return spaced if name.lower() == spaced.lower() else name


def number(value: Any, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, powers of ten where it is very large or small."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        text = f"{abs(value):,}".replace(",", _THIN) if abs(value) >= 10_000 else str(abs(value))
        return f"−{text}" if value < 0 else text
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    text = f"{value:.{digits - 1}e}"
    mantissa, exponent = text.split("e")
    if -4 <= int(exponent) < digits + 2:
        text = f"{value:.{max(0, digits - 1 - int(exponent))}f}"
        return text.replace("-", "−")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def with_error(value: float, error: float) -> str:
    """Return ``value ± error``, the error with two significant digits and the value to the same place.

    An error too small to show in five digits of the value is left out.
    """
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return number(value)
    if error < 5e-5 * abs(value):
        return number(value, 5)
    place = 1 - math.floor(math.log10(error))
    if 0 <= place <= 6 and abs(value) < 1e6:
        return f"{value:.{place}f} ± {error:.{place}f}".replace("-", "−")
    # Far from one: enough digits that the error shows in the value.
    digits = 2 if value == 0 else max(2, place + math.floor(math.log10(abs(value))) + 1)
    return f"{number(value, digits)} ± {number(error, 2)}"


def duration(start: str | None, end: str | None) -> str | None:
    """Return the time between two ISO times in words, or None if one is missing."""
    if not start or not end:
        return None
    seconds = int((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
