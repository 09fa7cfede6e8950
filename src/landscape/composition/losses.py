"""Losses at given weights as a recipe of its own, so that a backend can share the points of a surface out."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

from landscape.composition.conduct import begin, conducted, reopened, torch_threads
from landscape.composition.run import Run, open_run
from landscape.errors import ConfigurationError
from landscape.interfaces import Backend
from landscape.validators import at_least, of_type, optional

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["Losses", "on_examples", "values_and_scores", "weights_of"]

#: Under which the arrays stand in the run.
NAME = "losses"
#: Weights held at a time, in bytes of float64.
_HELD = 2**28
#: Examples in a batch of a selection.
_BATCH = 256


def on_examples(landscape: Landscape, examples: int) -> Landscape:
    """Return the landscape on evenly spaced examples of its data; on all where there are no more."""
    import torch

    from landscape.objective import as_data

    data = landscape.data
    if examples >= data.examples:
        return landscape
    chosen = np.linspace(0, data.examples - 1, examples).round().astype(int)
    parts = [data.take(torch.from_numpy(chosen[k : k + _BATCH])) for k in range(0, examples, _BATCH)]
    return landscape.on(as_data(parts))


def weights_of(origin: Tensor, directions: Tensor, factors: Tensor) -> Tensor:
    """Return origin + factors @ directions, shape (G, P), in the type of the origin."""
    return origin + factors.to(origin.dtype) @ directions


def values_and_scores(landscape: Landscape, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return losses and scores, float64 of shape (G,) each; NaN for the scores of a landscape without them."""
    values, scores = landscape.value_and_score(weights.to(landscape.device, landscape.dtype))
    loss = np.asarray(values.double().cpu().numpy())
    return loss, np.full(len(loss), np.nan) if scores is None else np.asarray(scores.double().cpu().numpy())


@frozen
class Losses:
    """Compute the losses of a run's network at points of a flat in weight space.

    theta(z) = origin + z directions. Who draws a surface (``landscape_projectors.surfaces``) writes the points to a
    file and makes one such recipe of each part of them.

    Attributes
    ----------
    source
        Directory of the run whose landscape it is.
    points
        A safetensors file with ``origin``, shape (P,), ``directions``, shape (d, P), and ``factors``, the points' z,
        shape (G, d).
    sha256
        Of that file: other points are another recipe.
    first, last
        Which points: from the row `first` of the factors to before `last`.
    split
        Of the run's data.
    examples
        How many of its examples, evenly spaced; all by default.
    scores
        Whether to compute scores, too.
    replayed
        Whether what is affine in z is computed once (:class:`landscape.objective.replay.Replay`), for few directions.
    """

    source: str = field(validator=of_type(str))
    points: str = field(validator=of_type(str))
    sha256: str = field(validator=of_type(str))
    first: int = field(validator=at_least(0))
    last: int = field(validator=at_least(1))
    split: str = field(default="train", kw_only=True, validator=of_type(str))
    examples: int | None = field(default=None, kw_only=True, validator=optional(at_least(1)))
    scores: bool = field(default=False, kw_only=True, validator=of_type(bool))
    replayed: bool = field(default=False, kw_only=True, validator=of_type(bool))

    @property
    def name(self) -> str:
        """Stands in the report."""
        return f"Losses at points {self.first} to {self.last - 1}"

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | str | None = None,
        *,
        run_id: str | None = None,
    ) -> Run:
        """Compute the losses and record them.

        Parameters
        ----------
        store
            Directory of runs; the environment's ``LANDSCAPE_STORE``, or ``runs``, by default.
        backend
            Where to run; in this process by default.
        run_id
            Name of the run's directory; made from the time by default.

        Returns
        -------
        Run
            ``arrays("losses")[0]`` has ``loss`` and ``score``, float64 of shape (last - first,); scores that were not
            asked for, or that the landscape does not have, are NaN.

        Raises
        ------
        landscape.errors.RunError
            If the run, or the file of points, is not there or not what it was.
        landscape.errors.ConfigurationError
            If the file has fewer points, or of another size than the network.
        """
        from landscape.composition.shipping import run_on

        if backend is not None:
            if run_id is not None:
                raise ConfigurationError(
                    "run_id is for runs in this process; leave it out where a backend runs."
                )
            return run_on(backend, self, store)
        given = self._given()
        return self._carry_out(begin(self, "losses", store, run_id), given)

    def resume(self, run: Run) -> Run:
        """Compute the losses again: a part is computed as a whole."""
        given = self._given()
        return self._carry_out(reopened(run, self), given)

    def _given(self) -> tuple[Landscape, int, Tensor, Tensor, Tensor]:
        """Return the landscape, the number of threads, and the points' origin, directions and factors."""
        from landscape.store.tensors import load_tensors

        state = Path(self.source) / "state.json"
        written = state.stat().st_mtime_ns if state.is_file() else 0
        landscape, threads = _landscape(self.source, self.split, self.examples, written)
        kept = load_tensors(Path(self.points), self.sha256)
        missing = {"origin", "directions", "factors"} - set(kept)
        if missing:
            raise ConfigurationError(f"points={self.points!r} has no {', '.join(sorted(missing))}.")
        origin, directions, factors = kept["origin"], kept["directions"], kept["factors"]
        shapes = [tuple(one.shape) for one in (origin, directions, factors)]
        if shapes[:2] != [(landscape.size,), (factors.shape[-1], landscape.size)] or factors.ndim != 2:
            raise ConfigurationError(
                f"points={self.points!r}: origin, directions and factors have the shapes {shapes}; the network has "
                f"{landscape.size} weights, give ({landscape.size},), (d, {landscape.size}) and (points, d)."
            )
        if not self.first < self.last <= len(factors):
            raise ConfigurationError(
                f"first={self.first}, last={self.last}: {self.points} has {len(factors)} points."
            )
        return landscape, threads, origin, directions, factors[self.first : self.last]

    def _carry_out(self, run: Run, given: tuple[Landscape, int, Tensor, Tensor, Tensor]) -> Run:
        landscape, threads, origin, directions, factors = given
        with conducted(run, lambda: "losses are recorded together, at the end"), torch_threads(threads):
            loss, score = self._computed(landscape, origin, directions, factors)
            run.directory.write_arrays(NAME, 0, "0", {"loss": loss, "score": score})
            run.directory.close("complete")
        return run

    def _computed(
        self, landscape: Landscape, origin: Tensor, directions: Tensor, factors: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        from landscape.objective.replay import Replay

        if self.replayed and not self.scores:
            values = Replay(landscape, origin, directions).values(factors)
            return np.asarray(values.double().cpu().numpy()), np.full(len(factors), np.nan)
        replay = Replay(landscape)
        losses, scores = [], []
        held = max(1, _HELD // (8 * len(origin)))
        for first in range(0, len(factors), held):
            weights = weights_of(origin, directions, factors[first : first + held])
            if self.scores:
                loss, score = values_and_scores(landscape, weights)
            else:
                loss = np.asarray(replay.values(weights).double().cpu().numpy())
                score = np.full(len(loss), np.nan)
            losses.append(loss)
            scores.append(score)
        return np.concatenate(losses), np.concatenate(scores)


@lru_cache(maxsize=1)
def _landscape(source: str, split: str, examples: int | None, _written: int) -> tuple[Landscape, int]:
    """Return a run's landscape and its number of threads; the last one is kept, for the next part of a surface."""
    run = open_run(source)
    landscape = run.landscape(split)
    if examples is not None:
        landscape = on_examples(landscape, examples)
    return landscape, run.experiment.threads
