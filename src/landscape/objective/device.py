"""Where to compute: devices that are there."""

from __future__ import annotations

from typing import Any

import torch

from landscape.errors import ConfigurationError

__all__ = ["usable_device"]


def usable_device(device: Any) -> torch.device:
    """Return the device that `device` names, once torch has used it.

    Raises
    ------
    ConfigurationError
        With what torch says, and what there is.

    Examples
    --------
    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
        # A meta tensor has a shape and no numbers.
        usable = found.type != "meta" and torch.empty(0, device=found) is not None
        reason = "it holds no numbers"
    except (RuntimeError, AssertionError, TypeError) as error:
        usable, reason = False, str(error).splitlines()[0].rstrip(".")
    if not usable:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ConfigurationError(
            f"device={device!r} cannot be used here ({reason}); there is {', '.join(there)}."
        )
    return found
