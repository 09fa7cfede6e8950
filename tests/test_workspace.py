"""The repository as a whole: what its distributions must have in common."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

import landscape

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))
DISTRIBUTIONS = [ROOT, *PLUGINS, *EXAMPLES]

every_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)


def pyproject(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def packages(folder: Path) -> list[Path]:
    """The packages that the wheel of a distribution contains."""
    wheel = pyproject(folder)["tool"]["hatch"]["build"]["targets"]["wheel"]
    return [folder / package for package in wheel["packages"]]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------------------------------------
# Every distribution
# ---------------------------------------------------------------------------------------------------------


@every_distribution
def test_all_distributions_have_the_version_of_the_core(folder: Path) -> None:
    assert pyproject(folder)["project"]["version"] == landscape.__version__


@every_distribution
def test_distributions_are_named_after_their_folders(folder: Path) -> None:
    assert pyproject(folder)["project"]["name"] == ("landscape-core" if folder == ROOT else folder.name)


@every_distribution
def test_what_a_distribution_asks_of_its_siblings_is_the_same_version(folder: Path) -> None:
    project = pyproject(folder)["project"]
    optional = project.get("optional-dependencies", {}).values()
    lines = [*project["dependencies"], *chain.from_iterable(optional)]
    siblings = {pyproject(other)["project"]["name"] for other in DISTRIBUTIONS}
    for requirement in map(Requirement, lines):
        if requirement.name in siblings:
            assert requirement.specifier.contains(landscape.__version__), requirement


@every_distribution
def test_every_package_carries_py_typed(folder: Path) -> None:
    for package in packages(folder):
        assert (package / "py.typed").is_file(), package


@every_distribution
def test_every_distribution_carries_its_licence_and_a_readme(folder: Path) -> None:
    project = pyproject(folder)["project"]
    assert project["license"]
    assert "License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (folder / project["readme"]).read_text(encoding="utf-8").startswith("# ")


@every_distribution
def test_every_dependency_says_why_it_is_there(folder: Path) -> None:
    """Requirements stand one on a line, and the line goes on with a comment."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    tables = pyproject(folder)
    lists = [
        tables["build-system"]["requires"],
        tables["project"]["dependencies"],
        *(value for key, value in tables["project"].get("optional-dependencies", {}).items() if key != "all"),
        *tables.get("dependency-groups", {}).values(),
    ]
    for line in chain.from_iterable(lists):
        stands = rf'"{re.escape(line)}"[^"\n]*#[^\n]*\w{{3}}'
        assert re.search(stands, text), f"{folder.name}: {line!r} has no comment"


def test_the_numbers_of_the_citation_are_those_of_the_core() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {landscape.__version__}\n" in citation


# ---------------------------------------------------------------------------------------------------------
# The workspace
# ---------------------------------------------------------------------------------------------------------


def test_the_workspace_installs_every_plugin() -> None:
    lines = (ROOT / "requirements/workspace.txt").read_text(encoding="utf-8").splitlines()
    editables = {line.removeprefix("-e ") for line in lines if line.startswith("-e ")}
    assert editables == {".[all]", *(f"./plugins/{folder.name}" for folder in PLUGINS)}


def test_the_extra_all_names_plugins_of_the_workspace() -> None:
    named = {Requirement(line).name for line in pyproject(ROOT)["project"]["optional-dependencies"]["all"]}
    assert named <= {folder.name for folder in PLUGINS}


def test_the_oldest_tested_releases_are_the_lower_bounds_of_the_distributions() -> None:
    bounds: dict[str, set[str]] = {}
    for folder in [ROOT, *PLUGINS]:
        project = pyproject(folder)["project"]
        for line in project["dependencies"]:
            requirement = Requirement(line)
            for specifier in requirement.specifier:
                if specifier.operator == ">=":
                    bounds.setdefault(requirement.name, set()).add(specifier.version)
    bounds.pop("torch")  # one build for every environment, see constraints.txt
    lines = (ROOT / "requirements/minimum.txt").read_text(encoding="utf-8").splitlines()
    oldest = [line for line in lines if line and not line.startswith("#")]
    assert oldest == sorted(f"{name}=={version}" for name, versions in bounds.items() for version in versions)


