"""Value, gradient, score against plain loops and torch.func."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from landscape.errors import ConfigurationError, DataError
from landscape.objective import BatchLoss, Landscape, PerRow, as_data


def points(landscape, rows=3):
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(rows, landscape.size, generator=generator, dtype=torch.float64)
    return landscape.initial() + 0.3 * noise


def test_value_and_gradient_agree_with_autograd_on_the_whole_data(net, classes, reference):
    landscape = Landscape(net, "cross_entropy", classes)
    truth = reference(landscape, F.cross_entropy, *classes)
    theta = points(landscape)[0]
    value, gradient = landscape.value_and_gradient(theta)
    torch.testing.assert_close(value, truth(theta), rtol=1e-14, atol=0)
    torch.testing.assert_close(landscape.value(theta), value, rtol=0, atol=0)
    torch.testing.assert_close(gradient, torch.func.grad(truth)(theta), rtol=1e-13, atol=1e-16)
    torch.testing.assert_close(landscape.gradient(theta), gradient, rtol=0, atol=0)


def test_rows_are_evaluated_one_by_one(net, classes):
    landscape = Landscape(net, "cross_entropy", classes)
    thetas = points(landscape)
    values, gradients = landscape.value_and_gradient(thetas)
    assert values.shape == (3,)
    assert gradients.shape == thetas.shape
    for row, theta in enumerate(thetas):
        assert values[row] == landscape.value(theta)
        assert torch.equal(gradients[row], landscape.gradient(theta))
    assert torch.equal(landscape.value(thetas), values)
    assert landscape.value(thetas[:0]).shape == (0,)
    assert landscape.gradient(thetas[:0]).shape == (0, landscape.size)


def test_a_batch_is_shared_by_all_rows_or_given_per_row(net, classes, reference):
    landscape = Landscape(net, "cross_entropy", classes)
    x, y = classes
    thetas = points(landscape)
    batches = [(x[:4], y[:4]), (x[4:9], y[4:9]), (x[9:], y[9:])]
    shared = landscape.value(thetas, batches[0])
    apart, gradients = landscape.value_and_gradient(thetas, PerRow(batches))
    for row, (theta, batch) in enumerate(zip(thetas, batches, strict=True)):
        torch.testing.assert_close(shared[row], reference(landscape, F.cross_entropy, *batches[0])(theta))
        truth = reference(landscape, F.cross_entropy, *batch)
        torch.testing.assert_close(apart[row], truth(theta), rtol=1e-14, atol=0)
        torch.testing.assert_close(gradients[row], torch.func.grad(truth)(theta))
    with pytest.raises(ConfigurationError, match="2 batches for 3 rows"):
        landscape.value(thetas, PerRow(batches[:2]))
    with pytest.raises(ConfigurationError, match=r"these weights are \(P,\)"):
        landscape.gradient(thetas[0], PerRow(batches))


@pytest.mark.parametrize("sizes", [(256, 128, 16), (1, 399), (400,)])
def test_uneven_batches_count_by_their_examples(net, sizes, reference):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (400,), generator=generator)
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    landscape = Landscape(net, "cross_entropy", batches)
    truth = reference(landscape, F.cross_entropy, x, y)
    theta = points(landscape)[0]
    value, gradient = landscape.value_and_gradient(theta)
    torch.testing.assert_close(value, truth(theta), rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, torch.func.grad(truth)(theta), rtol=1e-12, atol=1e-15)
    v = torch.randn(landscape.size, generator=generator, dtype=torch.float64)
    exact = torch.autograd.functional.hessian(truth, theta) @ v
    torch.testing.assert_close(landscape.hessian(theta).matvec(v), exact, rtol=1e-11, atol=1e-14)


def test_targets_that_are_ignored_do_not_count(net, classes, reference):
    x, y = classes
    y = y.clone()
    y[:7] = -100
    landscape = Landscape(net, "cross_entropy", as_data((x, y), batch_size=9))
    theta = points(landscape)[0]
    truth = reference(landscape, F.cross_entropy, x, y)(theta)
    torch.testing.assert_close(landscape.value(theta), truth, rtol=1e-13, atol=0)
    predicted = torch.func.functional_call(net, landscape.layout.split(theta), (x,)).argmax(1)
    torch.testing.assert_close(landscape.score(theta), (predicted == y)[7:].double().mean())


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_batch_whose_targets_are_all_ignored_adds_nothing(net, classes, reference, empty):
    x, y = classes
    parts = [(x[:8], y[:8]), (x[8:], y[8:])]
    parts.insert(empty, (x[:4], torch.full((4,), -100)))
    landscape = Landscape(net, "cross_entropy", parts)
    truth = reference(landscape, F.cross_entropy, x, y)
    theta = points(landscape)[0]
    value, gradient = landscape.value_and_gradient(theta)
    torch.testing.assert_close(value, truth(theta), rtol=1e-14, atol=0)
    torch.testing.assert_close(landscape.value(theta), value, rtol=0, atol=0)
    torch.testing.assert_close(gradient, torch.func.grad(truth)(theta), rtol=1e-13, atol=1e-16)
    torch.testing.assert_close(landscape.score(theta), Landscape(net, "cross_entropy", (x, y)).score(theta))
    exact = torch.autograd.functional.hessian(truth, theta)
    for memory in (None, 0):
        torch.testing.assert_close(
            landscape.hessian(theta, memory=memory).dense(), exact, rtol=1e-12, atol=1e-15
        )


CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "log"),
    [
        (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), False),
        (nn.CrossEntropyLoss(ignore_index=2), False),
        (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=1, label_smoothing=0.2), False),
        (nn.NLLLoss(weight=CLASS_WEIGHTS, ignore_index=0), True),
        (F.cross_entropy, False),
        (F.nll_loss, True),
        (partial(F.cross_entropy, weight=CLASS_WEIGHTS, ignore_index=0), False),
        (partial(F.nll_loss, weight=CLASS_WEIGHTS), True),
    ],
)
def test_losses_of_class_numbers_are_the_mean_over_all_data_however_it_is_batched(classes, loss, log):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(dim=1) if log else nn.Identity()).double()
    x, y = classes
    y = y.clone()
    if isinstance(loss, partial) or not isinstance(loss, nn.Module):
        y[[3, 4, 5, 20]] = 0 if isinstance(loss, partial) and "ignore_index" in loss.keywords else -100
    batches = list(zip(x.split((16, 5, 2)), y.split((16, 5, 2)), strict=True))
    landscape = Landscape(net, loss, batches)
    exact = loss(net(x), y)
    torch.testing.assert_close(landscape.value(landscape.initial()), exact.detach(), rtol=1e-13, atol=0)
    slopes = torch.autograd.grad(exact, list(net.parameters()))
    torch.testing.assert_close(
        landscape.gradient(landscape.initial()), torch.cat([s.reshape(-1) for s in slopes])
    )


def test_probabilities_are_averaged_over_examples_also_with_class_weights(net, classes):
    x, y = classes
    soft = F.one_hot(y, 3).double() * 0.9 + 0.1 / 3
    loss = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
    landscape = Landscape(net, loss, list(zip(x.split((16, 7)), soft.split((16, 7)), strict=True)))
    torch.testing.assert_close(
        landscape.value(landscape.initial()), loss(net(x), soft).detach(), rtol=1e-13, atol=0
    )


def test_the_default_score_leaves_out_what_the_loss_ignores(net, classes):
    x, y = classes
    for loss in (nn.CrossEntropyLoss(ignore_index=1), partial(F.cross_entropy, ignore_index=1)):
        landscape = Landscape(net, loss, list(zip(x.split((16, 7)), y.split((16, 7)), strict=True)))
        kept = y != 1
        exact = (net(x).argmax(1) == y)[kept].double().mean()
        torch.testing.assert_close(landscape.score(landscape.initial()), exact, rtol=1e-15, atol=0)
        soft = landscape.on((x, F.one_hot(y, 3).double()))  # probabilities have no number to ignore
        everywhere = (net(x).argmax(1) == y).double().mean()
        torch.testing.assert_close(soft.score(soft.initial()), everywhere, rtol=1e-15, atol=0)


def test_a_subclass_of_a_known_loss_is_weighed_by_examples(net, classes):
    class Halved(nn.CrossEntropyLoss):
        def forward(self, output, target):
            return F.cross_entropy(output, target, reduction="sum") / len(target) / 2

    x, y = classes
    batches = list(zip(x.split((16, 7)), y.split((16, 7)), strict=True))
    landscape = Landscape(net, Halved(weight=CLASS_WEIGHTS), batches)
    exact = F.cross_entropy(net(x), y).detach() / 2
    torch.testing.assert_close(landscape.value(landscape.initial()), exact, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("loss", "reduction", "stated"),
    [
        (nn.CrossEntropyLoss(), "sum", "'mean'"),
        (nn.KLDivLoss(reduction="batchmean"), "sum", "'batchmean'"),
        (F.mse_loss, "sum", "'mean'"),
        (nn.MSELoss(reduction="sum"), "mean", "'sum'"),
        (partial(F.mse_loss, reduction="sum"), "mean", "'sum'"),
        (nn.MSELoss(reduction="none"), "mean", "'none'"),
        (nn.MSELoss(reduction="none"), "sum", "'none'"),
    ],
)
def test_a_loss_that_says_another_reduction_than_the_landscape_is_refused(
    net, values, loss, reduction, stated
):
    with pytest.raises(ConfigurationError, match=f"reduction={stated}.*reduction={reduction!r}"):
        Landscape(net, loss, values, reduction=reduction)


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (nn.MSELoss(), "mean"),
        (nn.KLDivLoss(reduction="batchmean"), "mean"),
        (nn.MSELoss(reduction="sum"), "sum"),
        (partial(F.mse_loss, reduction="sum"), "sum"),
        (torch.dist, "sum"),  # written in C, says nothing
        (lambda output, target, reduction=3: F.mse_loss(output, target), "sum"),  # means something of its own
    ],
)
def test_losses_that_fit_or_say_nothing_are_taken(net, values, loss, reduction):
    landscape = Landscape(net, loss, values, reduction=reduction)
    x, y = values
    exact = loss(net(x), y).detach()  # NaN for the divergence of targets that are no probabilities
    torch.testing.assert_close(
        landscape.value(landscape.initial()), exact, rtol=1e-13, atol=0, equal_nan=True
    )


def test_a_score_that_is_a_sum_is_refused(net, values):
    with pytest.raises(ConfigurationError, match="score=MSELoss"):
        Landscape(net, "mse", values, score=nn.MSELoss(reduction="sum"))


def test_reduction_sum_adds_the_batches_up(net, values, reference):
    landscape = Landscape(net, "mse", as_data(values, batch_size=5), reduction="sum")
    theta = points(landscape)[0]
    truth = reference(landscape, partial(F.mse_loss, reduction="sum"), *values)
    torch.testing.assert_close(landscape.value(theta), truth(theta), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        landscape.gradient(theta), torch.func.grad(truth)(theta), rtol=1e-12, atol=1e-14
    )
    torch.testing.assert_close(
        landscape.hessian(theta).dense(),
        torch.autograd.functional.hessian(truth, theta),
        rtol=1e-11,
        atol=1e-12,
    )
    custom = Landscape(
        net,
        lambda output, target: (output - target).abs().sum(),
        as_data(values, batch_size=5),
        reduction="sum",
    )
    l1 = reference(landscape, lambda output, target: (output - target).abs().sum(), *values)
    torch.testing.assert_close(custom.value(theta), l1(theta))


def test_the_penalty_counts_once_however_many_batches_there_are(net, values, reference):
    def penalty(theta):
        return (theta**4).sum() + 0.1 * (theta @ theta)

    truth_of = reference(Landscape(net, "mse", values), F.mse_loss, *values)
    for size in (4, 100):
        landscape = Landscape(net, "mse", as_data(values, batch_size=size), penalty=penalty)
        theta = points(landscape)[0]
        exact = lambda theta: truth_of(theta) + penalty(theta)  # noqa: E731
        torch.testing.assert_close(landscape.value(theta), exact(theta), rtol=1e-13, atol=0)
        torch.testing.assert_close(
            landscape.gradient(theta), torch.func.grad(exact)(theta), rtol=1e-12, atol=1e-14
        )
        dense = landscape.hessian(theta).dense()
        torch.testing.assert_close(
            dense, torch.autograd.functional.hessian(exact, theta), rtol=1e-11, atol=1e-12
        )
        operator = landscape.hessian(theta)
        torch.testing.assert_close(operator.gradient, landscape.gradient(theta), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(operator.value, landscape.value(theta), rtol=1e-13, atol=0)


def test_a_constant_penalty_moves_the_value_alone(net, values):
    plain = Landscape(net, "mse", values)
    shifted = Landscape(net, "mse", values, penalty=lambda theta: 2.0)
    theta = points(plain)[0]
    assert shifted.value(theta) == plain.value(theta) + 2
    assert torch.equal(shifted.gradient(theta), plain.gradient(theta))
    assert torch.equal(shifted.hessian(theta).dense(), plain.hessian(theta).dense())


def test_example_gradients_are_the_gradients_of_batches_of_one(net, classes):
    for penalty in (None, lambda theta: theta @ theta):
        landscape = Landscape(net, "cross_entropy", classes, penalty=penalty)
        theta = points(landscape)[0]
        rows = landscape.example_gradients(theta, classes)
        assert landscape.vectorises
        x, y = classes
        loop = torch.stack([landscape.gradient(theta, (x[i : i + 1], y[i : i + 1])) for i in range(len(x))])
        torch.testing.assert_close(rows, loop, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(rows.mean(0), landscape.gradient(theta), rtol=1e-12, atol=1e-15)


def test_example_gradients_of_a_module_that_looks_at_its_data_are_computed_one_by_one(classes):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()

        def forward(self, x):
            return self.linear(x) if x.sum().item() > 0 else self.linear(2 * x)

    landscape = Landscape(Branching(), "cross_entropy", classes)
    theta = points(landscape)[0]
    rows = landscape.example_gradients(theta, classes)
    assert landscape.vectorises is False
    x, y = classes
    loop = torch.stack([landscape.gradient(theta, (x[i : i + 1], y[i : i + 1])) for i in range(len(x))])
    assert torch.equal(rows, loop)


@pytest.mark.parametrize("on_device", [True, False])
def test_memory_that_does_not_suffice_is_no_reason_to_give_up_vectorising(net, classes, on_device):
    short = True

    def loss(output, target):
        if short and on_device:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if short:
            torch.empty(2**60, dtype=torch.uint8)  # what torch's allocator for the CPU says about this
        return F.cross_entropy(output, target)

    landscape = Landscape(net, loss, classes)
    theta = points(landscape)[0]
    with pytest.raises(torch.OutOfMemoryError if on_device else RuntimeError, match="memory"):
        landscape.example_gradients(theta, classes)
    assert landscape.vectorises is None
    short = False
    landscape.example_gradients(theta, classes)
    assert landscape.vectorises is True


def test_a_loss_inside_the_model_on_mappings_works_everywhere(net, values):
    class SelfScoring(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inputs, wanted, note):
            assert note == "kept as it is"
            return {"loss": F.mse_loss(self.net(inputs), wanted)}

    x, y = values
    data = [
        {"inputs": x[:10], "wanted": y[:10], "note": "kept as it is"},
        {"inputs": x[10:], "wanted": y[10:], "note": "kept as it is"},
    ]
    loss = BatchLoss(lambda model, batch: model(**batch)["loss"])
    landscape = Landscape(SelfScoring(), loss, data)
    plain = Landscape(net, "mse", values)
    theta = points(plain)[0]
    torch.testing.assert_close(landscape.value(theta), plain.value(theta), rtol=1e-13, atol=0)
    torch.testing.assert_close(landscape.gradient(theta), plain.gradient(theta), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        landscape.hessian(theta).dense(), plain.hessian(theta).dense(), rtol=1e-11, atol=1e-14
    )
    torch.testing.assert_close(
        landscape.example_gradients(theta, data[0]), plain.example_gradients(theta, (x[:10], y[:10]))
    )
    assert not landscape.has_score
    assert landscape.score(theta) is None


def test_a_batch_loss_weighs_its_batches_as_it_says(net, classes):
    x, y = classes
    batches = [(x[:3], y[:3]), (x[3:20], y[3:20])]

    def loss(module, batch):
        return F.cross_entropy(module(batch[0]), batch[1])

    landscape = Landscape(net, BatchLoss(loss, weight=lambda batch: 1.0), batches)
    theta = points(landscape)[0]
    apart = torch.stack([landscape.value(theta, batch) for batch in batches])
    torch.testing.assert_close(landscape.value(theta), apart.mean(), rtol=1e-14, atol=0)
    slopes = torch.stack([landscape.gradient(theta, batch) for batch in batches])
    torch.testing.assert_close(landscape.gradient(theta), slopes.mean(0))


class _Energies(nn.Module):
    """Computes the loss of each example, or their mean, itself."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
        self.whole = whole

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        energies = (((self.theta - x) * y) ** 2).sum(1) / 2
        return energies.mean() if self.whole else energies


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_module_can_return_its_own_loss(values, whole, as_mapping):
    x, y = values
    data = {"x": x, "y": y} if as_mapping else (x, y)
    landscape = Landscape(_Energies(whole), "model", as_data(data, batch_size=7))
    theta = points(landscape)[0]
    torch.testing.assert_close(landscape.value(theta), (((theta - x) * y) ** 2).sum(1).mean() / 2)
    torch.testing.assert_close(landscape.gradient(theta), ((theta - x) * y**2).mean(0))
    torch.testing.assert_close(landscape.hessian(theta).dense(), torch.diag((y**2).mean(0)))
    assert not landscape.has_score


