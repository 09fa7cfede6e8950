"""Polynomial systems, families of them, and their solutions."""

from __future__ import annotations

from landscape.systems.distributions import Distribution
from landscape.systems.family import ParametricFamily, Subfamily
from landscape.systems.polynomial import PolynomialFamily, PolynomialSystem
from landscape.systems.solutions import Solutions, match
from landscape.systems.symmetry import SignGroup

__all__ = [
    "Distribution",
    "ParametricFamily",
    "PolynomialFamily",
    "PolynomialSystem",
    "SignGroup",
    "Solutions",
    "Subfamily",
    "match",
]