def test_import_linter_knows_every_plugin() -> None:
    settings = pyproject(ROOT)["tool"]["importlinter"]
    names = {package.name for folder in PLUGINS for package in packages(folder)}
    assert set(settings["root_packages"]) == {"landscape", *names}
    for contract in settings["contracts"]:
        if contract["type"] == "forbidden":
            assert set(contract["forbidden_modules"]) == names
        if contract["type"] == "independence":
            assert set(contract["modules"]) == names


def test_the_import_contracts_are_kept() -> None:
    command = [sys.executable, "tools/lint_imports.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_hooks_before_a_commit_use_the_releases_that_ci_uses() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for name in ("ruff", "codespell"):
        pinned = re.search(rf"^{name}==(\S+)$", constraints, re.MULTILINE)
        hooked = re.search(rf"/{name}(?:-pre-commit)?\n\s+rev: v(\S+)", hooks)
        assert pinned is not None
        assert hooked is not None
        assert pinned[1] == hooked[1], name


def test_changelog_fragments_say_what_they_are_about_and_of_what_kind() -> None:
    kinds = [kind["directory"] for kind in pyproject(ROOT)["tool"]["towncrier"]["type"]]
    name = re.compile(rf"\+[a-z0-9-]+\.({'|'.join(kinds)})\.md")
    for path in (ROOT / "changelog.d").glob("*.md"):
        if path.name == "README.md":
            continue
        assert name.fullmatch(path.name), f"{path.name} is not +<about>.<{' | '.join(kinds)}>.md"
        text = path.read_text(encoding="utf-8").strip()
        assert text.endswith("."), f"{path.name} is not a sentence"


# ---------------------------------------------------------------------------------------------------------
# The scripts
# ---------------------------------------------------------------------------------------------------------


def test_ci_script_is_an_executable_that_bash_can_read() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.fixture
def dist_info(tmp_path: Path) -> Path:
    """Metadata as an installer leaves them."""
    folder = tmp_path / "landscape_toy-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: landscape-toy\nVersion: 1.0\n"
        "Requires-Dist: landscape-core==1.0\nRequires-Dist: sympy>=1.12; extra == 'algebra'\n"
    )
    (folder / "entry_points.txt").write_text(
        "[console_scripts]\ntoy = landscape_toy:main\n\n[landscape.probes]\nToy = landscape_toy:Toy\n"
    )
    return folder


TOY = """
version = "1.0"
dependencies = ["landscape-core==1.0"]
optional-dependencies.algebra = ["sympy >= 1.12"]
scripts.toy = "landscape_toy:main"
entry-points."landscape.probes".Toy = "landscape_toy:Toy"
"""


def test_refresh_leaves_unchanged_metadata_alone(dist_info: Path) -> None:
    refresh = tool("refresh_editable")
    found = importlib.metadata.Distribution.at(dist_info)
    assert refresh.declared(tomllib.loads(TOY)) == refresh.installed(found)


@pytest.mark.parametrize(
    "edit",
    [
        ('version = "1.0"', 'version = "1.1"'),
        ("sympy >= 1.12", "sympy >= 1.13"),
        ("probes", "walkers"),
        ('.Toy = "landscape_toy:Toy"', '.Toy = "landscape_toy.deeper:Toy"'),
        ("scripts.toy", "scripts.toys"),
    ],
    ids=["version", "dependency", "group", "value", "script"],
)
def test_refresh_notices_what_an_installation_copies(dist_info: Path, edit: tuple[str, str]) -> None:
    refresh = tool("refresh_editable")
    found = importlib.metadata.Distribution.at(dist_info)
    assert refresh.declared(tomllib.loads(TOY.replace(*edit))) != refresh.installed(found)


def test_no_editable_distribution_of_this_environment_is_out_of_date() -> None:
    refresh = tool("refresh_editable")
    for folder, project in refresh.workspace(ROOT):
        found = importlib.metadata.distribution(project["name"])
        assert refresh.installed(found) == refresh.declared(project), folder.name
