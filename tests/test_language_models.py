"""Every probe of curvature and gradient noise on a transformer, against its dense float64 matrices.

Two causal blocks with scaled-dot-product attention over tokens. Once in the manner of transformer libraries, with
dictionaries as batches and the loss inside the model, and once as a module of tokens with a loss of its output, for
which inputs and outputs of layers can stand for gradients.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape as ls
from landscape.objective.gram import example_gram

SEQUENCES, TOKENS, WIDTH = 9, 7, 6


class Transformer(nn.Module):
    """Gives logits, shape (B, tokens, T)."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(TOKENS, WIDTH), nn.Embedding(5, WIDTH)
        self.joint = nn.ModuleList([nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(2)])
        self.out = nn.Linear(WIDTH, TOKENS)

    def forward(self, input_ids):
        h = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        for joint, norm in zip(self.joint, self.norms, strict=True):
            q, k, v = joint(norm(h)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            h = h + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.out(F.gelu(h)).transpose(1, 2)


class WithLoss(nn.Module):
    """Takes keywords, gives its loss."""

    def __init__(self, transformer):
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids, labels):
        return {"loss": F.cross_entropy(self.transformer(input_ids), labels)}


class Truth(NamedTuple):
    """Dense float64 matrices."""

    hessian: Tensor
    rows: Tensor
    values: np.ndarray
    vectors: np.ndarray


@cache
def made(style):
    """Return the landscape, and what it is to be like."""
    torch.manual_seed(0)
    module = Transformer().double()
    tokens = torch.randint(TOKENS, (SEQUENCES, 6))
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    if style == "inside":
        batches = [
            {"input_ids": inputs[part], "labels": labels[part]}
            for part in (slice(0, 4), slice(4, 6), slice(6, 9))  # of different sizes
        ]
        loss_inside = ls.BatchLoss(lambda model, batch: model(**batch)["loss"])
        landscape = ls.Landscape(WithLoss(module), loss_inside, batches)
    else:
        landscape = ls.Landscape(module, "cross_entropy", (inputs, labels))
    names = [name.removeprefix("transformer.") for name in landscape.layout.names]
    theta = landscape.initial()

    def loss(theta, part=slice(None)):
        weights = dict(zip(names, landscape.layout.split(theta).values(), strict=True))
        with sdpa_kernel(SDPBackend.MATH):
            return F.cross_entropy(torch.func.functional_call(module, weights, (inputs[part],)), labels[part])

    # Somewhat downhill, where the gradient is not mere chance.
    for _ in range(10):
        theta = theta - 0.3 * torch.func.grad(loss)(theta)
    hessian = torch.autograd.functional.hessian(loss, theta)
    rows = torch.stack([torch.func.grad(loss)(theta, slice(i, i + 1)) for i in range(SEQUENCES)])
    values, vectors = np.linalg.eigh(hessian.numpy())
    return landscape, theta, Truth(hessian, rows, values[::-1].copy(), vectors[:, ::-1].copy())


@pytest.fixture(params=["inside", "outside"])
def point(request):
    landscape, theta, _ = made(request.param)
    return ls.Point(landscape, theta)


@pytest.fixture
def truth(point):
    return made("inside" if isinstance(point.landscape.module, WithLoss) else "outside")[2]


def covariance(rows, centred=True):
    rows = rows - rows.mean(dim=0) if centred else rows
    return (rows.T @ rows / len(rows)).numpy()


def test_both_ends_of_the_spectrum_and_the_number_of_its_copies(point, truth):
    found = point.measure("HessianSpectrum", k=4, bottom=3, tolerance=1e-6)
    for ends, exact in (("", truth.values[:4]), ("_bottom", truth.values[::-1][:3])):
        for i, value in enumerate(exact, start=1):
            name = f"hessian_eigenvalue{ends}_{i}"
            assert abs(found.scalars[name] - value) <= found.errors[name].value
            assert found.errors[name].value < 1e-4


