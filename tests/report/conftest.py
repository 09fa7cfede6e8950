"""A run as the report sees it: a real directory behind the few names that a run has."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from attrs import field, frozen

from landscape.store import RunDirectory, RunStore


@frozen
class FakeRun:
    """What the report needs of a run."""

    directory: RunDirectory
    stages: dict[str, Any] = field(factory=dict)

    @property
    def path(self):
        return self.directory.path

    @property
    def kind(self):
        return self.directory.kind

    @property
    def configuration(self):
        return self.directory.configuration

    @property
    def provenance(self):
        return self.directory.provenance

    @property
    def metrics(self):
        return self.directory.metrics

    @property
    def tables(self):
        return self.directory.tables()


def component(name, distribution, **fields):
    return {"component": name, "distribution": distribution, "version": "0.1.0", "schema": 1} | fields


CONFIGURATION = {
    "experiment": {
        "name": "Four workers on the digits",
        "model": component("MLP", "landscape-networks", hidden=[100, 100]),
        "dataset": component("Digits", "landscape-networks", noise=0.1),
        "loss": "cross_entropy",
        "walker": component(
            "EASGD",
            "landscape-walkers",
            base=component("SGD", "landscape-walkers", lr=0.1, batch_size=64, momentum=None),
            workers=4,
        ),
        "probes": [
            {
                "every": 100,
                "probe": component("HessianSpectrum", "landscape-hessian", k=10, tolerance=1e-6),
            },
            component("GradientCovariance", "landscape-covariance", batches=25),
        ],
        "steps": 2000,
        "seed": 1,
    }
}
PROVENANCE = {
    "landscape": "0.1.0",
    "python": "3.11.7",
    "device": "cpu",
    "threads": 1,
    "engine": "loop",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "command": ["train.py", "--fast"],
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
    "plugins": {"landscape-walkers": "0.1.0", "landscape-hessian": "0.1.0"},
    "data": {"train": "5f" * 32, "test": "e1" * 32},
    "references": [
        "Zhang, Choromanska, LeCun (2015), Deep learning with elastic averaging SGD. arXiv:1412.6651",
        "Okabe & Ito (2008), Color Universal Design. https://jfly.uni-koeln.de/color/",
    ],
    "replicable": True,
}


def make_rows(workers=("0", "1", "2", "3", "centre"), steps=2000, every=50, seed=0, spectra=True):
    """Yield rows of a plausible training."""
    draw = np.random.default_rng(seed)
    for step in range(0, steps + 1, every):
        progress = step / steps
        for index, worker in enumerate(workers):
            shift = 0.0 if worker == "centre" else 0.15 * (index - 1.5)
            noise = 0.02 if worker == "centre" else 0.12
            loss = 2.3 * np.exp(-6 * progress + shift) + 0.004 + noise * draw.random() * np.exp(-4 * progress)
            row = {
                "step": step,
                "worker": worker,
                "loss": float(loss),
                "loss_test": float(1.15 * loss + 0.03),
                "score": float(1 - 0.9 * np.exp(-7 * progress) - 0.01 * draw.random()),
                "score_test": float(0.97 - 0.87 * np.exp(-7 * progress) - 0.01 * draw.random()),
                "gradient_norm": float(1.8 * np.exp(-4 * progress) * (0.8 + 0.4 * draw.random())),
                "weight_norm": float(11 + 3 * progress + 0.1 * shift),
                "distance_from_start": float(5 * np.sqrt(progress) + shift * progress),
                "cosine_with_start": float(1 - 0.3 * progress),
            }
            if spectra and step % 100 == 0:
                for k in range(1, 6):
                    top = 30 / k * (0.3 + progress) * (1 + 0.05 * draw.random())
                    row[f"hessian_eigenvalue_{k}"] = top
                    row[f"hessian_eigenvalue_{k}_error"] = 0.03 * top
                    row[f"covariance_eigenvalue_{k}"] = 2.0 / k**2 * np.exp(-5 * progress)
                    row[f"gradient_hessian_overlap_{k}"] = float(draw.random() ** k)
            if step == 300 and index < 2:
                row["warnings"] = "HessianSpectrum: eigenvalue 5 did not converge in 40 products."
            yield row


@pytest.fixture
def rows():
    """Return a function that yields rows of a plausible training."""
    return make_rows


class Hooks:
    """What the installed plugins draw is theirs to test."""

    figures_of_plugins: tuple = ()

    def __init__(self, run):
        self.run = run

    def figures(self):
        return list(self.figures_of_plugins)


@pytest.fixture(autouse=True)
def hooks(monkeypatch):
    """Let no installed plugin draw; figures can be put into `figures_of_plugins`."""
    monkeypatch.setattr("landscape.report.content.RunHooks", Hooks)
    monkeypatch.setattr(Hooks, "figures_of_plugins", ())
    return Hooks


@pytest.fixture
def make_run(tmp_path):
    """Return a function that makes a run with the given rows and tables."""

    def make(records=(), tables=None, kind="experiment", configuration=None, provenance=None, **options):
        directory = RunStore(tmp_path / "runs").create(
            CONFIGURATION if configuration is None else configuration,
            PROVENANCE if provenance is None else provenance,
            kind=kind,
        )
        for record in records:
            directory.write_row(record)
        for name, frame in (tables or {}).items():
            directory.write_table(name, frame)
        directory.close(options.pop("status", "complete"), options.pop("reason", None))
        return FakeRun(directory, **options)

    return make


@pytest.fixture
def path_table():
    """A long table."""
    steps = np.arange(500)
    return pd.DataFrame({"step": steps, "worker": "0", "x1": np.cos(steps), "x2": np.sin(steps) * 1e-7})
