"""Eigenvalues of the covariance of gradients by the Gram matrix."""
