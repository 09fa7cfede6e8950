"""Spectra, traces and densities of Hessians with error bounds or standard errors, and overlaps with the gradient."""
