"""Check the import contracts of pyproject.toml; nothing of the workspace has to be installed for it.

import-linter reads sources and runs none of them, so the folders on the search path are enough:

    python tools/lint_imports.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from importlinter.cli import lint_imports

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    os.chdir(root)
    sys.path[:0] = map(str, [root / "src", *sorted(root.glob("plugins/*/src"))])
    sys.exit(lint_imports(no_cache=True))
