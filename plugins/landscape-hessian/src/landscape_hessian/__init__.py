"""Hessian spectra by Lanczos with error bounds, and overlaps with the gradient."""
