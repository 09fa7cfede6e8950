"""Exact solving of polynomial systems with rational coefficients, by the program msolve."""
