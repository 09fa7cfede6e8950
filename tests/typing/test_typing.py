"""Type checkers see the facade, and the components of this project by their names."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import landscape
from landscape.plugins import KINDS

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "src/landscape/namespaces.pyi"

# The libraries below are large, and this is not about them.
SETTINGS = """
[mypy]
strict = true
warn_unused_ignores = true
[mypy-torch.*,numpy.*,pandas.*,scipy.*,matplotlib.*,sklearn.*,numba.*,sympy.*,rich.*,cattrs.*]
follow_imports = skip
ignore_missing_imports = true
"""


def test_user_code_type_checks(tmp_path):
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS)
    options = ["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(Path(__file__).with_name("user_code.py"))],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_says_what_the_entry_points_say():
    declared = {}
    classes = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = {
                entry.target.id: ast.unparse(entry.annotation)
                for entry in node.body
                if isinstance(entry, ast.AnnAssign)
            }
        elif isinstance(node, ast.AnnAssign):
            declared[node.target.id] = classes.get(ast.unparse(node.annotation), {})
    installed = {kind: {} for kind in KINDS}
    for path in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        groups = tomllib.loads(path.read_text())["project"].get("entry-points", {})
        for kind in KINDS:
            points = groups.get(f"landscape.{kind}", {})
            installed[kind] |= {name: f"type[{value.replace(':', '.')}]" for name, value in points.items()}
    installed["studies"] = {}  # functions, whose types a namespace cannot repeat
    assert declared == installed


def test_the_facade_declares_every_public_name():
    declared = set()
    for node in ast.walk(ast.parse(Path(landscape.__file__).read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in node.body:
                names = each.targets if isinstance(each, ast.Assign) else each.names
                declared |= {getattr(name, "asname", None) or ast.unparse(name) for name in names}
    assert declared - {"open_run"} == set(landscape.__all__)
