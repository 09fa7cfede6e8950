"""State dictionaries from files, without unpickling code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_checkpoint"]

# Where training programs put the weights inside a larger checkpoint.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """Return the state dictionary in a checkpoint.

    Parameters
    ----------
    path
        A ``.safetensors`` file or a file written by ``torch.save``. Of the latter only tensors and plain
        containers are read (``weights_only=True``); no code in the file runs. A state dictionary under one of
        the usual keys (``state_dict``, ``model`` ...) is found.

    Raises
    ------
    landscape.errors.DataError
        If there is no such file, it cannot be read that way, or holds no state dictionary.
    """
    import torch

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
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}). Save the weights alone, "
            "with torch.save(module.state_dict(), path) or safetensors."
        ) from error
    found = _state_dict(content)
    if found is None:
        raise DataError(
            f"{path} holds no state dictionary: looked at the top and under {', '.join(_USUAL_KEYS)}. "
            "Save the weights alone, with torch.save(module.state_dict(), path)."
        )
    return found


def _state_dict(content: Any) -> Mapping[str, Tensor] | None:
    import torch

    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        # Modules trained in DistributedDataParallel carry one more level in every name.
        return {str(name).removeprefix("module."): value for name, value in content.items()}
    for key in _USUAL_KEYS:
        if key in content and (found := _state_dict(content[key])) is not None:
            return found
    return None
