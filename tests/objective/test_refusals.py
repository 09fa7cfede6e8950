"""Wrong arguments of a landscape are refused early, by a typed error that names the value and the cure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from landscape.errors import ConfigurationError, DataError
from landscape.objective import BatchLoss, Landscape, Layout

X = torch.linspace(-1, 1, 12).view(6, 2)
Y = X.sum(1, keepdim=True)


def landscape(**changes):
    return Landscape(**({"module": nn.Linear(2, 1), "loss": "mse", "data": (X, Y)} | changes))


class Integers(nn.Module):
    """Has a constant of whole numbers."""

    def __init__(self):
        super().__init__()
        self.bits = nn.Parameter(torch.ones(2, 1, dtype=torch.int64), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * (x @ self.bits.to(x.dtype))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": None}, "module=None is no module; give a torch.nn.Module"),
        ({"module": "MLP"}, "module='MLP' is no module"),
        ({"module": nn.Linear}, "is no module; give an instance"),
        ({"module": lambda x: x}, "is no module"),
        ({"dtype": "float64"}, r"dtype='float64': .*torch\.float64"),
        ({"dtype": float}, "dtype=<class 'float'>"),
        ({"dtype": torch.complex64}, "weights are real"),
        ({"device": "nope"}, r"device='nope' cannot be used here \(.*\); there is cpu"),
        ({"device": "meta"}, r"device='meta' cannot be used here \(it holds no numbers\)"),
        ({"device": 2.5}, r"device=2\.5 cannot be used here"),
        ({"penalty": 3}, r"penalty=3 is no function; give one that is called as penalty\(theta\)"),
        ({"penalty": lambda: 0}, r"cannot be called as penalty\(theta\): too many positional arguments"),
        ({"score": "accuracy"}, "score='accuracy' is no score"),
        ({"score": lambda output: 0}, r"cannot be called as score\(output, target\)"),
        ({"loss": nn.MSELoss}, r"is a class; give an instance, MSELoss\(\)"),
        ({"loss": lambda output: 0}, r"cannot be called as loss\(output, target\)"),
        ({"group": 3}, "group=3 is no process group"),
        ({"data": "train.csv"}, None),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_evaluated(changes, message):
    with pytest.raises(DataError if message is None else ConfigurationError, match=message):
        landscape(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an accelerator")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match=r"device='cuda' cannot be used here .*there is cpu\."):
        landscape(device="cuda")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_compiled_by_torchscript_are_refused():
    for compiled in (torch.jit.script(nn.Linear(2, 1)), torch.jit.trace(nn.Linear(2, 1), X)):
        with pytest.raises(ConfigurationError, match=r"module was compiled by TorchScript \(Linear\)"):
            landscape(module=compiled)
        with pytest.raises(ConfigurationError, match="submodule '0' was compiled"):
            landscape(module=nn.Sequential(compiled))


def test_parameters_of_whole_numbers_are_constants():
    line = landscape(module=Integers())
    assert line.layout.names == ("scale",)
    assert line.value(torch.ones(1)).item() == pytest.approx(0, abs=1e-12)
    gradient = line.gradient(torch.zeros(1))
    assert gradient.item() == pytest.approx(-2 * Y.square().mean().item(), rel=1e-6)


def test_functions_of_a_batch_loss_are_checked_when_it_is_made():
    with pytest.raises(ConfigurationError, match=r"BatchLoss\(fn\)=3 is no function; .*fn\(module, batch\)"):
        BatchLoss(3)
    with pytest.raises(ConfigurationError, match=r"BatchLoss\(weight\)=3 is no function; .*weight\(batch\)"):
        BatchLoss(lambda module, batch: 0, 3)
    with pytest.raises(ConfigurationError, match=r"cannot be called as fn\(module, batch\)"):
        BatchLoss(lambda batch: 0)


@pytest.mark.parametrize(
    "weight", [-1.0, float("nan"), float("inf"), "a", None, torch.ones(3), torch.tensor(-1)]
)
@pytest.mark.parametrize("call", ["value", "gradient", "hessian"])
def test_weights_of_batches_that_are_no_weights_are_refused(weight, call):
    batches = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    loss = BatchLoss(
        lambda module, batch: (module(batch[0]) - batch[1]).square().mean(), lambda batch: weight
    )
    weighted = landscape(loss=loss, data=batches)
    with pytest.raises(
        ConfigurationError, match=r"BatchLoss\(weight\) returned .*one finite number, at least 0"
    ):
        getattr(weighted, call)(weighted.initial())


@pytest.mark.parametrize("call", ["value", "gradient"])
def test_a_mean_over_nothing_is_refused(call):
    batches = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    loss = BatchLoss(lambda module, batch: (module(batch[0]) - batch[1]).square().mean(), lambda batch: 0)
    weighted = landscape(loss=loss, data=batches)
    with pytest.raises(DataError, match="split 'train' count 0 together"):
        getattr(weighted, call)(weighted.initial())
    classes = [(X[:3], torch.full((3,), -100)), (X[3:], torch.full((3,), -100))]
    ignored = landscape(module=nn.Linear(2, 3), loss="cross_entropy", data=classes)
    with pytest.raises(DataError, match="Are all targets ignored"):
        getattr(ignored, call)(ignored.initial())


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (torch.zeros(3) + 0j, "dtype torch.complex64; a landscape is a function of real weights"),
        (np.zeros(3), r"got a ndarray: torch.as_tensor"),
        ([0.0, 0.0, 0.0], "got a list"),
        (None, "got a NoneType"),
        (nn.Linear(2, 1).state_dict(), r"got a OrderedDict: layout.flatten\(...\)"),
        (torch.zeros(4), r"shape \(4,\) do not fit a layout of 3"),
        (torch.tensor(1.0), r"shape \(\) do not fit"),
        (torch.zeros(2, 2, 3), r"shape \(2, 2, 3\)"),
    ],
    ids=["complex", "array", "list", "none", "mapping", "long", "number", "cube"],
)
@pytest.mark.parametrize(
    "call",
    ["value", "gradient", "value_and_gradient", "hessian", "embed", "value_and_score", "example_gradients"],
)
def test_weights_that_are_no_weights_are_refused(call, theta, message):
    arguments = [(X, Y)] if call == "example_gradients" else []
    with pytest.raises(ConfigurationError, match=message):
        getattr(landscape(), call)(theta, *arguments)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (3, "3 is no pattern of parameter names"),
        (None, "None is no pattern"),
        (["weight", 3], "3 is no pattern"),
        ("wieght", "No trainable parameter matches 'wieght'. Did you mean 'weight'"),
        ([], "at least one pattern"),
    ],
)
def test_patterns_that_select_nothing_are_refused(pattern, message):
    with pytest.raises(ConfigurationError, match=message):
        landscape().restrict(pattern)


def test_rests_and_buffers_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="got a list"):
        landscape().restrict("weight", at=[0.0] * 3)
    with pytest.raises(ConfigurationError, match="got a list"):
        landscape().restrict("weight").with_rest([0.0] * 3)
    normalised = landscape(module=nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)))
    with pytest.raises(ConfigurationError, match="Buffers are tensors by name"):
        normalised.with_buffers(3)
    with pytest.raises(ConfigurationError, match=r"Buffer '0\.running_mean' is a list"):
        normalised.with_buffers({"0.running_mean": [0.0, 0.0]})


def test_a_layout_takes_tensors_by_name_and_modules():
    layout = Layout.of(nn.Linear(2, 1))
    with pytest.raises(ConfigurationError, match="got a int"):
        layout.flatten(3)
    with pytest.raises(ConfigurationError, match="Parameter 'weight' is a int"):
        layout.flatten({"weight": 3, "bias": 3})
    with pytest.raises(ConfigurationError, match="module=None is no module"):
        layout.vector(None)


class Pair(nn.Module):
    """Returns more than one thing."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, x):
        return self.line(x), x


