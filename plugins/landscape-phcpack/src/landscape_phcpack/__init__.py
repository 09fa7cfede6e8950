"""PHCpack as a solver of polynomial systems, and mixed volumes as bounds on their solutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape_phcpack.volumes import MixedVolumes as MixedVolumes
    from landscape_phcpack.volumes import mixed_volumes as mixed_volumes

__all__ = ["MixedVolumes", "mixed_volumes"]


def __getattr__(name: str) -> Any:
    # Hooks are loaded with every run; numpy and the polynomial systems only when they are needed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from landscape_phcpack import volumes

    return getattr(volumes, name)
