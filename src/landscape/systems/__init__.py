"""Polynomial systems, families of them, and their solutions."""

from __future__ import annotations

from landscape.systems.distributions import Distribution
from landscape.systems.family import ParametricFamily, Subfamily
from landscape.systems.formats import SolutionList, phc_lists, read_solutions, read_system, write_solutions
from landscape.systems.polynomial import PolynomialFamily, PolynomialSystem
from landscape.systems.refine import Refined, distinct, refine
from landscape.systems.solutions import Agreement, Solutions, match
from landscape.systems.symmetry import SignGroup

__all__ = [
    "Agreement",
    "Distribution",
    "ParametricFamily",
    "PolynomialFamily",
    "PolynomialSystem",
    "Refined",
    "SignGroup",
    "SolutionList",
    "Solutions",
    "Subfamily",
    "distinct",
    "match",
    "phc_lists",
    "read_solutions",
    "read_system",
    "refine",
    "write_solutions",
]
