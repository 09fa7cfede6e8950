"""Families as arithmetic circuits: lists of sums of products that a compiled loop, or a GPU, can walk through.

A circuit is made by evaluating a family once with symbols in place of numbers, so that products of matrices stay
products of matrices and are not multiplied out. Its Jacobian and its derivative along a direction in the space of
parameters are circuits too, made from it by the chain rule (forward mode, without the zeros) and sharing its
intermediate values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, PolynomialFamily

__all__ = ["Circuit", "Walked", "circuit_of", "traced", "vanishing", "written"]

Complex = NDArray[np.complex128]
Integers = NDArray[np.int64]

#: A circuit whose numbers differ from the family's by more than this part of their size is not one of it.
_AGREE = 1e-9
#: Circuits with more products are not made: the family's own products of matrices cost less from there on, and
#: so many symbols take seconds to write down.
_PRODUCTS = 200_000


@frozen(eq=False)
class Circuit:
    """Sums of products of two registers each.

    Registers hold constants, then z (N), p (M), the direction dp (M), then one sum after another.

    Attributes
    ----------
    constants
        Complex, shape (K,); the first one is 1.
    unknowns, parameters
        N and M.
    first
        Where the products of every sum begin in `left` and `right`; the last entry is their number.
    left, right
        Registers of the factors of every product.
    values
        Registers of F, shape (N,). Register -1 is zero.
    rows, columns, entries
        Where the Jacobian can differ from zero, and the registers of it there.
    directional
        Registers of the derivative along dp, shape (N,). -1 is zero.
    plain
        How many sums F and its Jacobian need; those after them are for the derivative along dp.
    """

    constants: Complex
    unknowns: int
    parameters: int
    first: Integers
    left: Integers
    right: Integers
    values: Integers
    rows: Integers
    columns: Integers
    entries: Integers
    directional: Integers
    plain: int

    @property
    def inputs(self) -> int:
        """Registers before the first sum."""
        return len(self.constants) + self.unknowns + 2 * self.parameters

    @property
    def sums(self) -> int:
        """How many sums there are."""
        return len(self.first) - 1

    def evaluate(self, z: Complex, p: Complex, dp: Complex) -> tuple[Complex, Complex, Complex]:
        """Return F (B, N), its Jacobian (B, N, N) and its derivative along dp (B, N), one sum after another."""
        registers = np.zeros((self.inputs + self.sums, len(z)), dtype=np.complex128)
        registers[: len(self.constants)] = self.constants[:, None]
        registers[len(self.constants) : self.inputs] = np.concatenate([z, p, dp], axis=1).T
        for number in range(self.sums):
            own = slice(self.first[number], self.first[number + 1])
            products = registers[self.left[own]] * registers[self.right[own]]
            registers[self.inputs + number] = products.sum(axis=0)
        n = self.unknowns
        jacobian = np.zeros((len(z), n, n), dtype=np.complex128)
        jacobian[:, self.rows, self.columns] = registers[self.entries].T
        return self._picked(registers, self.values), jacobian, self._picked(registers, self.directional)

    def _picked(self, registers: Complex, which: Integers) -> Complex:
        return np.where(which < 0, 0.0, registers[which].T)


class _TooLargeError(Exception):
    """The circuit has too many products."""


class _Sums:
    """What was written down so far; equal sums are written once."""

    def __init__(self) -> None:
        self.numbers = count()
        #: Registers of constants, and the numbers themselves.
        self.constants: dict[complex, int] = {}
        self.known: dict[frozenset[tuple[tuple[int, int], complex]], int] = {}
        #: Register -> its products, in the order of writing.
        self.products: dict[int, list[tuple[int, int]]] = {}
        self.written = 0
        self.one = self.constant(1.0 + 0j)

    def constant(self, value: complex) -> int:
        if value not in self.constants:
            self.constants[value] = next(self.numbers)
        return self.constants[value]

    def register(self, terms: dict[tuple[int, int], complex]) -> int:
        """Return the register of a sum, written down if it is new."""
        if len(terms) == 1:
            ((pair, factor),) = terms.items()
            if factor == 1 and pair[0] == self.one:
                return pair[1]
        key = frozenset(terms.items())
        if key in self.known:
            return self.known[key]
        products = []
        for (a, b), factor in terms.items():
            if factor == 1:
                products.append((a, b))
            elif a == self.one:
                products.append((self.constant(factor), b))
            else:
                products.append((self.constant(factor), self.register({(a, b): 1.0 + 0j})))
        self.written += len(products)
        if self.written > _PRODUCTS:
            raise _TooLargeError
        number = next(self.numbers)
        self.known[key], self.products[number] = number, products
        return number


class _Symbol:
    """A sum of products of registers with factors, as numpy's object arrays add and multiply it."""

    __slots__ = ("sums", "terms")

    def __init__(self, sums: _Sums, terms: dict[tuple[int, int], complex]) -> None:
        self.sums, self.terms = sums, terms

    @classmethod
    def of(cls, sums: _Sums, register: int) -> _Symbol:
        return cls(sums, {(sums.one, register): 1.0 + 0j})

    def _lifted(self, other: Any) -> _Symbol:
        if isinstance(other, _Symbol):
            return other
        value = complex(other)
        return _Symbol(self.sums, {(self.sums.one, self.sums.one): value} if value else {})

    def _number(self) -> complex | None:
        """Return the value of a constant, None for anything else."""
        if not self.terms:
            return 0j
        if len(self.terms) == 1 and (self.sums.one, self.sums.one) in self.terms:
            return self.terms[self.sums.one, self.sums.one]
        return None

    def __add__(self, other: Any) -> _Symbol:
        terms = dict(self.terms)
        for pair, factor in self._lifted(other).terms.items():
            total = terms.get(pair, 0.0) + factor
            if total:
                terms[pair] = total
            else:
                terms.pop(pair, None)
        return _Symbol(self.sums, terms)

    __radd__ = __add__

    def __neg__(self) -> _Symbol:
        return _Symbol(self.sums, {pair: -factor for pair, factor in self.terms.items()})

    def __sub__(self, other: Any) -> _Symbol:
        return self + (-self._lifted(other))

    def __rsub__(self, other: Any) -> _Symbol:
        return self._lifted(other) - self

    def __mul__(self, other: Any) -> _Symbol:
        other = self._lifted(other)
        for factor, rest in ((self._number(), other), (other._number(), self)):
            if factor is not None:
                terms = {pair: factor * each for pair, each in rest.terms.items()} if factor else {}
                return _Symbol(self.sums, terms)
        a, b = self.sums.register(self.terms), self.sums.register(other.terms)
        return _Symbol(self.sums, {(min(a, b), max(a, b)): 1.0 + 0j})

    __rmul__ = __mul__


