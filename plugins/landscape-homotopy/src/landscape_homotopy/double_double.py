"""Residuals in twice the precision: numbers as unevaluated sums of two doubles, arrays of them at once.

The error-free transformations are Knuth's sum of two numbers and Dekker's product with Veltkamp's splitting (Dekker,
A floating-point technique for extending the available precision, Numer. Math. 18 (1971); Hida, Li and Bailey,
Algorithms for quad-double precision floating point arithmetic, ARITH 2001). The relative error of a sum of products
is about 1e-31 times its condition, against 1e-16.

A residual that is known to so many digits is what Newton's method needs where the Jacobian is badly conditioned; the
Jacobian itself may stay in double precision (iterative refinement: Higham, Accuracy and Stability of Numerical
Algorithms, chapter 12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily
from landscape_homotopy.circuit import Circuit, Walked, circuit_of

if TYPE_CHECKING:
    from landscape_homotopy.tracker import Homotopy

__all__ = ["Extended", "extended_precision", "residual", "two_product", "two_sum"]

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]
#: High and low part.
Double = tuple[Real, Real]

#: 2^27 + 1 splits 53 bits into two times 26.
_SPLITTER = 134217729.0


def two_sum(a: Real, b: Real) -> Double:
    """Return s and e with s + e = a + b exactly, s the rounded sum."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Real, b: Real) -> Double:
    """Return p and e with p + e = a b exactly, p the rounded product, for factors below 1e300 in modulus."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _split(a: Real) -> Double:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _added(a: Double, b: Double) -> Double:
    high, low = two_sum(a[0], b[0])
    other, rest = two_sum(a[1], b[1])
    high, low = _quick(high, low + other)
    return _quick(high, low + rest)


def _quick(high: Real, low: Real) -> Double:
    """Return the same sum with the low part below half a unit of the last place; |high| is at least |low|."""
    total = high + low
    return total, low - (total - high)


def _multiplied(a: Double, b: Double) -> Double:
    product, error = two_product(a[0], b[0])
    return _quick(product, error + (a[0] * b[1] + a[1] * b[0]))


def residual(circuit: Circuit, z: Complex, p: Complex) -> Complex:
    """Return F(z; p), shape (B, N), computed in double-double arithmetic and rounded at the end."""
    values = circuit.values
    needed = int(max(values.max(initial=-1) + 1 - circuit.inputs, 0))
    known = np.concatenate(
        [
            np.broadcast_to(circuit.constants, (len(z), len(circuit.constants))),
            z,
            p,
            np.zeros_like(p),
        ],
        axis=1,
    ).T
    zero = np.zeros(len(z))
    real: list[Double] = [(np.ascontiguousarray(row.real), zero) for row in known]
    imaginary: list[Double] = [(np.ascontiguousarray(row.imag), zero) for row in known]
    for number in range(needed):
        x: Double = (zero, zero)
        y: Double = (zero, zero)
        for k in range(circuit.first[number], circuit.first[number + 1]):
            left, right = circuit.left[k], circuit.right[k]
            a, b, c, d = real[left], imaginary[left], real[right], imaginary[right]
            x = _added(x, _multiplied(a, c))
            bd = _multiplied(b, d)
            x = _added(x, (-bd[0], -bd[1]))
            y = _added(_added(y, _multiplied(a, d)), _multiplied(b, c))
        real.append(x)
        imaginary.append(y)
    result = np.zeros((len(z), len(values)), dtype=np.complex128)
    for column, register in enumerate(values.tolist()):
        if register >= 0:
            result[:, column].real = real[register][0] + real[register][1]
            result[:, column].imag = imaginary[register][0] + imaginary[register][1]
    return result


@frozen(eq=False)
class Extended:
    """A family whose values are computed in double-double arithmetic, and its derivatives in double precision."""

    family: Homotopy
    circuit: Circuit

    def value(self, z: Complex, p: Complex) -> Complex:
        """Return F(z; p), shape (B, N)."""
        return residual(self.circuit, z, p)

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        """Return dF/dz, shape (B, N, N)."""
        return self.family.jacobian(z, p)

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        """Return both."""
        return self.value(z, p), self.family.jacobian(z, p)

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        """Return the derivative of F along `dp` of shape (B, M), shape (B, N)."""
        return self.family.parameter_derivative(z, p, dp)


def extended_precision(family: Homotopy) -> Extended | None:
    """Return a family with residuals in double-double arithmetic; None where it is not known as a circuit."""
    if isinstance(family, Extended):
        return family
    circuit: Circuit | None = None
    if isinstance(family, Walked):
        circuit = family.circuit
    elif isinstance(family, ParametricFamily):
        circuit = circuit_of(family)
    return None if circuit is None else Extended(family, circuit)