def test_the_sum_of_a_modules_own_losses_is_taken_where_sums_are_asked_for(values):
    x, y = values
    landscape = Landscape(_Energies(False), "model", as_data(values, batch_size=7), reduction="sum")
    theta = points(landscape)[0]
    torch.testing.assert_close(landscape.value(theta), (((theta - x) * y) ** 2).sum() / 2)


@pytest.mark.parametrize("form", ["accuracy", "given", "in place", "module", "without"])
def test_value_and_score_are_those_of_the_two_calls_from_one_forward_pass(net, classes, form):
    passes = []
    net.register_forward_hook(lambda *_: passes.append(None))

    def spoils(output, target):
        return F.cross_entropy(output.mul_(2), target)

    loss = spoils if form == "in place" else "cross_entropy" if form != "without" else F.nll_loss
    given = {
        "given": lambda output, target: output.abs().max(),
        "in place": lambda output, target: output.abs().max(),
        "module": BatchLoss(lambda module, batch: module(batch[0]).abs().mean()),
    }
    landscape = Landscape(
        net, loss, as_data(classes, batch_size=7), score=given.get(form), penalty=torch.norm
    )
    theta = points(landscape)[0]
    truth = landscape.value(theta), landscape.score(theta)
    passes.clear()
    value, score = landscape.value_and_score(theta)
    assert len(passes) == (8 if form in ("in place", "module") else 4)  # four batches
    assert torch.equal(value, truth[0])
    assert score is None if form == "without" else torch.equal(score, truth[1])