def written(family: ParametricFamily, z: Sequence[Any], p: Sequence[Any]) -> list[Any]:
    """Return F(z; p) for one point of numbers or symbols.

    Families in monomials are evaluated here, others by their own ``value``.
    """
    if not isinstance(family, PolynomialFamily):
        value: Any = family.value
        return list(value(np.array([z], dtype=object), np.array([p], dtype=object).reshape(1, len(p)))[0])
    result: list[Any] = []
    for polynomial in family.monomials:
        total: Any = 0.0
        for exponents, coefficient in polynomial.items():
            product: Any = 1.0
            for variable, power in zip([*z, *p], exponents, strict=True):
                for _ in range(power):
                    product = variable * product
            total = total + product * complex(coefficient)
        result.append(total)
    return result


def traced(value: Callable[[list[Any], list[Any]], Sequence[Any]], n: int, m: int) -> Circuit | None:
    """Return the circuit of a function of lists of n unknowns and m parameters, or None where it has none.

    It is called once, with symbols that add, subtract and multiply. Where it does anything else with them, or has
    more products than is worth it, there is none.
    """
    sums = _Sums()
    z, p, dp = ([_Symbol.of(sums, next(sums.numbers)) for _ in range(size)] for size in (n, m, m))
    inputs = [next(iter(symbol.terms))[1] for symbol in (*z, *p, *dp)]
    one = _Symbol(sums, {}) + 1
    try:
        values = [_Symbol(sums, {}) + each for each in value(z, p)]
    except (_TooLargeError, TypeError, AttributeError, ValueError, NotImplementedError):
        # The function is anybody's: what it asks of a symbol that only numbers can answer ends in one of these.
        return None
    try:
        registers = [sums.register(each.terms) if each.terms else -1 for each in values]
        own = {number: {k: one} for k, number in enumerate(inputs[:n])}
        entries = [
            (row, column, sums.register(symbol.terms))
            for row, register in enumerate(registers)
            for column, symbol in sorted(_derivatives(sums, register, own).items())
            if symbol.terms
        ]
        plain_end = next(sums.numbers)
        along = {number: {0: symbol} for number, symbol in zip(inputs[n : n + m], dp, strict=True)}
        directional = []
        for register in registers:
            found = _derivatives(sums, register, along).get(0)
            directional.append(sums.register(found.terms) if found and found.terms else -1)
    except _TooLargeError:
        return None
    return _assembled(sums, inputs, n, m, registers, entries, directional, plain_end)


@lru_cache(maxsize=64)
def circuit_of(family: ParametricFamily) -> Circuit | None:
    """Return a circuit that computes a family, or None where it cannot be had.

    A family in monomials has one, and so has any other whose ``value`` does nothing but add, subtract and multiply:
    it is called with arrays of symbols. That the circuit computes what the family does is checked in numbers.
    """
    circuit = traced(partial(written, family), len(family.unknown_names), len(family.parameter_names))
    return circuit if circuit is not None and _agrees(family, circuit) else None


