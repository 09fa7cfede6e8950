"""State dictionaries: read from files without unpickling code, and put on a landscape."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import ConfigurationError, DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["placed", "read_checkpoint", "transferred"]

# Where training programs put the weights inside a larger checkpoint.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Return the state dictionary in a checkpoint.

    Parameters
    ----------
    path
        A ``.safetensors`` file or a file written by ``torch.save``. Of the latter only tensors and plain
        containers are read (``weights_only=True``); no code in the file runs. A state dictionary under one of
        the usual keys (``state_dict``, ``model`` ...) is found. A snapshot that a run of one worker recorded has
        its weights as a vector, and their names and shapes beside it; on a restricted landscape, the other
        parameters by name.

    Raises
    ------
    landscape.errors.DataError
        If there is no such file, it cannot be read that way, or holds no state dictionary.
    """
    import torch

    if path.is_dir():
        raise DataError(f"{path} is a folder; give the files of weights in it.")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a checkpoint: {_why(error)}. Save the weights alone, "
            "with torch.save(module.state_dict(), path) or safetensors."
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("0"), torch.Tensor) and content["0"].ndim == 1:
        content = _of_snapshot(path, content)
    found = _state_dict(content)
    if found is None:
        raise DataError(
            f"{path} holds no state dictionary: looked at the top and under {', '.join(_USUAL_KEYS)}. "
            "Save the weights alone, with torch.save(module.state_dict(), path)."
        )
    return found


def _of_snapshot(path: Path, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights and buffers by name of a snapshot that a run wrote.

    Raises
    ------
    landscape.errors.DataError
        If it holds several points, or does not say what its weights are called.
    """
    import torch

    from landscape.store.tensors import metadata_of

    labels = [name for name in content if "/" not in name]
    if labels != ["0"]:
        raise DataError(
            f"{path} is a snapshot of a run, with the weights of {', '.join(sorted(labels))}: which of them is not "
            "said. Measure at all of them with `landscape probe RUN --probe ...`, the run's own model and data being "
            "known, or at one with ls.measure(landscape, probes, at=snapshot.weights('0'))."
        )
    layout = (metadata_of(path) or {}).get("layout") if path.suffix == ".safetensors" else None
    vector = content["0"]
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in layout or ()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    if not shapes or sum(sizes) != len(vector):
        raise DataError(
            f"{path} is a snapshot of a run that does not say what its {len(vector)} weights are called; measure at "
            "them as a vector: ls.measure(landscape, probes, at=snapshot.weights('0'))."
        )
    parts = zip(shapes.items(), torch.split(vector, sizes), strict=True)
    # Buffers of all points first, then those of this one.
    buffers = {
        name.removeprefix(prefix): tensor
        for prefix in ("buffer/all/", "buffer/0/")
        for name, tensor in content.items()
        if name.startswith(prefix)
    }
    # Of a restricted landscape the vector is a part of the network; the rest stands beside it by name.
    rest = {
        name.removeprefix("rest/"): tensor for name, tensor in content.items() if name.startswith("rest/")
    }
    return {name: part.reshape(shape) for (name, shape), part in parts} | rest | buffers


def _why(error: Exception) -> str:
    """Return why a checkpoint was not read, without torch's advice to unpickle it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"it holds an object of {refused[1].rstrip('.')}, and objects are not unpickled, because a file can run "
            "any code in that way"
        )
    return "it is damaged, or was not written by torch.save or safetensors"


def _state_dict(content: Any) -> Mapping[str, Tensor] | None:
    import torch

    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        names = [str(name) for name in content]
        # Modules trained in DistributedDataParallel, or compiled, carry one more level in every name.
        for prefix in ("module.", "_orig_mod."):
            if all(name.startswith(prefix) for name in names):
                names = [name.removeprefix(prefix) for name in names]
        return dict(zip(names, content.values(), strict=True))
    for key in _USUAL_KEYS:
        if key in content and (found := _state_dict(content[key])) is not None:
            return found
    return None


def placed(landscape: Landscape, state: Mapping[str, Tensor]) -> tuple[Landscape, Tensor]:
    """Return the landscape whose buffers, and weights that stay, are those of a state dictionary; and theta.

    Raises
    ------
    landscape.errors.DataError
        If names or shapes are not the module's, or parameters that it keeps frozen differ from it.
    """
    import torch

    parameters = dict(landscape.module.named_parameters(remove_duplicate=False))
    buffers = dict(landscape.module.named_buffers(remove_duplicate=False))
    strange = [name for name in state if name not in parameters and name not in buffers]
    if strange:
        own = [*parameters, *buffers]
        shown = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
        # Between two networks that share few names, the nearest name is an accident.
        hint = nearest(strange[0], own) if 2 * len(strange) < len(state) else ""
        raise DataError(
            f"The state dictionary has {strange[0]!r} ({len(strange)} of {len(state)} names are as strange), which the "
            f"module, a {type(landscape.module).__name__} of {shown}, has not: it belongs to another network.{hint}"
        )
    try:
        weights = landscape.full_layout.flatten(state)
        here = landscape.with_buffers({name: state[name] for name in buffers if name in state})
    except ConfigurationError as error:
        # What a training keeps frozen is in no snapshot.
        missing = any(name not in state for name in landscape.full_layout.names)
        cure = (
            " Give a checkpoint of all parameters: torch.save(module.state_dict(), path)." if missing else ""
        )
        raise DataError(
            f"The state dictionary does not fit {type(landscape.module).__name__}: {error}{cure}"
        ) from error
    for name, parameter in parameters.items():
        if (
            not parameter.requires_grad
            and name in state
            and not torch.equal(state[name].to(parameter), parameter)
        ):
            raise DataError(
                f"The state dictionary has another {name!r} than the module, which keeps it frozen "
                "(requires_grad=False). Load it into the module before making the landscape."
            )
    weights = weights.to(landscape.device, landscape.dtype)
    if landscape.layout != landscape.full_layout:
        here = here.with_rest(weights)
    return here, here.extract(weights)


def transferred(landscape: Landscape, state: Mapping[str, Tensor], theta: Tensor) -> tuple[Tensor, list[str]]:
    """Take over what fits.

    Parameters
    ----------
    landscape
        Whose weights are wanted.
    state
        Weights of another network, by name.
    theta
        Weights that stay where nothing fits, shape (P,).

    Returns
    -------
    theta, left
        The weights, shape (P,), and a phrase for every parameter that was left as it was.

    Raises
    ------
    landscape.errors.DataError
        If nothing fits at all.
    """
    own = {name: part.clone() for name, part in landscape.layout.split(theta).items()}
    left = []
    for name, part in own.items():
        if name not in state:
            left.append(f"{name} (not there)")
        elif state[name].shape != part.shape:
            left.append(f"{name} ({tuple(state[name].shape)} there, {tuple(part.shape)} here)")
        else:
            part.copy_(state[name])
    if len(left) == len(own):
        raise DataError(
            f"No parameter of {type(landscape.module).__name__} has its name and shape in the other network: "
            f"{', '.join(left[:6])}."
        )
    return landscape.layout.flatten(own), left
