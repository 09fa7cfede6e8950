"""The example plugin, built and installed as a stranger's: what it takes is metadata, and nothing else.

The environment is a new one. It holds the wheels that are built here, and the libraries of the environment
that runs the tests, but none of landscape's distributions in it. No network is needed.
"""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "landscape-trace"
DISTRIBUTIONS = [ROOT, ROOT / "plugins/landscape-networks", ROOT / "plugins/landscape-walkers", EXAMPLE]

RECIPE = """
[experiment]
steps = 20
seed = 1
loss = "cross_entropy"
model = { component = "MLP", hidden = [8] }
dataset = { component = "Digits" }
walker = { component = "SGD", lr = 0.1, batch_size = 64 }
probes = [ { every = 10, probe = { component = "HessianTrace", samples = 4 } } ]
"""


def libraries(folder):
    """Fill `folder` with links to every library of this environment except landscape's distributions."""
    folder.mkdir()
    for place in map(Path, sys.path):
        if place.name not in ("site-packages", "dist-packages") or not place.is_dir():
            continue
        for path in place.iterdir():
            name = path.name.lower()
            ours = name.startswith(("landscape", "_landscape", "__editable__"))
            if not ours and path.suffix != ".pth" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


class Environment:
    """An environment with the wheels installed in it, and a folder to work in."""

    def __init__(self, folder):
        self.work = folder / "work"
        self.work.mkdir()
        self.wheels = folder / "wheels"
        for distribution in DISTRIBUTIONS:
            self._build(distribution)
        venv.create(folder / "env", with_pip=False, symlinks=True)
        self.bin = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        (site,) = (folder / "env").rglob("site-packages")
        (site / "libraries.pth").write_text(str(libraries(folder / "libraries")))
        wheels = [str(wheel) for wheel in self.wheels.glob("*.whl")]
        install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", *wheels]
        self.call([sys.executable, "-m", "pip", "--python", str(self.bin / "python"), *install])

    def _build(self, distribution):
        command = ["build", "--wheel", "--no-isolation", "--outdir", str(self.wheels), str(distribution)]
        self.call([sys.executable, "-m", *command])

    def call(self, command, **more):
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "LANDSCAPE_", "PYTEST_"))
        }
        plain |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "LANDSCAPE_STRICT_HOOKS": "1"} | more
        done = subprocess.run(command, cwd=self.work, env=plain, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, code):
        return self.call([str(self.bin / "python"), "-c", code])

    def landscape(self, *arguments):
        return self.call([str(self.bin / "landscape"), *arguments])


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("stranger"))


def test_the_plugin_is_complete_in_under_40_lines():
    lines = [path.read_text().splitlines() for path in EXAMPLE.glob("src/**/*.py")]
    assert sum(map(len, lines)) < 40


def test_the_readme_of_the_plugin_shows_the_recipe_that_is_run_here():
    (shown,) = [
        block.partition("```")[0] for block in (EXAMPLE / "README.md").read_text().split("```toml\n")[1:]
    ]
    assert tomllib.loads(shown) == tomllib.loads(RECIPE)


def test_only_the_wheels_are_there(environment):
    listed = json.loads(
        environment.python(
            "import json, importlib.metadata as m\n"
            "print(json.dumps(sorted(d.name for d in m.distributions() if d.name.startswith('landscape'))))"
        )
    )
    assert listed == ["landscape-core", "landscape-networks", "landscape-trace", "landscape-walkers"]
    place = environment.python("import landscape_trace; print(landscape_trace.__file__)")
    assert Path(place.strip()).is_relative_to(environment.bin.parent)


def test_the_core_finds_the_plugin_by_its_metadata_alone(environment):
    found = environment.python(
        "import sys, landscape as ls\n"
        "assert 'HessianTrace' in dir(ls.probes)\n"
        "assert 'landscape_trace' not in sys.modules and 'torch' not in sys.modules\n"
        "print(ls.probes.HessianTrace(samples=3), ls.plugins.identify(ls.probes.HessianTrace).distribution)"
    )
    assert found.split() == ["HessianTrace(samples=3)", "landscape-trace"]


def test_the_command_line_lists_it(environment):
    listed = json.loads(environment.landscape("plugins", "--json"))
    (entry,) = [entry for entry in listed if entry["name"] == "HessianTrace"]
    assert entry["kind"] == "probes"
    assert (entry["distribution"], entry["version"]) == ("landscape-trace", "0.1.0")
    assert entry["error"] is None


def test_a_file_that_names_it_runs_and_the_run_can_be_read_again(environment):
    recipe = environment.work / "trace.toml"
    recipe.write_text(RECIPE)
    environment.landscape("run", str(recipe), "--store", "runs")
    (run,) = [path for path in (environment.work / "runs").iterdir() if path.is_dir()]
    configuration = (run / "config.json").read_text()
    assert '"HessianTrace"' in configuration
    assert '"landscape-trace"' in configuration
    rows = json.loads(
        environment.python(
            "import landscape as ls\n"
            f"metrics = ls.open({str(run)!r}).metrics\n"
            "print(metrics[['step', 'hessian_trace', 'hessian_trace_error']].to_json(orient='records'))"
        )
    )
    assert [row["step"] for row in rows] == [0, 10, 20]
    assert all(row["hessian_trace"] is not None and row["hessian_trace_error"] > 0 for row in rows)


def test_its_own_tests_pass_where_it_is_installed(environment):
    tests = EXAMPLE / "tests"
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error", "-c", os.devnull]
    python = str(environment.bin / "python")
    environment.call([python, "-m", "pytest", *options, "--rootdir", str(tests), str(tests)])
