"""The tracker on a device against the one of arrays; torch's CPU stands for an accelerator where there is none."""

import numpy as np
import pytest
import torch
from attrs import evolve

import landscape as ls
from landscape.errors import SolverError
from landscape.systems import PolynomialFamily
from landscape_homotopy import device, tracker
from landscape_homotopy.circuit import circuit_of
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.parameter_homotopy import ParameterHomotopy
from landscape_homotopy.tracker import LOST, REGULAR, Settings, track

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FAMILIES = [
    ls.models.DeepLinear(widths=(2, 2, 2)).family(),
    ls.models.DeepLinear(widths=(1, 2, 2, 1), examples=2).family(),
    PolynomialFamily(["a*x^3 - b*y", "y^2 + b*x*y - a"], ["x", "y"], ["a", "b"]),
]


def complex_normal(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_circuit_on_a_device_computes_the_family(family, where):
    circuit = circuit_of(family)
    rng = np.random.default_rng(0)
    z = complex_normal(rng, 5, len(family.unknown_names))
    p, dp = complex_normal(rng, 2, 5, len(family.parameter_names))
    place = torch.device(where)
    there = [torch.as_tensor(each, device=place) for each in (z, p, dp)]
    right, jacobian = device._Walk(circuit, place)(*there)
    np.testing.assert_allclose(-right[:, :, 0].cpu().numpy(), family.value(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        -right[:, :, 1].cpu().numpy(), family.parameter_derivative(z, p, dp), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(jacobian.cpu().numpy(), family.jacobian(z, p), rtol=1e-12, atol=1e-12)
    alone, _ = device._Walk(circuit, place)(*there[:2])
    assert torch.equal(alone[:, :, 0], right[:, :, 0])


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("order", [3, 5])
def test_paths_go_where_the_tracker_of_arrays_takes_them(order, where, monkeypatch):
    monkeypatch.setattr(tracker, "compiled_engine", lambda: None)
    family = FAMILIES[0]
    rng = np.random.default_rng(1)
    pairs = [family.start_pair(rng) for _ in range(40)]
    z, p = (np.array(each) for each in zip(*pairs[:-1], strict=True))
    corner, end = np.tile(pairs[-1][1], (len(z), 1)), np.tile(family.start_pair(rng)[1], (len(z), 1))
    settings = Settings(order=order)
    ours = track(family, z, p, end, settings, via=[corner])
    theirs = track(family, z, p, end, evolve(settings, device=where), via=[corner])
    assert (ours.outcome == REGULAR).mean() > 0.9
    assert (ours.outcome == theirs.outcome).all()
    good = ours.outcome == REGULAR
    np.testing.assert_allclose(theirs.points[good], ours.points[good], rtol=1e-9, atol=1e-9)
    assert theirs.residuals[good].max() < 1e-9
    # Rounding may change single steps.
    assert theirs.steps == pytest.approx(ours.steps, rel=0.02)


@pytest.mark.parametrize("where", DEVICES)
def test_batches_do_not_matter(where, monkeypatch):
    family = FAMILIES[0]
    rng = np.random.default_rng(2)
    z, p = (np.array(each) for each in zip(*(family.start_pair(rng) for _ in range(12)), strict=True))
    end = np.tile(family.start_pair(rng)[1], (len(z), 1))
    whole = track(family, z, p, end, Settings(device=where))
    monkeypatch.setattr(device, "_batch", lambda *_: 5)
    parts = track(family, z, p, end, Settings(device=where))
    assert (whole.outcome == parts.outcome).all()
    good = whole.outcome == REGULAR
    np.testing.assert_allclose(parts.points[good], whole.points[good], rtol=1e-10)


@pytest.mark.parametrize("where", DEVICES)
def test_a_path_to_a_singular_system_is_lost(where):
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    start = np.array([[1.0 + 0j], [-1.0]])
    p = np.array([[[1.0 + 0j]] * 2, [[0.0 + 0j]] * 2])
    assert (track(family, start, *p, Settings(device=where)).outcome == LOST).all()


@pytest.mark.parametrize("where", DEVICES)
def test_monodromy_finds_the_same_solutions(where):
    family = ls.models.DeepLinear(widths=(1, 1, 2)).family()
    parameters = family.sample(4, 0)
    on_device = Monodromy(device=where).solve_family(family, parameters, torch.Generator().manual_seed(0))
    without = Monodromy().solve_family(family, parameters, torch.Generator().manual_seed(0))
    for ours, theirs in zip(on_device, without, strict=True):
        assert len(ours) == 9
        assert ours.matches(theirs, 1e-10)
        assert ours.completeness == "proved"


@pytest.mark.parametrize("where", DEVICES)
def test_parameter_homotopy_finds_the_same_solutions(where):
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    parameters = family.sample(4, 0)
    (known,) = Monodromy().solve_family(family, parameters[:1], torch.Generator().manual_seed(0))
    fields = {"parameters": parameters[0], "solutions": known.points}
    on_device, without = (
        ParameterHomotopy(**fields, device=device).solve_family(
            family, parameters[1:], torch.Generator().manual_seed(1)
        )
        for device in (where, None)
    )
    for ours, theirs in zip(on_device, without, strict=True):
        assert len(ours) == 33
        assert ours.matches(theirs, 1e-10)
        assert ours.statistics["lost"] == theirs.statistics["lost"] == 0


@pytest.mark.parametrize("where", DEVICES)
def test_singular_ends_are_found_from_a_device(where):
    circles = PolynomialFamily(["x^2 + y^2 - a", "x*y - b"], ["x", "y"], ["a", "b"])
    start = ParameterHomotopy(
        parameters=(10.0, 3.0), solutions=((1, 3), (3, 1), (-1, -3), (-3, -1)), device=where
    )
    targets = np.array([[2.0, 1.0], [5.0, 2.0]])
    double, single = start.solve_family(circles, targets, torch.Generator().manual_seed(0))
    assert double.multiplicities.tolist() == [2, 2]
    assert sorted(np.abs(single.points[:, 0]).round(10)) == [1, 1, 2, 2]


def test_parameter_homotopy_refuses_devices_at_once(monkeypatch):
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    start, target = {"parameters": [1.0], "solutions": [[1.0], [-1.0]]}, np.ones((1, 1))
    with pytest.raises(SolverError, match="'abacus'"):
        ParameterHomotopy(**start, device="abacus").solve_family(family, target, torch.Generator())
    monkeypatch.setattr(device, "circuit_of", lambda family: None)
    with pytest.raises(SolverError, match="PolynomialFamily has no circuit"):
        ParameterHomotopy(**start, device="cpu").solve_family(family, target, torch.Generator())


def test_devices_that_are_not_there_are_refused_at_once():
    family = FAMILIES[0]
    solver = Monodromy(device="abacus")
    with pytest.raises(SolverError, match="'abacus'"):
        solver.solve_family(family, family.sample(1, 0), torch.Generator().manual_seed(0))


def test_families_without_a_circuit_are_refused_at_once(monkeypatch):
    family = FAMILIES[0]
    monkeypatch.setattr("landscape_homotopy.monodromy.circuit_of", lambda family: None)
    with pytest.raises(SolverError, match="no circuit"):
        Monodromy(device="cpu").solve_family(family, family.sample(1, 0), torch.Generator().manual_seed(0))