def test_values_and_scores_of_many_points_are_those_of_each_and_read_the_data_once(net, classes):
    reads = []

    class Counted(torch.utils.data.Dataset):
        def __len__(self):
            return len(classes[0])

        def __getitem__(self, index):
            reads.append(index)
            return classes[0][index], classes[1][index]

    landscape = Landscape(net, "cross_entropy", as_data(Counted(), batch_size=7), penalty=torch.norm)
    thetas = points(landscape)
    apart = [landscape.value_and_score(theta) for theta in thetas]
    assert landscape.has_score
    reads.clear()
    values, scores = landscape.value_and_score(thetas)
    assert reads == list(range(len(classes[0])))
    torch.testing.assert_close(values, torch.stack([value for value, _ in apart]), rtol=1e-14, atol=0)
    assert torch.equal(scores, torch.stack([score for _, score in apart]))
    none = landscape.value_and_score(thetas[:0])
    assert none[0].shape == none[1].shape == (0,)
    without = Landscape(net, F.nll_loss, classes).value_and_score(thetas)
    assert without[0].shape == (3,)
    assert without[1] is None


@pytest.mark.parametrize("kept", ["attribute", "deleted", "nothing"])
def test_what_a_module_keeps_from_call_to_call_does_not_reach_other_points(classes, kept):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
            self.unused = self.cache = None

        def forward(self, x):
            if kept == "attribute":
                if self.cache is None:
                    self.cache = torch.linalg.qr(self.weight)[0]
                return x @ self.cache
            if kept == "deleted" and hasattr(self, "unused"):
                del self.unused
                return x @ self.weight
            return x @ (self.weight if kept == "nothing" else 2 * self.weight)

    net = Caching()
    landscape = Landscape(net, "cross_entropy", classes)
    thetas = points(landscape)
    apart = torch.stack([landscape.value_and_score(theta)[0] for theta in thetas])
    torch.testing.assert_close(landscape.value_and_score(thetas)[0], apart, rtol=1e-14, atol=0)
    assert net.cache is None
    assert net.unused is None