@pytest.mark.parametrize("call", ["value", "gradient"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            torch.ones(6),
            r"output has shape \(6, 3\), the target \(6,\) and torch.float32; give class numbers",
        ),
        (torch.ones(6, dtype=torch.int32), "torch.int32; give class numbers of shape .*int64"),
        (torch.ones(6, 1, dtype=torch.int64), r"the target \(6, 1\)"),
        (torch.tensor([0, 1, 2, 0, 5, 1]), r"holds the class 5, and the output has 3 classes, 0 to 2"),
        (torch.tensor([0, 1, -1, 0, 2, 1]), "holds the class -1"),
    ],
)
def test_targets_that_are_no_classes_are_named(call, target, message):
    classifier = landscape(module=nn.Linear(2, 3), loss="cross_entropy", data=(X, target))
    with pytest.raises(DataError, match=message):
        getattr(classifier, call)(classifier.initial())


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_outputs_that_are_no_tensor_are_named(loss):
    pair = landscape(module=Pair(), loss=loss)
    with pytest.raises(DataError, match=f"{loss}: the output is a tuple, not a tensor"):
        pair.value(pair.initial())


def test_a_seed_of_a_stream_is_a_whole_number():
    with pytest.raises(ConfigurationError, match="seed='a'"):
        landscape().stream(2, "a")


def test_an_error_of_the_users_own_code_says_on_what_batch():
    landscape = Landscape(nn.Linear(8, 3), "cross_entropy", (torch.randn(4, 5), torch.arange(4) % 3))
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        landscape.value(landscape.initial())
    assert caught.value.__notes__ == [
        "In the cross_entropy of Linear on a batch of [0] float32 (4, 5), [1] int64 (4,)."
    ]