def test_the_whole_spectrum_and_eigenvalues_within_it(point, truth):
    whole = point.measure("CurvatureSpectrum").arrays["hessian_spectrum"]
    np.testing.assert_allclose(whole, truth.values[::-1], atol=1e-10)
    near = float(truth.values[3])
    found = point.measure("EigenvaluesNear", near=near + 1e-3, k=1, max_products=400)
    assert found.scalars["hessian_near_1"] == pytest.approx(near, abs=1e-3)


def test_trace_of_every_layer_diagonal_and_density(point, truth):
    diagonal = truth.hessian.diagonal()
    found = point.measure("CurvatureTrace", samples=60, per_layer=True)
    layers = [name for name in found.scalars if name not in ("hessian_trace", "hessian_trace_products")]
    exact = {"hessian_trace": float(diagonal.sum())}
    for layer in layers:
        owner = layer.removeprefix("hessian_trace").lstrip("_.").removeprefix("/")
        exact[layer] = float(diagonal[point.landscape.layout.indices(owner)].sum())
    assert len(layers) >= 7
    for name, value in exact.items():
        assert abs(found.scalars[name] - value) < 5 * found.errors[name].value, name
    found = point.measure("CurvatureDiagonal", samples=60).arrays
    off = (found["hessian_diagonal"] - diagonal.numpy()) / np.maximum(found["hessian_diagonal_error"], 1e-12)
    assert np.sqrt(np.mean(off**2)) < 1.5
    density = point.measure("CurvatureDensity", samples=20, steps=60)
    name = "hessian_density_trace"
    assert abs(density.scalars[name] - exact["hessian_trace"]) < 5 * density.errors[name].value


def test_overlaps_of_gradients_and_subspaces(point, truth):
    mean = truth.rows.mean(dim=0).numpy()
    found = point.measure("GradientHessianOverlap", k=3, tolerance=1e-6, batches=2, batch_size=SEQUENCES)
    for i in range(1, 4):
        expected = np.linalg.norm(truth.vectors[:, :i].T @ mean) / np.linalg.norm(mean)
        assert found.scalars[f"gradient_hessian_overlap_{i}"] == pytest.approx(expected, abs=1e-5)
        # Batches of all the data have its gradient.
        assert found.scalars[f"batch_gradient_hessian_overlap_{i}"] == pytest.approx(expected, abs=1e-5)
    probe = ls.probes.HessianSubspaceOverlap(k=3, tolerance=1e-6)
    point.measure(probe)
    moved = ls.Point(point.landscape, point.theta + 0.05 * torch.sign(point.theta), step=1, previous=point)
    later = moved.measure(probe)
    _, there = np.linalg.eigh(moved.hessian().dense().numpy())
    for i in range(1, 4):
        cosines = truth.vectors[:, :i].T @ there[:, ::-1][:, :i]
        expected = (cosines**2).sum() / i
        assert later.scalars[f"hessian_subspace_overlap_{i}"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("memory", [2**31, 4 * 8 * 397])
def test_the_covariance_of_sequences(point, truth, centred, memory):
    found = point.measure(
        "GradientCovariance",
        batches=SEQUENCES, per_example=True, centred=centred, vectors=True, k=3, memory=memory,
    )  # fmt: skip
    K = covariance(truth.rows, centred)
    expected = np.linalg.eigvalsh(K)[::-1][: SEQUENCES - centred]
    np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], expected, atol=1e-12)
    vectors = found.carry["eigenvectors"].numpy()
    np.testing.assert_allclose(vectors @ K, expected[:3, None] * vectors, atol=1e-12)
    assert bool(found.warnings) == (memory < 2**31)