def test_score_is_accuracy_for_class_targets_else_what_was_given(net, classes, values):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=7))
    theta = points(landscape)
    x, y = classes
    for row, one in enumerate(theta):
        output = torch.func.functional_call(net, landscape.layout.split(one), (x,))
        torch.testing.assert_close(landscape.score(theta)[row], (output.argmax(1) == y).double().mean())
    assert Landscape(net, nn.CrossEntropyLoss(), classes).has_score
    soft = Landscape(net, "cross_entropy", (x, F.one_hot(y, 3).double()))
    torch.testing.assert_close(soft.value(theta[0]), landscape.value(theta[0]))
    # The most probable class is the right one, one-hot or smoothed.
    smoothed = soft.on((x, 0.9 * F.one_hot(y, 3).double() + 0.1 / 3))
    assert soft.has_score
    assert torch.equal(soft.score(theta), landscape.score(theta))
    assert torch.equal(smoothed.score(theta), landscape.score(theta))
    regression = Landscape(
        net, "mse", as_data(values, batch_size=5), score=lambda out, y: (out - y).abs().mean()
    )
    error = (
        torch.func.functional_call(net, landscape.layout.split(theta[0]), (values[0],)) - values[1]
    ).abs()
    torch.testing.assert_close(regression.score(theta[0]), error.mean())


