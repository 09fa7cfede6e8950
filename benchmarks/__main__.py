"""``python -m benchmarks [NAME ...]`` runs the named benchmarks, all of them by default."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    known = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    names = sys.argv[1:] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"There is no benchmark named {unknown[0]!r}; there are {', '.join(known)}.")
    for name in names:
        import_module(f"benchmarks.{name}").main([])


if __name__ == "__main__":
    main()
