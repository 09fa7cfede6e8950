from itertools import pairwise, product
from math import comb

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError, DataError, PolynomialError
from landscape_networks.deep_linear import DeepLinear, DeepLinearFamily

SHAPES = [((2, 2, 2), 1), ((1, 1, 1), 1), ((3, 2, 1, 2), 2), ((2, 1, 2, 1, 1), 1), ((1, 3, 2), 3)]


def random_points(family, seed, rows=3):
    rng = np.random.default_rng(seed)
    sizes = [len(family.unknown_names), *[len(family.parameter_names)] * 2]
    return [rng.normal(size=(rows, n)) + 1j * rng.normal(size=(rows, n)) for n in sizes]


def torch_loss(family, z, p):
    """The loss of the docstring, written down a second time with torch."""
    widths, m, n = family.widths, family.examples, z.shape[-1]
    weights, start = [], 0
    for columns, rows in pairwise(widths):
        weights.append(z[start : start + rows * columns].reshape(rows, columns))
        start += rows * columns
    x = p[n : n + widths[0] * m].reshape(widths[0], m)
    y = p[n + widths[0] * m :].reshape(widths[-1], m)
    output = x
    for w in weights:
        output = w @ output
    return 0.5 * ((output - y) ** 2).sum() + 0.5 * (p[:n] * z**2).sum()


