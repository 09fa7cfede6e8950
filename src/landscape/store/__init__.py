"""What a run leaves on disk, and the promises about it.

`RunStore` is a folder of runs, `RunDirectory` one of them, `SnapshotSpan` the affine space its weight
snapshots span. Everything on disk is JSON or safetensors; nothing is ever unpickled. A process that dies at
any moment leaves a store whose every file is either the old one or the new one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.store.directory import RunDirectory as RunDirectory
    from landscape.store.records import ArrayRecord as ArrayRecord
    from landscape.store.records import Snapshot as Snapshot
    from landscape.store.runstore import RunStore as RunStore
    from landscape.store.span import SnapshotSpan as SnapshotSpan
    from landscape.store.state import decode as decode
    from landscape.store.state import encode as encode
    from landscape.store.state import read_state as read_state
    from landscape.store.state import write_state as write_state

# Imported on first use: listing the runs of a store must not cost the import of torch.
_HOMES = {
    "ArrayRecord": "records",
    "RunDirectory": "directory",
    "RunStore": "runstore",
    "Snapshot": "records",
    "SnapshotSpan": "span",
    "decode": "state",
    "encode": "state",
    "read_state": "state",
    "write_state": "state",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
