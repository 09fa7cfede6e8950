"""Optimisers that move one or many points, couplings between them, and the probes of a path."""