def test_a_restriction_varies_the_selected_weights_and_keeps_the_rest(net, values):
    full = Landscape(net, "mse", values, penalty=lambda theta: (theta**3).sum())
    start = points(full)[0]
    part = full.restrict("second.*", at=start)
    chosen = full.layout.indices("second.*")
    theta = start[chosen]
    assert part.size == len(chosen) == 15
    assert torch.equal(part.embed(theta), start)
    assert torch.equal(part.extract(start), theta)
    torch.testing.assert_close(part.value(theta), full.value(start))
    torch.testing.assert_close(part.gradient(theta), full.gradient(start)[chosen])
    block = full.hessian(start).dense()[chosen][:, chosen]
    torch.testing.assert_close(part.hessian(theta).dense(), block, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(
        part.example_gradients(theta, values), full.example_gradients(start, values)[:, chosen]
    )
    smaller = part.restrict("second.bias", at=theta)
    rows = full.layout.indices("second.bias")
    torch.testing.assert_close(smaller.gradient(start[rows]), full.gradient(start)[rows])
    moved = part.with_rest(start + 1)
    assert torch.equal(moved.embed(theta)[chosen], theta)
    torch.testing.assert_close(moved.value((start + 1)[chosen]), full.value(start + 1))
    assert torch.equal(full.restrict("first").initial(), full.initial()[full.layout.indices("first")])
    with pytest.raises(ConfigurationError, match="not a restriction"):
        full.with_rest(start)


def test_the_gradient_of_weights_that_are_not_used_is_zero(values):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(3, 3).double()
            self.spare = nn.Linear(2, 2).double()

        def forward(self, x):
            return self.used(x)

    landscape = Landscape(Spare(), "mse", values)
    gradient = landscape.gradient(landscape.initial())
    spare = landscape.layout.indices("spare")
    assert not gradient[spare].any()
    assert gradient[landscape.layout.indices("used")].all()
    only = landscape.restrict("spare")
    assert not only.gradient(only.initial()).any()
    assert not only.hessian(only.initial()).dense().any()
    assert not only.example_gradients(only.initial(), values).any()


def test_a_loss_cut_off_from_all_weights_is_refused(net, values):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).detach()

    landscape = Landscape(Detached(), "mse", values)
    assert landscape.value(landscape.initial()).isfinite()
    with pytest.raises(ConfigurationError, match="Autograd finds no way from the loss 'mse'"):
        landscape.gradient(landscape.initial())


