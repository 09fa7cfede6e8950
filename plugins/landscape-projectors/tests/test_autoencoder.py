import numpy as np
import pytest
import torch
from sklearn import decomposition

from landscape.errors import ConfigurationError
from landscape.testing import check_projector
from landscape_projectors.autoencoder import Autoencoder, loss_and_gradients


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def spiral():
    """Eighty snapshots on a curved strip in 50 dimensions that no plane holds."""
    generator = np.random.default_rng(5)
    frame = np.linalg.qr(generator.normal(size=(50, 4)))[0]
    turn = np.linspace(0, 4, 80)
    strip = np.stack([turn * np.cos(turn), turn * np.sin(turn), 0.5 * turn**2, generator.normal(size=80)], 1)
    return strip @ frame.T + 1.0


def test_gradients_are_those_of_automatic_differentiation():
    generator = seeded()
    shapes = [(2, 4), (5, 4), (5,), (2, 5), (2,), (4, 2), (5, 2), (5,), (4, 5), (4,)]
    parts = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    ]
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    a, v, v0, u, u0, b, r, r0, s, s0 = parts
    z = x @ a.T + torch.tanh(x @ v.T + v0) @ u.T + u0
    restored = z @ b.T + torch.tanh(z @ r.T + r0) @ s.T + s0
    loss = (x - restored).square().sum() / x.square().sum()
    loss.backward()
    found, gradients = loss_and_gradients(x.numpy(), [part.detach().numpy() for part in parts])
    assert found == pytest.approx(loss.item(), rel=1e-12)
    for part, gradient in zip(parts, gradients, strict=True):
        np.testing.assert_allclose(gradient, part.grad.numpy(), rtol=1e-10, atol=1e-13)


def test_it_starts_at_principal_components_and_only_improves(span_of, spiral):
    plane = decomposition.PCA(2).fit(spiral).explained_variance_ratio_.sum()
    shares = [
        Autoencoder(iterations=steps, kept=0.999999).fit(span_of(spiral), seeded()).quality
        for steps in (1, 10, 100, 300)
    ]
    assert shares[0]["explained_variance_pca"] == pytest.approx(plane, rel=1e-9)
    explained = [plane, *(quality["explained_variance"] for quality in shares)]
    assert explained == sorted(explained)
    assert plane < 0.95
    assert explained[-1] > 0.99


def test_with_as_many_codes_as_dimensions_the_way_back_is_exact(span_of):
    points = np.random.default_rng(0).normal(size=(9, 30)) @ np.diag([1.0] * 3 + [0.0] * 27)
    span = span_of(points)
    projection = Autoencoder(dimensions=3, kept=0.999999).fit(span, seeded())
    np.testing.assert_allclose(projection.inverse(projection.coordinates), span.coordinates, atol=1e-8)


def test_a_linear_encoder_keeps_straight_lines(span_of, spiral):
    span = span_of(spiral)
    projection = Autoencoder(encoder="linear", kept=0.999999).fit(span, seeded())
    a, b = span.coordinates[3], span.coordinates[70]
    t = np.linspace(-1, 2, 7)[:, None]
    ends = projection.transform(np.stack([a, b]))
    expected = (1 - t) * ends[0] + t * ends[1]
    np.testing.assert_allclose(projection.transform((1 - t) * a + t * b), expected, atol=1e-9)
    quality = projection.quality
    assert quality["explained_variance"] > quality["explained_variance_pca"] + 0.05


def test_the_same_seed_gives_the_same_bits_and_another_a_similar_map(span_of, spiral):
    one, same, other = (Autoencoder().fit(span_of(spiral), seeded(seed)) for seed in (0, 0, 1))
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(array, same.to_arrays()[name])
    assert not np.array_equal(one.coordinates, other.coordinates)
    from scipy.spatial import procrustes

    assert procrustes(one.coordinates, other.coordinates)[2] < 0.1


def test_what_cannot_be_fitted_is_refused(span_of):
    line = np.outer([0.0, 1.0, 2.0, 4.0], np.ones(5))
    with pytest.raises(ConfigurationError, match="the 4 snapshots span only 1 dimension about"):
        Autoencoder().fit(span_of(line), seeded())
    with pytest.raises(ConfigurationError, match="encoder='folded'"):
        Autoencoder(encoder="folded")
    with pytest.raises(ConfigurationError, match=r"kept=1\.0"):
        Autoencoder(kept=1.0)


def test_keeps_the_rules_of_projectors():
    check_projector(Autoencoder(iterations=40))
    check_projector(Autoencoder(dimensions=4, hidden=8, encoder="linear", iterations=40))