def test_the_covariance_of_batches(point, truth):
    probe = ls.probes.GradientCovariance(batches=6, batch_size=4)
    found = probe.measure(point, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randperm(SEQUENCES, generator=generator)[:4] for _ in range(6)]
    means = torch.stack([truth.rows[part].mean(dim=0) for part in drawn])
    np.testing.assert_allclose(
        found.arrays["covariance_eigenvalues"], np.linalg.eigvalsh(covariance(means))[::-1][:5], atol=1e-12
    )


def test_the_noise_scale_with_and_without_the_hessian(point, truth):
    found = point.measure("GradientNoiseScale", batch_size=4, curvature=True)
    mean, K = truth.rows.mean(dim=0), torch.cov(truth.rows.T)
    assert found.scalars["gradient_noise_trace"] == pytest.approx(float(K.trace()), rel=1e-9)
    assert found.scalars["gradient_noise_scale"] == pytest.approx(float(K.trace() / (mean @ mean)), rel=1e-9)
    bent = float((K * truth.hessian).sum())
    assert found.scalars["gradient_noise_trace_hessian"] == pytest.approx(bent, rel=1e-9)
    along = float(mean @ truth.hessian @ mean)
    assert found.scalars["gradient_noise_scale_hessian"] == pytest.approx(bent / along, rel=1e-9)


def test_the_noise_along_the_hessian(point, truth):
    probe = ls.probes.CovarianceHessianAlignment(k=3, batches=SEQUENCES, per_example=True)
    exact = point.measure("HessianSpectrum", k=3, tolerance=1e-9)
    point.record(ls.probes.HessianSpectrum(k=3), exact)
    found = point.measure(probe)
    K = covariance(truth.rows)
    for i in range(1, 4):
        v, value = truth.vectors[:, i - 1], truth.values[i - 1]
        along = float(v @ K @ v)
        assert found.scalars[f"covariance_along_hessian_{i}"] == pytest.approx(along, rel=1e-6)
        assert found.scalars[f"covariance_hessian_ratio_{i}"] == pytest.approx(along / value, rel=1e-6)
        cosine = along / float(np.linalg.norm(K @ v))
        assert found.scalars[f"covariance_hessian_cosine_{i}"] == pytest.approx(cosine, rel=1e-6)
    _, own = np.linalg.eigh(K)
    cosines = (own[:, ::-1][:, :3].T @ truth.vectors[:, :3]) ** 2
    np.testing.assert_allclose(found.arrays["covariance_hessian_cosines"], cosines, atol=1e-6)


def test_linear_layers_of_a_transformer_need_no_gradients_of_sequences():
    landscape, theta, truth = made("outside")
    part = landscape.restrict(["joint.*", "out.*"], at=theta)
    where = part.extract(theta)
    own = truth.rows[:, landscape.layout.indices(["joint.*", "out.*"])]
    gram = example_gram(part, where, part.batches(4))
    assert gram is not None
    torch.testing.assert_close(gram, own @ own.T, rtol=1e-10, atol=1e-13)
    # Embeddings and normalisations are known as well; what is not is stacked.
    whole = example_gram(landscape, theta, landscape.batches())
    assert whole is not None
    torch.testing.assert_close(whole, truth.rows @ truth.rows.T, rtol=1e-10, atol=1e-13)
    K = covariance(own)
    for options in ({}, {"vectors": True, "k": 2}):
        found = ls.Point(part, where).measure(
            "GradientCovariance", batches=SEQUENCES, per_example=True, **options
        )
        expected = np.linalg.eigvalsh(K)[::-1][: SEQUENCES - 1]
        np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], expected, atol=1e-12)
    point = ls.Point(part, where)
    found = point.measure("CovarianceHessianAlignment", k=2, batches=SEQUENCES, per_example=True)
    v = point.measured(ls.probes.HessianSpectrum(k=2)).carry["eigenvectors"].numpy()
    along = [float(one @ K @ one) for one in v]
    np.testing.assert_allclose(found.arrays["covariance_along_hessian"], along, rtol=1e-10)