def test_other_data_is_measured_with_the_same_weights(net, classes):
    x, y = classes
    landscape = Landscape(net, "cross_entropy", (x[:10], y[:10]))
    theta = points(landscape)[0]
    other = landscape.on((x[10:], y[10:]))
    torch.testing.assert_close(other.value(theta), landscape.value(theta, (x[10:], y[10:])))
    assert other.layout is landscape.layout


def test_tied_and_shared_weights_are_differentiated_through_every_use(values):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3).double()
            self.b = nn.Linear(3, 3).double()
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.a(torch.tanh(self.b(torch.tanh(self.a(x)))))

    landscape = Landscape(Shared(), "mse", values)
    assert landscape.size == 9 + 3 + 3
    x, y = values

    def truth(theta):
        weight, first, second = theta[:9].view(3, 3), theta[9:12], theta[12:]
        hidden = torch.tanh(x @ weight.T + first)
        return F.mse_loss(torch.tanh(hidden @ weight.T + second) @ weight.T + first, y)

    theta = points(landscape)[0]
    torch.testing.assert_close(landscape.value(theta), truth(theta), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        landscape.gradient(theta), torch.func.grad(truth)(theta), rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(
        landscape.hessian(theta).dense(),
        torch.autograd.functional.hessian(truth, theta),
        rtol=1e-10,
        atol=1e-13,
    )


def test_dtype_converts_floating_tensors_and_leaves_integers(classes):
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    x, y = classes
    landscape = Landscape(module, "cross_entropy", (x.float(), y), dtype=torch.float64)
    assert landscape.initial().dtype == torch.float64
    assert landscape.gradient(landscape.initial()).dtype == torch.float64
    batch = next(landscape.batches(5))
    assert (batch[0].dtype, batch[1].dtype) == (torch.float64, torch.int64)
    assert module[0].weight.dtype == torch.float32
    single = Landscape(module, "cross_entropy", (x, y))
    assert single.dtype == torch.float32
    assert single.gradient(single.initial()).dtype == torch.float32
    assert single.value(single.initial()).dtype == torch.float64
    torch.testing.assert_close(
        single.value(single.initial()), landscape.value(landscape.initial()), rtol=1e-6, atol=0
    )


def test_a_loss_that_is_a_module_is_moved_with_the_landscape(classes, net):
    weight = torch.tensor([1.0, 2.0, 3.0])
    loss = nn.CrossEntropyLoss(weight=weight)
    landscape = Landscape(net, loss, classes)
    x, y = classes
    truth = F.cross_entropy(net(x), y, weight=weight.double())
    torch.testing.assert_close(landscape.value(landscape.initial()), truth.detach())
    assert loss.weight is weight


def test_nan_and_infinity_come_back_as_they_are(net, values):
    landscape = Landscape(net, "mse", values)
    assert landscape.value(torch.full((landscape.size,), torch.nan)).isnan()
    assert landscape.value(landscape.initial() * 1e200).isinf()


class Checkpointed(nn.Module):
    """Computes a part of itself again when it is differentiated."""

    def __init__(self, again=True):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)
        self.again = again

    def inner(self, x):
        return torch.tanh(self.first(x)) * self.first(x)

    def forward(self, x):
        hidden = checkpoint(self.inner, x, use_reentrant=False) if self.again else self.inner(x)
        return self.second(torch.tanh(hidden))