@frozen(eq=False)
class Walked:
    """A homotopy that is given as a circuit."""

    circuit: Circuit

    def value(self, z: Complex, p: Complex) -> Complex:
        """Return F, shape (B, N)."""
        return self.circuit.evaluate(z, p, np.zeros_like(p))[0]

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        """Return dF/dz, shape (B, N, N)."""
        return self.circuit.evaluate(z, p, np.zeros_like(p))[1]

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        """Return both."""
        return self.circuit.evaluate(z, p, np.zeros_like(p))[:2]

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        """Return the derivative of F along `dp` of shape (B, M), shape (B, N)."""
        return self.circuit.evaluate(z, p, dp)[2]


def vanishing(circuit: Circuit, zeros: Sequence[int]) -> NDArray[np.bool_]:
    """Return which equations vanish, term by term, wherever the unknowns `zeros` do, whatever all else is; shape (N,).

    Sums that cancel are not seen: where this says that an equation vanishes, it does.
    """
    needed = max(int(circuit.values.max(initial=-1)) + 1, circuit.inputs)
    # One more, for register -1.
    zero = np.zeros(needed + 1, dtype=bool)
    zero[-1] = True
    zero[len(circuit.constants) + np.asarray(zeros, dtype=np.int64)] = True
    for number in range(needed - circuit.inputs):
        own = slice(circuit.first[number], circuit.first[number + 1])
        zero[circuit.inputs + number] = (zero[circuit.left[own]] | zero[circuit.right[own]]).all()
    return zero[circuit.values]


def _derivatives(sums: _Sums, register: int, known: dict[int, dict[int, _Symbol]]) -> dict[int, _Symbol]:
    """Return the derivatives of a register by the chain rule; `known` holds those of the inputs, and grows."""
    waiting = [register]
    while waiting:
        number = waiting[-1]
        if number in known or number not in sums.products:
            waiting.pop()
            continue
        products = sums.products[number]
        missing = [
            factor for pair in products for factor in pair if factor not in known and factor in sums.products
        ]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        total: dict[int, _Symbol] = {}
        for a, b in products:
            for factor, other in ((a, b), (b, a)):
                for direction, derivative in known.get(factor, {}).items():
                    if not derivative.terms:
                        continue
                    term = derivative * _Symbol.of(sums, other)
                    total[direction] = total[direction] + term if direction in total else term
        known[number] = total
    return known.get(register, {})


def _assembled(
    sums: _Sums,
    inputs: list[int],
    n: int,
    m: int,
    values: list[int],
    entries: list[tuple[int, int, int]],
    directional: list[int],
    plain_end: int,
) -> Circuit:
    """Return the circuit of what is used, with its registers numbered anew."""
    used: set[int] = set()
    waiting = [number for number in (*values, *(entry[2] for entry in entries), *directional) if number >= 0]
    while waiting:
        number = waiting.pop()
        if number in used:
            continue
        used.add(number)
        waiting.extend(factor for pair in sums.products.get(number, ()) for factor in pair)
    # What the derivative along dp alone needs comes last.
    plain = [number for number in sums.products if number in used and number < plain_end]
    rest = [number for number in sums.products if number in used and number > plain_end]
    order = [*sums.constants.values(), *inputs, *sorted(plain), *sorted(rest)]
    place = {number: k for k, number in enumerate(order)}
    place[-1] = -1
    first, left, right = [0], [], []
    for number in order[len(sums.constants) + len(inputs) :]:
        for a, b in sums.products[number]:
            left.append(place[a])
            right.append(place[b])
        first.append(len(left))
    rows, columns, registers = (np.array([entry[k] for entry in entries], dtype=np.int64) for k in range(3))
    return Circuit(
        np.array(list(sums.constants), dtype=np.complex128),
        n,
        m,
        *(np.array(each, dtype=np.int64) for each in (first, left, right)),
        values=np.array([place[number] for number in values], dtype=np.int64),
        rows=rows,
        columns=columns,
        entries=np.array([place[number] for number in registers.tolist()], dtype=np.int64),
        directional=np.array([place[number] for number in directional], dtype=np.int64),
        plain=len(plain),
    )


def _agrees(family: ParametricFamily, circuit: Circuit) -> bool:
    """Return whether the numbers of a circuit are those of the family at two random points."""
    rng = np.random.default_rng(0)
    z, p, dp = (
        rng.normal(size=(2, size)) + 1j * rng.normal(size=(2, size))
        for size in (circuit.unknowns, circuit.parameters, circuit.parameters)
    )
    ours = circuit.evaluate(z, p, dp)
    theirs = (family.value(z, p), family.jacobian(z, p), family.parameter_derivative(z, p, dp))
    return all(
        bool((np.abs(a - b) <= _AGREE * max(1.0, float(np.abs(b).max(initial=0.0)))).all())
        for a, b in zip(ours, theirs, strict=True)
    )