@pytest.mark.parametrize(("widths", "examples"), SHAPES)
def test_structured_evaluation_agrees_with_expanded_monomials(widths, examples):
    family = DeepLinear(widths=widths, examples=examples).family()
    expanded = family.expanded()
    assert (expanded.unknown_names, expanded.parameter_names) == (
        family.unknown_names,
        family.parameter_names,
    )
    z, p, dp = random_points(family, 0)
    np.testing.assert_allclose(family.value(z, p), expanded.value(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(family.jacobian(z, p), expanded.jacobian(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        family.parameter_derivative(z, p, dp), expanded.parameter_derivative(z, p, dp), rtol=1e-12, atol=1e-11
    )
    np.testing.assert_allclose(
        family.objective_value(z.real, p.real), expanded.objective_value(z.real, p.real), rtol=1e-12
    )
    system = family.system(p[0])
    np.testing.assert_allclose(system.value(z[:1]), family.value(z[:1], p[:1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("widths", "examples"), SHAPES)
def test_gradient_and_hessian_are_those_of_the_very_loss_by_autograd(widths, examples):
    family = DeepLinear(widths=widths, examples=examples).family()
    z, p, _ = (part.real for part in random_points(family, 1))
    for row in range(len(z)):
        point, parameters = torch.tensor(z[row]), torch.tensor(p[row])

        def loss(w, parameters=parameters):
            return torch_loss(family, w, parameters)

        value = family.objective_value(z[row : row + 1], p[row : row + 1])[0]
        gradient, hessian = family.value_and_jacobian(z[row : row + 1], p[row : row + 1])
        assert value == pytest.approx(loss(point).item(), rel=1e-12)
        scale = max(1.0, abs(value))
        by_torch = torch.func.grad(loss)(point), torch.autograd.functional.hessian(loss, point)
        np.testing.assert_allclose(gradient[0], by_torch[0], atol=1e-12 * scale, rtol=1e-12)
        np.testing.assert_allclose(hessian[0], by_torch[1], atol=1e-12 * scale, rtol=1e-12)


def test_the_loss_of_the_family_is_the_loss_of_the_module_that_is_trained():
    model = DeepLinear(widths=(2, 3, 2), examples=4)
    family = model.family()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    module = model.build((x, y), generator).double()
    z = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    lam = torch.rand(len(z), generator=generator, dtype=torch.float64)
    expected = 0.5 * ((module(x) - y) ** 2).sum() + 0.5 * (lam * z**2).sum()
    p = torch.cat([lam, x.T.reshape(-1), y.T.reshape(-1)])
    value = family.objective_value(z.numpy()[None], p.numpy()[None])
    assert value[0] == pytest.approx(expected.item(), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))
def test_start_pairs_are_critical_and_generic(shape, seed):
    family = DeepLinearFamily(widths=shape[0], examples=shape[1])
    z, p = family.start_pair(np.random.default_rng(seed))
    assert np.abs(family.value(z[None], p[None])).max() < 1e-11 * max(1, np.abs(p).max())
    assert np.abs(z).min() >= 0.5


@pytest.mark.parametrize(("widths", "examples"), SHAPES)
def test_the_sign_changes_are_all_that_the_monomials_have(widths, examples):
    family = DeepLinear(widths=widths, examples=examples).family()
    ours, theirs = family.sign_group(), family.expanded().sign_group()
    assert ours.order == 2 ** sum(widths[1:-1])
    assert {tuple(row) for row in ours.elements()} == {tuple(row) for row in theirs.elements()}


@pytest.mark.parametrize(("widths", "examples"), [((2, 2, 2), 1), ((1, 2, 1, 2), 1), ((2, 3, 1), 2)])
def test_the_zero_patterns_are_those_that_trying_all_of_them_finds(widths, examples):
    family = DeepLinear(widths=widths, examples=examples).family()
    by_structure = {part.unknowns: part for part in family.subfamilies()}
    by_trial = {part.unknowns: part for part in family.expanded().subfamilies()}
    assert by_structure.keys() == by_trial.keys()


def test_a_sub_network_has_the_equations_that_remain():
    family = DeepLinear(widths=(2, 2, 1, 2), examples=1).family()
    z, p, _ = random_points(family, 4)
    for part in family.subfamilies():
        kept, parameters = list(part.unknowns), list(part.parameters)
        whole = np.zeros_like(z)
        whole[:, kept] = z[:, kept]
        value = family.value(whole, p)
        np.testing.assert_allclose(
            value[:, kept], part.family.value(z[:, kept], p[:, parameters]), rtol=1e-12
        )
        others = [k for k in range(z.shape[1]) if k not in kept]
        assert not value[:, others].any()


def test_equal_sub_networks_are_one_family():
    families = [part.family for part in DeepLinear(widths=(2, 3, 2)).family().subfamilies()]
    assert len(families) == 8
    assert len(set(families)) == 4


def test_bounds_are_those_of_the_literature():
    bounds = DeepLinear(widths=(2, 2, 2)).family().bounds()
    assert bounds["CBB"] == 3**8 == DeepLinear(widths=(2, 2, 2)).family().expanded().bezout_number()
    assert (bounds["B_C"], bounds["B_C_torus"]) == (81, 64)
    assert bounds["dedieu_malajovich"] == pytest.approx(2**0.5 * 3**4.5)
    deeper = DeepLinear(widths=(1, 2, 2, 1)).family().bounds()
    assert deeper["CBB"] == 5**8
    assert "B_C" not in deeper
    assert "B_C" not in DeepLinear(widths=(2, 2, 2), examples=2).family().bounds()


@pytest.mark.parametrize(
    ("widths", "examples", "bound"),
    [
        # Degrees that msolve found for integer data.
        ((1, 1, 1), 1, 5),
        ((1, 2, 1), 1, 9),
        ((2, 2, 1), 1, 9),
        ((1, 2, 2), 1, 33),
        ((2, 2, 2), 1, 33),
        ((1, 2, 3), 1, 73),
        ((1, 2, 2), 3, 33),
        # No formula: Bezout's.
        ((2, 1, 2), 2, 3**4),
        ((1, 1, 1, 1), 1, 5**3),
    ],
)
def test_the_bound_on_solutions_is_the_degree_where_there_is_a_proof(widths, examples, bound):
    assert DeepLinear(widths=widths, examples=examples).family().solution_bound() == bound


def test_a_convolution_has_the_bound_of_bezout():
    assert DeepLinear(widths=(3, 2, 1), convolution=(2, 1)).family().solution_bound() == 3**4


@pytest.mark.parametrize(("units", "outputs"), [(1, 3), (2, 2), (2, 3), (3, 3)])
def test_the_proof_of_the_bound_counts_quadrics_on_a_reciprocal_linear_space(units, outputs):
    """The degree of its closure is that of its intersection with a generic linear space, computed exactly."""
    rng = np.random.default_rng(units + 10 * outputs)
    unknowns = sympy.symbols(f"h1:{units + 1}")
    forms = [
        1 + sum(int(a) * h for a, h in zip(row, unknowns, strict=True))
        for row in rng.integers(1, 40, (outputs, units))
    ]
    w = sympy.Symbol("w")
    equations = []
    for row in rng.integers(1, 40, (units, outputs + 1)).tolist():
        total = row[0] * sympy.prod(forms) - sum(
            c * sympy.prod(forms[:k] + forms[k + 1 :]) for k, c in enumerate(row[1:])
        )
        equations.append(sympy.expand(total))
    equations.append(sympy.expand(w * sympy.prod(forms) - 1))
    basis = sympy.groebner(equations, w, *unknowns, order="grevlex", modulus=32003)
    leading = [sympy.Poly(g, w, *unknowns, modulus=32003).monoms(order="grevlex")[0] for g in basis.exprs]
    highest = [max(m[k] for m in leading if sum(m) == m[k]) for k in range(units + 1)]
    standard = [
        m
        for m in product(*(range(h) for h in highest))
        if not any(all(a >= b for a, b in zip(m, lead, strict=True)) for lead in leading)
    ]
    assert len(standard) == comb(outputs, units)


def test_samples_follow_their_distributions_and_what_is_drawn_once_stays():
    family = DeepLinear(
        widths=(1, 1, 1), regularisation="values(1, 2)", targets="uniform(5, 6)", once=("inputs",)
    ).family()
    sample = family.sample(50, 3)
    assert (sample[:, :2] == [1, 2]).all()
    assert np.unique(sample[:, 2]).size == 1
    assert np.unique(sample[:, 3]).size == 50
    assert ((sample[:, 3] >= 5) & (sample[:, 3] <= 6)).all()
    assert (family.sample(7, 3) == sample[:7]).all()
    assert (family.sample(50, 4)[:, 3] != sample[:, 3]).all()


def test_patterns_are_written_as_matrices():
    family = DeepLinear(widths=(2, 2, 1)).family()
    flags = np.array([True, False, True, True, False, True])
    assert family.zero_pattern(flags) == "W1 *0/** W2 0*"


def test_the_module_draws_from_its_generator_only():
    before = torch.get_rng_state()
    batch = torch.zeros(3, 4), torch.zeros(3, 2)
    first, second = (
        DeepLinear(widths=(4, 5, 2)).build(batch, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first(batch[0]).shape == (3, 2)
    assert [name for name, _ in first.named_parameters()] == ["layer1.weight", "layer2.weight"]


def test_data_of_another_length_is_refused():
    with pytest.raises(DataError, match=r"rows of length 2.*\(64,\)"):
        DeepLinear().build((torch.zeros(3, 64), torch.zeros(3)), torch.Generator())


def test_without_regularisation_there_is_a_module_but_no_family():
    model = DeepLinear(regularisation="off")
    assert model.build((torch.zeros(1, 2), torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(PolynomialError, match="not isolated"):
        model.family()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (2, 2)}, "at least one hidden layer"),
        ({"widths": (2, 0, 2)}, "empty layer"),
        ({"examples": 0}, "examples=0"),
        ({"regularisation": "gaussian(0, 1)"}, "forms are"),
        ({"once": ("input",)}, "Did you mean 'inputs'"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        DeepLinear(**fields)


def test_values_must_be_as_many_as_parameters():
    with pytest.raises(ConfigurationError, match="inputs are 2 numbers"):
        DeepLinear(inputs="values(1, 2, 3)").family().sample(1, 0)


# -- a convolution as the first layer -----------------------------------------------------------------------

CONVOLUTIONS = [
    {"widths": (3, 2, 2), "convolution": (2, 1)},
    {"widths": (4, 2, 1), "convolution": (2, 2), "examples": 2},
    {"widths": (4, 3, 2, 1), "convolution": (2, 1)},
    {"widths": (3, 3, 1), "convolution": (1, 1)},
]


def convolved(kernel, stride, x):
    """What the first layer does to the columns of x, window by window."""
    starts = range(0, len(x) - len(kernel) + 1, stride)
    return torch.stack([kernel @ x[start : start + len(kernel)] for start in starts])


def convolution_loss(fields, z, p):
    widths, (width, stride), m = fields["widths"], fields["convolution"], fields.get("examples", 1)
    n = len(z)
    x = p[n : n + widths[0] * m].reshape(widths[0], m)
    y = p[n + widths[0] * m :].reshape(widths[-1], m)
    output, start = convolved(z[:width], stride, x), width
    for columns, rows in pairwise(widths[1:]):
        output = z[start : start + rows * columns].reshape(rows, columns) @ output
        start += rows * columns
    return 0.5 * ((output - y) ** 2).sum() + 0.5 * (p[:n] * z**2).sum()


@pytest.mark.parametrize("fields", CONVOLUTIONS)
def test_derivatives_with_a_convolution_are_those_of_the_monomials(fields):
    family = DeepLinear(**fields).family()
    expanded = family.expanded()
    assert expanded.unknown_names == family.unknown_names
    z, p, dp = random_points(family, 0)
    np.testing.assert_allclose(family.value(z, p), expanded.value(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(family.jacobian(z, p), expanded.jacobian(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        family.parameter_derivative(z, p, dp), expanded.parameter_derivative(z, p, dp), rtol=1e-12, atol=1e-11
    )


@pytest.mark.parametrize("fields", CONVOLUTIONS)
def test_derivatives_with_a_convolution_are_those_of_the_loss_by_autograd(fields):
    family = DeepLinear(**fields).family()
    z, p, _ = (part.real for part in random_points(family, 1))
    value, hessian = family.value_and_jacobian(z, p)
    for row in range(len(z)):
        point, parameters = torch.tensor(z[row]), torch.tensor(p[row])

        def loss(w, parameters=parameters):
            return convolution_loss(fields, w, parameters)

        assert family.objective_value(z[row : row + 1], p[row : row + 1])[0] == pytest.approx(
            loss(point).item(), rel=1e-12
        )
        (first,) = torch.autograd.functional.jacobian(loss, (point,))
        np.testing.assert_allclose(value[row], first.numpy(), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(
            hessian[row], torch.autograd.functional.hessian(loss, point).numpy(), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("fields", CONVOLUTIONS)
def test_structure_with_a_convolution_is_what_the_monomials_have(fields):
    family = DeepLinear(**fields).family()
    expanded = family.expanded()
    assert {tuple(row) for row in family.sign_group().elements()} == {
        tuple(row) for row in expanded.sign_group().elements()
    }
    assert family.start_pairs_suffice
    z, p = family.start_pair(np.random.default_rng(0))
    assert np.abs(expanded.value(z[None], p[None])).max() < 1e-11 * max(1, np.abs(p).max())
    for part in family.subfamilies():
        # What is left over of the equations, where the other weights are zero.
        z, p, _ = random_points(part.family, 2)
        whole = np.zeros((len(z), len(family.unknown_names)), dtype=complex)
        whole[:, list(part.unknowns)] = z
        parameters = np.ones((len(z), len(family.parameter_names)), dtype=complex)
        parameters[:, list(part.parameters)] = p
        value = family.value(whole, parameters)
        if part.unknowns:
            np.testing.assert_allclose(
                value[:, list(part.unknowns)], part.family.value(z, p), rtol=1e-12, atol=1e-12
            )
        others = [k for k in range(value.shape[1]) if k not in part.unknowns]
        assert np.abs(value[:, others]).max(initial=0.0) < 1e-12


def test_a_filter_as_long_as_the_input_is_one_dense_unit():
    dense = DeepLinear(widths=(3, 1, 2)).family()
    filtered = DeepLinear(widths=(3, 1, 2), convolution=(3, 1)).family()
    assert filtered.unknown_names == dense.unknown_names
    z, p, _ = random_points(dense, 3)
    np.testing.assert_allclose(filtered.value(z, p), dense.value(z, p), rtol=1e-13)
    np.testing.assert_allclose(filtered.jacobian(z, p), dense.jacobian(z, p), rtol=1e-13)


def test_the_module_with_a_convolution_has_the_loss_of_the_family():
    fields = {"widths": (4, 3, 2), "convolution": (2, 1), "examples": 5}
    model = DeepLinear(**fields)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    module = model.build((x, x), generator).double()
    assert [name for name, _ in module.named_parameters()] == ["layer1.weight", "layer2.weight"]
    z = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    y = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    p = torch.cat([torch.zeros(len(z), dtype=torch.float64), x.T.reshape(-1), y.T.reshape(-1)])
    expected = 0.5 * ((module(x) - y) ** 2).sum().item()
    assert model.family().objective_value(z.numpy()[None], p.numpy()[None])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("convolution", "message"),
    [
        ((2, 1), "fits 3 times into inputs of length 4; set widths"),
        ((5, 1), "a filter of 5 weights, but the inputs have length 4"),
        ((2, 0), "whole numbers of at least 1"),
        ((2,), "whole numbers of at least 1"),
        ((2.5, 1), "whole numbers of at least 1"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(convolution, message):
    with pytest.raises(ConfigurationError, match=message):
        DeepLinear(widths=(4, 2, 2), convolution=convolution)


def test_patterns_of_a_convolution_show_the_filter():
    family = DeepLinear(widths=(3, 2, 1), convolution=(2, 1)).family()
    assert family.zero_pattern(np.array([True, False, True, True])) == "W1 *0 W2 **"


def test_a_family_says_what_it_is_and_what_formulas_were_observed():
    family = DeepLinear(widths=(2, 3, 4)).family()
    assert dict(family.description()) == {"H": 1, "d": 3, "dx": 2, "dy": 4, "m": 1}
    # sum over r of C(3, r) C(4, r) 4^r = 1 + 48 + 288 + 256.
    assert dict(family.conjectured_counts()) == {"N_C": 593, "N_C_torus": 256}
    assert dict(DeepLinear(widths=(3, 2, 1), convolution=(2, 1)).family().conjectured_counts()) == {}
    deep = DeepLinear(widths=(1, 2, 3, 1), examples=2).family()
    assert dict(deep.description()) == {"H": 2, "d": "2, 3", "dx": 1, "dy": 1, "m": 2}
    assert dict(deep.conjectured_counts()) == {}
    convolution = DeepLinear(widths=(3, 2, 1), convolution=(2, 1)).family()
    assert convolution.description()["convolution"] == "width 2, stride 1"


@pytest.mark.parametrize(
    ("widths", "regularisation", "reason"),
    [
        ((2, 2, 2), "constant(1)", "units 1 and 2 of layer 1 are tied"),
        ((2, 2, 2), "constant(0)", "unit 1 of layer 1 are zero"),
        # Into the units 1, 2 and 2, 4; out of them 3 and 6: in the ratio 2 and its inverse.
        ((2, 2, 1), "values(1, 2, 2, 4, 6, 3)", "are tied"),
        ((2, 2, 1), "values(1, 2, 2, 4, 3, 6)", ""),
        ((2, 1, 2), "constant(1)", ""),
        ((1, 1, 2, 1), "values(1, 2, 2, 3, 3)", "units 1 and 2 of layer 2 are tied"),
        ((1, 2, 1), "values(1, 0, 2, 0)", "unit 2 of layer 1 are zero"),
        ((1, 2, 1), "values(1, 0, 2, 3)", ""),
        ((2, 2, 2), "uniform(0, 1)", ""),
    ],
)
def test_tied_and_zero_regularisation_is_recognised_where_the_hessian_has_a_kernel(
    widths, regularisation, reason
):
    family = DeepLinear(widths=widths, regularisation=regularisation).family()
    (p,) = family.sample(1, seed=1)
    said = family.degeneracy(p)
    assert reason in said
    assert bool(said) == bool(reason)
    # The truth: the group acts on all points, so that along its tangent the regularisation is constant, that is,
    # some combination of the tangents is orthogonal to the gradient of the regularisation at every point.
    rng = np.random.default_rng(0)
    lam = p[: len(family.unknown_names)]
    sizes = np.cumsum([0, *(a * b for a, b in zip(widths[1:], widths[:-1], strict=True))])
    for layer in range(len(widths) - 2):
        units, rows = widths[layer + 1], []
        for _ in range(4 * units**2):
            z = rng.normal(size=len(lam))
            into = z[sizes[layer] : sizes[layer + 1]].reshape(units, -1)
            out = z[sizes[layer + 1] : sizes[layer + 2]].reshape(-1, units)
            row = []
            for k in range(units**2):
                g = np.zeros((units, units))
                g.flat[k] = 1.0
                change = np.zeros_like(z)
                change[sizes[layer] : sizes[layer + 1]] = (g @ into).ravel()
                change[sizes[layer + 1] : sizes[layer + 2]] = -(out @ g).ravel()
                row.append(float((lam * z) @ change))
            rows.append(row)
        if np.linalg.matrix_rank(np.array(rows), tol=1e-9) < units**2:
            assert reason
            break
    else:
        assert not reason


def test_regularisation_of_a_convolution_that_is_zero_is_recognised():
    family = DeepLinear(widths=(3, 2, 1), convolution=(2, 1), regularisation="constant(0)").family()
    assert "the convolution are zero" in family.degeneracy(family.sample(1, 0)[0])
    tied = DeepLinear(widths=(3, 2, 1), convolution=(2, 1), regularisation="constant(1)").family()
    assert tied.degeneracy(tied.sample(1, 0)[0]) == ""


def test_more_sub_networks_than_can_be_tried_are_refused():
    with pytest.raises(PolynomialError, match=r"1048575 sub-networks.*narrower hidden layers"):
        DeepLinear(widths=(2, 20, 2)).family().subfamilies()


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": (2, 3, 2), "examples": 2},
        {"widths": (1, 2, 2, 1)},
        {"widths": (4, 3, 1), "convolution": (2, 1), "examples": 2},
    ],
)
def test_gradient_and_hessian_are_finite_differences_of_the_loss_with_one_definition_of_lambda(fields):
    family = DeepLinear(**fields).family()
    n = len(family.unknown_names)
    (p,) = family.sample(1, seed=2)
    z = np.random.default_rng(5).normal(size=n)
    rows = np.broadcast_to(p, (n, len(p)))
    step = 1e-6
    ahead, behind = z + step * np.eye(n), z - step * np.eye(n)
    slope = (family.objective_value(ahead, rows) - family.objective_value(behind, rows)) / (2 * step)
    np.testing.assert_allclose(family.value(z[None], p[None])[0], slope, rtol=1e-6, atol=1e-8)
    bend = (family.value(ahead, rows) - family.value(behind, rows)) / (2 * step)
    np.testing.assert_allclose(family.jacobian(z[None], p[None])[0], bend, rtol=1e-6, atol=1e-7)
    # Half the sum of lambda times the square of the weight; lambda itself is not squared.
    more = p.copy()
    more[:n] += 0.25
    gain = family.objective_value(z[None], more[None]) - family.objective_value(z[None], p[None])
    np.testing.assert_allclose(gain, 0.125 * (z**2).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("widths", "examples", "zeros", "reason"),
    [
        ((2, 2, 2), 1, (0, 1), "2 weights into unit 1 of layer 1"),
        ((2, 2, 2), 2, (0, 1), ""),
        ((2, 2, 2), 1, (0,), ""),
        ((2, 2, 2), 1, (4, 6), ""),
        ((1, 2, 2, 1), 1, (2, 4), "2 weights out of unit 1 of layer 1"),
        ((1, 2, 2, 1), 1, (2, 3), "2 weights into unit 1 of layer 2"),
        ((3, 1, 1), 2, (0, 1, 2), "3 weights into unit 1 of layer 1"),
        ((3, 1, 1), 2, (0, 1), ""),
    ],
)
def test_zero_lambda_of_weights_that_can_change_together_is_recognised(widths, examples, zeros, reason):
    weights = sum(a * b for a, b in pairwise(widths))
    lam = np.arange(1.0, weights + 1)
    lam[list(zeros)] = 0.0
    text = "values(" + ", ".join(map(str, lam)) + ")"
    family = DeepLinear(widths=widths, examples=examples, regularisation=text).family()
    (p,) = family.sample(1, 0)
    said = family.degeneracy(p)
    assert reason in said
    assert bool(said) == bool(reason)
    # The truth: the output is linear in the weights of one unit, and they enter nothing else. It does not change along
    # the kernel of its derivatives by them, anywhere.
    z, x = np.random.default_rng(1).normal(size=weights), p[weights:].reshape(-1, examples)[: widths[0]]

    def output(z):
        result, start = x, 0
        for a, b in pairwise(widths):
            result, start = z[start : start + a * b].reshape(b, a) @ result, start + a * b
        return result.ravel()

    columns = [output(z + row) - output(z) for row in np.eye(weights)[list(zeros)]]
    assert (np.linalg.matrix_rank(np.array(columns)) < len(zeros)) == bool(reason)


def test_numbers_of_unknowns_are_known_without_their_names():
    for fields in ({"widths": (2, 3, 4)}, {"widths": (4, 2, 3, 1), "convolution": (2, 2)}):
        family = DeepLinear(**fields).family()
        assert family.unknown_count == len(family.unknown_names)
    # 10^17 names would not fit anywhere.
    assert DeepLinear(widths=(10**8, 10**9, 1)).family().unknown_count == 10**17 + 10**9