def both(*arguments, **options):
    torch.manual_seed(0)
    nets = [Checkpointed(again).double() for again in (True, False)]
    nets[1].load_state_dict(nets[0].state_dict())
    return [Landscape(net, *arguments, **options) for net in nets]


@pytest.mark.parametrize("restricted", [False, True])
def test_the_graph_of_a_differentiable_value_gives_first_and_second_derivatives(values, restricted):
    landscape, plain = both("mse", values, penalty=lambda theta: (theta**4).sum())
    if restricted:
        landscape, plain = landscape.restrict("first"), plain.restrict("first")
    theta = points(landscape)[0].requires_grad_()
    with landscape.differentiable_value(theta, values) as value:
        (gradient,) = torch.autograd.grad(value, theta, create_graph=True)
        rows = [torch.autograd.grad(entry, theta, retain_graph=True)[0] for entry in gradient]
    torch.testing.assert_close(value.detach(), plain.value(theta, values), rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient.detach(), plain.gradient(theta, values), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(torch.stack(rows), plain.hessian(theta).dense(), rtol=1e-11, atol=1e-14)


def test_a_differentiable_value_leaves_no_trace_and_takes_weights_of_any_type(net, values, snapshot):
    landscape = Landscape(net, "mse", values)
    theta = points(landscape)[0].float().requires_grad_()
    doubled = theta * 2
    before = snapshot(net)
    with torch.no_grad(), landscape.differentiable_value(doubled, values) as value:
        (gradient,) = torch.autograd.grad(value, theta)
        assert not (theta * 2).requires_grad
    assert snapshot(net) == before
    torch.testing.assert_close(gradient, 2 * landscape.gradient(doubled).float())
    with landscape.differentiable_value(theta.detach(), values) as value:
        assert not value.requires_grad


def test_a_differentiable_value_is_differentiated_in_its_own_context_or_not_at_all(values):
    landscape, plain = both("mse", values)
    theta, other = (row.requires_grad_() for row in points(landscape)[:2])
    with landscape.differentiable_value(theta, values) as value:
        with landscape.differentiable_value(other, values) as inner:
            with pytest.raises(ConfigurationError, match="not in place"):
                torch.autograd.grad(value, theta)
            torch.autograd.grad(inner, other)
        landscape.gradient(other)
        (gradient,) = torch.autograd.grad(value, theta, retain_graph=True)
    torch.testing.assert_close(gradient, plain.gradient(theta), rtol=1e-12, atol=1e-15)
    with pytest.raises(ConfigurationError, match="not in place"):
        torch.autograd.grad(value, theta)
    for wrong in (torch.zeros(4), torch.zeros(2, landscape.size)):
        with (
            pytest.raises(ConfigurationError, match="Weights of shape"),
            landscape.differentiable_value(wrong, values),
        ):
            pass


def test_checkpointed_activations_give_the_derivatives_of_plain_ones_everywhere(values):
    data = as_data(values, batch_size=9)
    landscape, plain = both("mse", data)
    thetas = points(landscape)
    torch.testing.assert_close(landscape.value(thetas), plain.value(thetas), rtol=1e-13, atol=0)
    for engine in ("auto", "loop"):
        torch.testing.assert_close(
            landscape.with_engine(engine).gradient(thetas), plain.gradient(thetas), rtol=1e-12, atol=1e-15
        )
    with pytest.raises(ConfigurationError, match="engine='loop'"):
        landscape.with_engine("traced").gradient(thetas)
    rows = landscape.example_gradients(thetas[0], values)
    torch.testing.assert_close(rows, plain.example_gradients(thetas[0], values), rtol=1e-11, atol=1e-14)
    exact = plain.hessian(thetas[0]).dense()
    for memory in (None, 0):
        operator = landscape.hessian(thetas[0], memory=memory)
        landscape.gradient(thetas[1])
        torch.testing.assert_close(operator.dense(), exact, rtol=1e-11, atol=1e-14)
    part = plain.restrict("second", thetas[0])
    torch.testing.assert_close(
        landscape.restrict("second", thetas[0]).hessian(part.extract(thetas[0])).dense(),
        part.hessian(part.extract(thetas[0])).dense(),
        rtol=1e-11,
        atol=1e-14,
    )


def test_wrong_arguments_are_named_with_their_cure(net, classes, values):
    landscape = Landscape(net, "cross_entropy", classes)
    with pytest.raises(ConfigurationError, match=r"last dimension must be 31"):
        landscape.value(torch.zeros(4))
    with pytest.raises(ConfigurationError, match="for K points"):
        landscape.value(torch.zeros(2, 2, 31))
    with pytest.raises(ConfigurationError, match="Did you mean 'cross_entropy'"):
        Landscape(net, "crossentropy", classes)
    with pytest.raises(ConfigurationError, match="reduction='max'"):
        Landscape(net, "mse", values, reduction="max")
    with pytest.raises(ConfigurationError, match="floating"):
        Landscape(net, "mse", values, dtype=torch.int64)
    with pytest.raises(DataError, match=r"unsqueeze"):
        Landscape(nn.Linear(3, 1).double(), "mse", (values[0], values[0][:, 0])).value(torch.zeros(4))
    with pytest.raises(ConfigurationError, match=r"returned shape \(23, 3\)"):
        Landscape(net, lambda output, y: output - y, values).value(landscape.initial())
    with pytest.raises(DataError, match="BatchLoss"):
        Landscape(net, "mse", {"x": values[0], "y": values[1]}).value(landscape.initial())
    with pytest.raises(ConfigurationError, match="is no loss"):
        Landscape(net, 3, values)
    with pytest.raises(ConfigurationError, match="defined at one point"):
        landscape.hessian(torch.zeros(2, 31))
