"""True losses along lines and over maps, the topology of what comes out, and what the maps hide.

A map that leads back to weights can be evaluated: at each point of a grid over it stands a network, and its loss is
computed, not interpolated. Planes in the span of the snapshots, curved maps (autoencoders, self-organising maps,
layouts) and planes along directions of their own are treated alike.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, frozen

from landscape.composition.losses import NAME, Losses, on_examples, values_and_scores, weights_of
from landscape.composition.progress import stage
from landscape.errors import ConfigurationError, RunError
from landscape.interfaces import Backend, Failure, InvertibleProjection, Projection
from landscape.validators import is_whole
from landscape_projectors.planes import PlaneProjection

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.composition import Run
    from landscape.objective import Landscape
    from landscape.objective.replay import Replay
    from landscape.store import SnapshotSpan

__all__ = [
    "LossGrid",
    "LossLine",
    "Merge",
    "loss_along",
    "loss_at",
    "loss_grid",
    "loss_line",
    "loss_mismatch",
    "merge_tree",
    "weights_at",
]

#: Points along the longer side of the background. A report must stay fast: 31 x 31 = 961 losses on the 1 797
#: digits take 0.3 s of one core for 3 466 weights and 1 s for 17 610. On two such planes, interpolation
#: between the points was off by 0.13 and 0.16 of the step from one colour to the next in the median, and by
#: 0.6 and 1.1 steps at worst, against four times as many points.
RESOLUTION = 31

#: Forward passes of single examples that one background may cost. 961 points leave 2 081 examples each: all
#: of a small data set, an even selection of a large one. The standard error of a mean over 2 000 examples
#: is 2 % of their spread, less than the step from one colour to the next.
EVALUATIONS = 2_000_000

#: Weights held at a time, in bytes of float64.
_HELD = 2**28
#: Points of a grid in a part: recording the forward pass costs about as much as ten of them.
CHUNK = 256
#: Points of a line in a part; nothing is recorded for them.
LINE_CHUNK = 16


def loss_label(examples: int, of: int) -> str:
    """Say on what a loss was computed, for a colour bar."""
    return (
        "loss on the training data"
        if examples == of
        else f"loss on {examples:,} of {of:,} training examples".replace(",", "\u202f")
    )


@frozen(eq=False)
class LossGrid:
    """True losses at the points that a grid over a map leads back to.

    Attributes
    ----------
    x, y
        Coordinates of the columns, shape (X,), and rows, shape (Y,), of the grid.
    loss
        Shape (Y, X); not finite where the loss overflowed.
    examples
        On how many examples each loss was computed.
    of
        How many examples the data has.
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    examples: int
    of: int

    @property
    def label(self) -> str:
        """What the colours mean, for a colour bar."""
        return loss_label(self.examples, self.of)


@frozen(eq=False)
class LossLine:
    """True losses along a line.

    Attributes
    ----------
    position
        Where on the line, shape (G,); between two points 0 is the first and 1 the second.
    loss
        Shape (G,).
    score
        Shape (G,), or None for a landscape without a score.
    """

    position: np.ndarray
    loss: np.ndarray
    score: np.ndarray | None


# ---------------------------------------------------------------------------------------------------------
# Back to weights
# ---------------------------------------------------------------------------------------------------------


def weights_at(span: SnapshotSpan, projection: Projection, coordinates: np.ndarray) -> Iterator[Tensor]:
    """Yield the weight vectors at points of a map, shape (G, d), some rows at a time.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the projection does not lead back to weights.
    """
    coordinates = np.asarray(coordinates, dtype=np.float64)
    if isinstance(projection, PlaneProjection):
        block = max(1, _HELD // (8 * len(projection.origin)))
        for part in _blocks(coordinates, block):
            yield projection.weights(part)
    elif isinstance(projection, InvertibleProjection):
        yield from restored(span, projection.inverse(coordinates))
    else:
        raise _no_way_back(projection)


def _no_way_back(projection: Projection) -> ConfigurationError:
    return ConfigurationError(
        f"A {type(projection).__name__} does not lead back to weights, so no loss can be drawn under it. Draw the "
        f"paths alone, or use a projector with an inverse."
    )


def leads_back(projection: Projection) -> bool:
    """Whether :func:`weights_at` can do with it."""
    return isinstance(projection, InvertibleProjection | PlaneProjection)


def restored(span: SnapshotSpan, coefficients: np.ndarray) -> Iterator[Tensor]:
    """Yield the weight vectors of the points, shape (G, r), some rows at a time.

    Restoring points is a pass over all snapshots on disk. Points of a plane are combinations of three of
    them, so a grid over a plane costs one pass instead of one per block.
    """
    block = max(1, _HELD // (8 * span.size))
    frame, along = _framed(coefficients)
    if len(frame) > min(block, len(coefficients) // 4):
        for part in _blocks(coefficients, block):
            yield span.restore(part)
        return
    weights = span.restore(frame)
    for part in _blocks(along, block):
        yield weights_of(weights[0], weights[1:] - weights[0], weights.new_tensor(part))


def _framed(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F, shape (k + 1, r), and factors, shape (G, k): the points are F_0 + factors (F_1 - F_0, ...)."""
    centre = coefficients.mean(axis=0)
    left, singular, right = np.linalg.svd(coefficients - centre, full_matrices=False)
    rank = int(np.sum(singular > 1e-12 * singular[0])) if singular.size else 0
    # Steps as long as the points are apart: in float32, short ones would drown in the rounding of the centre.
    step = float(singular[0]) / np.sqrt(len(coefficients)) if rank else 1.0
    return np.concatenate([centre[None], centre + step * right[:rank]]), left[:, :rank] * singular[
        :rank
    ] / step


def _blocks(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


# ---------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------


def loss_at(
    landscape: Landscape, span: SnapshotSpan, coefficients: np.ndarray, *, evaluations: int = EVALUATIONS
) -> tuple[np.ndarray, int]:
    """Compute the true loss at points given in the basis of a span.

    Parameters
    ----------
    landscape
        Whose loss.
    span
        The span in whose basis the points are given; it turns them back into weights.
    coefficients
        Shape (G, r).
    evaluations
        Forward passes of single examples that may be spent. When G points on all examples cost more, every
        point is evaluated on the same evenly spaced examples, at least 256 of them.

    Returns
    -------
    losses
        Shape (G,), float64; not finite where the loss overflows.
    examples
        On how many examples.
    """
    from landscape.objective.replay import Replay

    some, examples = _affordable(landscape, len(coefficients), evaluations)
    return _losses(Replay(some), restored(span, np.asarray(coefficients, dtype=np.float64))), examples


def _affordable(landscape: Landscape, points: int, evaluations: int) -> tuple[Landscape, int]:
    """Return the landscape on as many examples as the evaluations leave each point, and their number."""
    examples = min(landscape.data.examples, max(256, evaluations // max(1, points)))
    return on_examples(landscape, examples), examples


def _losses(replay: Replay, blocks: Iterable[Tensor]) -> np.ndarray:
    landscape = replay.landscape
    found = [
        replay.values(weights.to(device=landscape.device, dtype=landscape.dtype)).double().cpu().numpy()
        for weights in blocks
    ]
    return np.concatenate(found) if found else np.empty(0)


@frozen(eq=False)
class _Flat:
    """Weights that are affine in the points of a map: origin + (point - centre) / scale @ directions.

    Attributes
    ----------
    origin, directions
        Shape (P,) and (d, P).
    centre, scale
        Shape (d,). A step of `scale` is as long as the points are apart: short ones would drown in the rounding
        of float32.
    """

    origin: Tensor
    directions: Tensor
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, span: SnapshotSpan, projection: Projection, points: np.ndarray) -> _Flat | None:
        """Return the flat on which the weights at points, shape (G, d), lie; None where they lie on none."""
        import torch

        centre = points.mean(axis=0)
        scale = np.abs(points - centre).max(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        if isinstance(projection, PlaneProjection):
            directions = torch.from_numpy(scale[:, None] * projection.directions)
            return cls(projection.weights(centre[None])[0], directions, centre, scale)
        if not isinstance(projection, InvertibleProjection):
            return None
        frame = projection.inverse(centre + np.concatenate([np.zeros((1, len(scale))), np.diag(scale)]))
        steps = frame[1:] - frame[0]
        some = points[np.linspace(0, len(points) - 1, min(len(points), 64)).astype(int)]
        shown = projection.inverse(some)
        apart = np.abs(shown - frame[0] - (some - centre) / scale @ steps).max()
        if apart > 1e-10 * np.abs(shown - frame[0]).max():
            return None
        weights = span.restore(frame).double()
        return cls(weights[0], weights[1:] - weights[0], centre, scale)

    def factors(self, points: np.ndarray) -> Tensor:
        """Return the coordinates on the flat of points of the map."""
        import torch

        return torch.from_numpy((points - self.centre) / self.scale)


class _Places(ABC):
    """Points in weight space whose losses are asked for, and scores if `scores`; called, it computes some of them.

    Attributes
    ----------
    landscape
        Whose losses.
    count
        How many points.
    scores
        Whether scores are asked for, too.
    replayed
        Whether few directions lead to all points.
    """

    def __init__(self, landscape: Landscape, count: int, scores: bool, replayed: bool) -> None:
        self.landscape, self.count, self.scores, self.replayed = landscape, count, scores, replayed

    @abstractmethod
    def weights(self, first: int, last: int) -> Iterator[Tensor]:
        """Yield the weights of the points from `first` to before `last`, some rows at a time."""

    @abstractmethod
    def losses(self, first: int, last: int) -> np.ndarray:
        """Return their losses."""

    @abstractmethod
    def written(self) -> dict[str, Tensor]:
        """Return all points as :class:`landscape.composition.losses.Losses` reads them."""

    def __call__(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return losses and scores of the points from `first` to before `last`; NaN for scores that there are not."""
        if not self.scores:
            return self.losses(first, last), np.full(last - first, np.nan)
        found = [values_and_scores(self.landscape, weights) for weights in self.weights(first, last)]
        return np.concatenate([loss for loss, _ in found]), np.concatenate([score for _, score in found])


class _OnFlat(_Places):
    """Points at origin + factors @ directions."""

    def __init__(
        self, landscape: Landscape, origin: Tensor, directions: Tensor, factors: Tensor, *, scores: bool
    ) -> None:
        from landscape.objective.replay import Replay

        super().__init__(landscape, len(factors), scores, True)
        self._origin, self._directions, self._factors = origin, directions, factors
        self._replay = Replay(landscape, origin, directions)

    def weights(self, first: int, last: int) -> Iterator[Tensor]:
        for part in self._factors[first:last].split(max(1, _HELD // (8 * len(self._origin)))):
            yield weights_of(self._origin, self._directions, part)

    def losses(self, first: int, last: int) -> np.ndarray:
        return np.asarray(self._replay.values(self._factors[first:last]).double().cpu().numpy())

    def written(self) -> dict[str, Tensor]:
        return {"origin": self._origin, "directions": self._directions, "factors": self._factors}


class _OnCurve(_Places):
    """Points of a curved map, shape (G, d)."""

    def __init__(
        self,
        landscape: Landscape,
        span: SnapshotSpan,
        projection: InvertibleProjection,
        points: np.ndarray,
        *,
        scores: bool,
    ) -> None:
        from landscape.objective.replay import Replay

        super().__init__(landscape, len(points), scores, False)
        self._span, self._projection, self._points = span, projection, points
        self._replay = Replay(landscape)

    def weights(self, first: int, last: int) -> Iterator[Tensor]:
        return weights_at(self._span, self._projection, self._points[first:last])

    def losses(self, first: int, last: int) -> np.ndarray:
        return _losses(self._replay, self.weights(first, last))

    def written(self) -> dict[str, Tensor]:
        # The whole surface lies in the span: its points are combinations of at most as many as there are snapshots.
        import torch

        frame, factors = _framed(self._projection.inverse(self._points))
        weights = self._span.restore(frame)
        return {
            "origin": weights[0],
            "directions": weights[1:] - weights[0],
            "factors": torch.from_numpy(factors),
        }


def _places(
    landscape: Landscape, span: SnapshotSpan, projection: Projection, points: np.ndarray, *, scores: bool
) -> _Places:
    """Return the points of a map, shape (G, d): whether they lie on a flat depends on them."""
    flat = None
    if isinstance(projection, PlaneProjection) or len(points) > points.shape[1] + 1:
        flat = _Flat.of(span, projection, points)
    if flat is not None:
        return _OnFlat(landscape, flat.origin, flat.directions, flat.factors(points), scores=scores)
    if not isinstance(projection, InvertibleProjection):
        raise _no_way_back(projection)
    return _OnCurve(landscape, span, projection, points, scores=scores)


def loss_grid(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: Projection,
    *,
    resolution: int = RESOLUTION,
    padding: float = 0.12,
    window: tuple[float, float, float, float] | None = None,
    evaluations: int = EVALUATIONS,
    path: str | Path | None = None,
    chunk: int = CHUNK,
    backend: Backend | str | None = None,
    run: Run | None = None,
) -> LossGrid:
    """Compute the true loss on a grid over a map of two dimensions.

    Parameters
    ----------
    landscape, span, evaluations
        As in :func:`loss_at`.
    projection
        Of two dimensions, and with a way back to weights: an inverse, or directions of its own.
    resolution
        Points along the longer side; the shorter one has as many as keep the cells square. The cost is at
        most ``resolution ** 2`` losses.
    padding
        Room around the paths, as a share of the longer side. The shorter side is at least half the longer.
    window
        Ends of the grid, (left, right, bottom, top), in place of what padding gives.
    path
        A file to keep finished points in. If it is there, an interrupted grid goes on where it was; a file of another
        grid, or of another loss, is refused.
    chunk
        Points in a part: so many are computed between two times that the file is written, or by one task. Below 24
        every point is a forward pass of its own (:data:`landscape.objective.replay.WORTHWHILE`).
    backend, run
        Where to share the parts out to, a backend or its name, and the run whose landscape this is: every task opens
        the run for itself. Tasks are given, and leave, files in the directory ``{path}.parts``, which is gone at the
        end; without a path it is a temporary one. Workers must see both directories.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the projection has other than two dimensions or no way back, for a resolution below 2, or for a backend
        without the run, with a run that other processes cannot open, or with a landscape that is not the run's.
    landscape.errors.RunError
        If the file belongs to something else, or a task failed: what the others computed is in the file.
    """
    if projection.coordinates.shape[1] != 2:
        raise ConfigurationError(
            f"A grid needs a projection of 2 dimensions; this one has {projection.coordinates.shape[1]}. Fit one of "
            f"two, or follow a line with loss_along."
        )
    if not leads_back(projection):
        raise _no_way_back(projection)
    if not is_whole(resolution) or resolution < 2:
        raise ConfigurationError(
            f"loss_grid: resolution={resolution!r}: give a whole number of points on a side, at least 2."
        )
    sharing = _Sharing.of("loss_grid", landscape, backend, run, chunk)
    x, y = _axes(projection.coordinates, resolution, padding, window)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    some, examples = _affordable(landscape, len(points), evaluations)
    places = _places(some, span, projection, points, scores=False)
    loss, _ = _evaluated("True losses on a grid", places, {"x": x, "y": y}, examples, path, sharing)
    return LossGrid(x, y, loss.reshape(len(y), len(x)), examples, landscape.data.examples)


# ---------------------------------------------------------------------------------------------------------
# Part by part
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class _Sharing:
    """Into which parts a surface is cut, and who computes them.

    Attributes
    ----------
    chunk
        Points in a part.
    backend
        None for this process.
    source, split
        Directory of the run, and which of its landscapes; empty without a backend.
    """

    chunk: int
    backend: Backend | None = None
    source: str = ""
    split: str = ""

    @classmethod
    def of(
        cls, asked: str, landscape: Landscape, backend: Backend | str | None, run: Run | None, chunk: int
    ) -> _Sharing:
        """Return how to share out what the function called `asked` was given."""
        from landscape.composition import open_run
        from landscape.composition.shipping import as_backend

        if chunk < 1:
            raise ConfigurationError(f"{asked}: chunk={chunk}: a part has at least one point.")
        if (backend is None) != (run is None):
            raise ConfigurationError(
                f"{asked}: give a backend and the run together; a task opens the run for itself."
            )
        if backend is None or run is None:
            return cls(chunk)
        split = next((name for name, one in run.splits().items() if one is landscape), None)
        if split is None:
            raise ConfigurationError(
                f"{asked}: the landscape is none of {run.path}. Give run.landscape(), or run.landscape(split) with one "
                f"of {', '.join(run.splits())}: a task computes what it finds in the run's directory."
            )
        source = str(run.path.resolve())
        _ = open_run(source).experiment  # what another process cannot build is refused before any work
        return cls(chunk, as_backend(backend), source, split)


def _evaluated(
    title: str,
    places: _Places,
    axes: Mapping[str, np.ndarray],
    examples: int,
    path: str | Path | None,
    sharing: _Sharing,
) -> tuple[np.ndarray, np.ndarray]:
    """Return losses and scores of all points, shape (G,); with a path, go on with what is there and keep what comes."""
    loss, score = np.full((2, places.count), np.nan)
    done = np.zeros(places.count, dtype=bool)
    store = None if path is None else Path(path)
    if store is not None and store.exists():
        loss, score, done = _continued(store, axes, examples, places)
    cuts = range(0, places.count, sharing.chunk)
    parts = [(first, min(first + sharing.chunk, places.count)) for first in cuts]
    missing = [(first, last) for first, last in parts if not done[first:last].all()]
    if sharing.backend is None or not missing:
        found = ((part, places(*part)) for part in missing)
    else:
        found = _shared(sharing, sharing.backend, places, missing, examples, store)
    with stage(title, places.count, done=int(done.sum())) as progress, closing(found):
        for (first, last), values in found:
            progress.advance(int((~done[first:last]).sum()))
            loss[first:last], score[first:last] = values
            done[first:last] = True
            if store is not None:
                _keep(store, axes, examples, loss, score if places.scores else None, done)
    return loss, score


def _shared(
    sharing: _Sharing,
    backend: Backend,
    places: _Places,
    parts: list[tuple[int, int]],
    examples: int,
    store: Path | None,
) -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Yield parts, as from the first point to before the last, and what tasks found there, in any order.

    Raises
    ------
    landscape.errors.RunError
        After all the others were yielded, if a task failed; at once, if the first one finds other losses than this
        process does.
    """
    from landscape.composition import open_run
    from landscape.composition.shipping import task_of
    from landscape.store.files import explained, remove_tree

    with explained(Path(tempfile.gettempdir()) if store is None else store, "write"):
        if store is None:
            folder = Path(tempfile.mkdtemp(prefix="landscape-surface-"))
        else:
            folder = store.with_name(f"{store.name}.parts").resolve()
            folder.mkdir(parents=True, exist_ok=True)
    ended = False
    try:
        file = folder / "points.safetensors"
        sha256 = _written(file, places.written())
        waiting = {f"part-{first:07d}": (first, last) for first, last in parts}
        tasks = []
        for key, part in waiting.items():
            recipe = Losses(
                sharing.source,
                str(file),
                sha256,
                *part,
                split=sharing.split,
                examples=examples,
                scores=places.scores,
                replayed=places.replayed,
            )
            tasks.append(evolve(task_of(recipe, folder / key), key=key))
        failures: list[Failure] = []
        compared = False
        with backend as engine:
            for outcome in engine.map(tasks):
                part = waiting.pop(outcome.key)
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                arrays = open_run(outcome.run).arrays(NAME)[0]
                values = arrays["loss"], arrays["score"]
                if not compared:
                    _require_same_as_here(places, part, values[0], sharing)
                    compared = True
                yield part, values
        if failures:
            one = failures[0]
            raise RunError(
                f"{len(failures)} of {len(parts)} parts failed, and the others are "
                f"{'lost: give a path' if store is None else f'kept in {store}'}. {one.key}: {one.error}\n"
                f"{one.traceback}".rstrip()
            )
        if waiting:
            raise RunError(f"{type(backend).__name__} gave no outcome for {', '.join(waiting)}.")
        ended = True
    finally:
        if ended or store is None:
            remove_tree(folder)


def _axes(
    coordinates: np.ndarray, resolution: int, padding: float, window: tuple[float, float, float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    if window is None:
        low, high = coordinates.min(axis=0), coordinates.max(axis=0)
        longer = float((high - low).max())
        half = np.maximum(0.5 * (high - low) + padding * longer, (0.25 + 0.5 * padding) * longer)
        centre = 0.5 * (low + high)
    else:
        low, high = np.array(window)[[0, 2]], np.array(window)[[1, 3]]
        if not (low < high).all():
            raise ConfigurationError(f"window={window} is empty; give left < right and bottom < top.")
        half, centre = 0.5 * (high - low), 0.5 * (high + low)
    step = 2 * half.max() / (resolution - 1)
    x, y = (
        np.linspace(
            centre[axis] - half[axis], centre[axis] + half[axis], max(2, round(2 * half[axis] / step) + 1)
        )
        for axis in (0, 1)
    )
    return x, y


def _keep(
    path: Path,
    axes: Mapping[str, np.ndarray],
    examples: int,
    loss: np.ndarray,
    score: np.ndarray | None,
    done: np.ndarray,
) -> None:
    from landscape.store.tensors import save_tensors

    arrays = {**axes, "loss": loss, "done": done} | ({} if score is None else {"score": score})
    save_tensors(path, arrays, {"loss surface": 1, "axes": list(axes), "examples": examples})


def _continued(
    path: Path, axes: Mapping[str, np.ndarray], examples: int, places: _Places
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return losses, scores, and which of them are done.

    Raises
    ------
    landscape.errors.RunError
        If the file holds anything else than what is asked for.
    """
    from landscape.store.tensors import load_arrays, metadata_of

    header = metadata_of(path)
    if not isinstance(header, dict) or header.get("loss surface") != 1 or header["axes"] != list(axes):
        what = "grid" if len(axes) > 1 else "line"
        raise RunError(f"{path} holds no losses of a {what}; give another path.")
    kept = load_arrays(path)
    same = all(
        kept[name].shape == axis.shape and np.allclose(kept[name], axis, rtol=1e-9, atol=1e-12)
        for name, axis in axes.items()
    )
    if not same or header["examples"] != examples:
        there, asked = (" x ".join(str(len(one[name])) for name in axes) for one in (kept, axes))
        raise RunError(
            f"{path} holds {there} points on {header['examples']} examples, at other places or on another number than "
            f"asked for ({asked}, {examples}). Give another path."
        )
    loss, done = np.array(kept["loss"]), np.array(kept["done"])
    # Two points, for a line and its reverse agree in the middle.
    for place in _witnesses(loss, done):
        again = float(places(place, place + 1)[0][0])
        if not _close(again, float(loss[place]), places):
            raise RunError(
                f"{path} holds another loss: at point {place} it says {loss[place]:.6g}, and the landscape "
                f"{again:.6g}. Give another path."
            )
    return loss, np.array(kept["score"]) if places.scores else np.full(len(loss), np.nan), done


def _witnesses(loss: np.ndarray, done: np.ndarray) -> list[int]:
    """Return where a loss is compared: the first and the last that is finite and done."""
    finite = np.flatnonzero(np.isfinite(loss) & done)
    return sorted({int(finite[0]), int(finite[-1])}) if len(finite) else []


def _close(one: float, other: float, places: _Places) -> bool:
    # One point alone is computed in another way than many, and differs in its last bits.
    tolerance = 1e-3 if "64" not in str(places.landscape.dtype) else 1e-6
    return bool(np.isclose(one, other, rtol=tolerance, atol=1e-12))


def _written(file: Path, points: Mapping[str, Tensor]) -> str:
    """Write points, unless an interrupted call wrote the same up to rounding; return the SHA-256 of the file.

    Sums come out with other last bits on another day, and what tasks found would be lost for that.
    """
    from landscape.store.files import sha256_of
    from landscape.store.tensors import load_tensors, save_tensors

    if file.exists():
        kept = load_tensors(file)
        if kept.keys() == points.keys() and all(
            _same_tensor(kept[name], one) for name, one in points.items()
        ):
            return sha256_of(file)
    return str(save_tensors(file, points)["sha256"])


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    tolerance = 1e-10 if "64" in str(one.dtype) else 1e-5
    return bool(
        ((one - other).abs() <= tolerance * other.abs().amax() if other.numel() else one == other).all()
    )


def _require_same_as_here(
    places: _Places, part: tuple[int, int], loss: np.ndarray, sharing: _Sharing
) -> None:
    """Compute one point of a task here; another landscape would differ there.

    Raises
    ------
    landscape.errors.RunError
        If it does.
    """
    if len(loss) != part[1] - part[0]:
        raise RunError(f"A task found {len(loss)} losses, of the points {part[0]} to {part[1] - 1}.")
    for place in _witnesses(loss, np.ones(len(loss), dtype=bool))[:1]:
        here = float(places(part[0] + place, part[0] + place + 1)[0][0])
        if not _close(here, float(loss[place]), places):
            raise RunError(
                f"Tasks find another loss than this process: {loss[place]:.6g} and {here:.6g} at point "
                f"{part[0] + place}. They open {sharing.source}: is its data what the run was made on, and on every "
                f"machine the same?"
            )


def loss_line(
    landscape: Landscape,
    start: Tensor,
    end: Tensor,
    *,
    points: int = 51,
    beyond: float = 0.25,
    path: str | Path | None = None,
    chunk: int = LINE_CHUNK,
    backend: Backend | str | None = None,
    run: Run | None = None,
) -> LossLine:
    """Compute the true loss, and the score, on the straight line through two weight vectors.

    Parameters
    ----------
    landscape
        Whose loss.
    start, end
        Shape (P,).
    points
        How many, evenly spaced; each costs a forward pass over the data.
    beyond
        How far to go beyond both ends, as a share of their distance.
    path, chunk, backend, run
        As in :func:`loss_grid`: an interrupted line goes on where it was, and its parts are shared out.

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two points, ends of another shape, and where :func:`loss_grid` does for a backend.
    landscape.errors.RunError
        As in :func:`loss_grid`.
    """
    import torch

    if points < 2:
        raise ConfigurationError(f"loss_line: points={points} is no line; give at least 2.")
    shapes = tuple(start.shape), tuple(end.shape)
    if shapes != ((landscape.size,), (landscape.size,)):
        raise ConfigurationError(
            f"loss_line: start and end have shapes {shapes[0]} and {shapes[1]}; give two of ({landscape.size},)."
        )
    sharing = _Sharing.of("loss_line", landscape, backend, run, chunk)
    position = np.linspace(-beyond, 1 + beyond, points)
    first, last = (one.detach().double().cpu() for one in (start, end))
    factors = torch.from_numpy(position)[:, None]
    places = _OnFlat(landscape, first, (last - first)[None], factors, scores=True)
    return _line(places, position, path, sharing)


def loss_along(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: Projection,
    start: np.ndarray,
    end: np.ndarray,
    *,
    points: int = 51,
    beyond: float = 0.25,
    path: str | Path | None = None,
    chunk: int = LINE_CHUNK,
    backend: Backend | str | None = None,
    run: Run | None = None,
) -> LossLine:
    """Compute the true loss, and the score, on the line that is straight on a map.

    On a curved map it is a curve in weight space: :func:`loss_line` through the weights of its ends is another one.

    Parameters
    ----------
    landscape, span, projection
        As in :func:`loss_grid`, of any dimension.
    start, end
        Coordinates on the map, shape (d,).
    points, beyond
        As in :func:`loss_line`.
    path, chunk, backend, run
        As in :func:`loss_grid`.

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two points, ends of another dimension, a projection without a way back, and where
        :func:`loss_grid` does for a backend.
    landscape.errors.RunError
        As in :func:`loss_grid`.
    """
    if points < 2:
        raise ConfigurationError(f"loss_along: points={points} is no line; give at least 2.")
    ends = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    dimensions = projection.coordinates.shape[1]
    if any(one.shape != (dimensions,) for one in ends):
        raise ConfigurationError(
            f"loss_along: start and end have shapes {ends[0].shape} and {ends[1].shape}; the map has {dimensions} "
            f"dimensions, give two points of shape ({dimensions},)."
        )
    if not leads_back(projection):
        raise _no_way_back(projection)
    sharing = _Sharing.of("loss_along", landscape, backend, run, chunk)
    position = np.linspace(-beyond, 1 + beyond, points)
    on_map = (1 - position[:, None]) * ends[0] + position[:, None] * ends[1]
    return _line(_places(landscape, span, projection, on_map, scores=True), position, path, sharing)


def _line(places: _Places, position: np.ndarray, path: str | Path | None, sharing: _Sharing) -> LossLine:
    examples = places.landscape.data.examples
    loss, score = _evaluated("True losses on a line", places, {"position": position}, examples, path, sharing)
    return LossLine(position, loss, None if np.isnan(score).all() else score)


def loss_mismatch(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: Projection,
    rows: np.ndarray | None = None,
    *,
    evaluations: int = EVALUATIONS,
) -> dict[str, float]:
    """Compare the losses that a map shows under the snapshots with those of the snapshots.

    Parameters
    ----------
    landscape, span, projection, evaluations
        As in :func:`loss_grid`, of any dimension.
    rows
        Which snapshots; by default all.

    Returns
    -------
    dict
        ``loss_mismatch``, the median over the snapshots of ``|log10(shown / true)|``, and
        ``loss_mismatch_largest``. For losses that are not all positive, of ``|shown - true|`` instead, as
        ``loss_difference``.
    """
    return mismatch_of(*losses_shown_and_true(landscape, span, projection, rows, evaluations=evaluations))


def losses_shown_and_true(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: Projection,
    rows: np.ndarray | None = None,
    *,
    evaluations: int = EVALUATIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses that a map shows under the snapshots, and theirs, each of shape (rows,)."""
    rows = np.arange(len(span)) if rows is None else np.asarray(rows)
    from landscape.objective.replay import Replay

    some, _ = _affordable(landscape, 2 * len(rows), evaluations)
    replay = Replay(some)
    shown = _losses(replay, weights_at(span, projection, projection.coordinates[rows]))
    return shown, _losses(replay, restored(span, np.asarray(span.coordinates)[rows]))


def mismatch_of(shown: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return what :func:`loss_mismatch` does, of losses shown and true; those that are not finite are left out."""
    both = np.isfinite(shown) & np.isfinite(true)
    shown, true = shown[both], true[both]
    if not both.any():
        return {"loss_difference": float("nan"), "loss_difference_largest": float("nan")}
    if (shown > 0).all() and (true > 0).all():
        ratio = np.abs(np.log10(shown) - np.log10(true))
        return {"loss_mismatch": float(np.median(ratio)), "loss_mismatch_largest": float(ratio.max())}
    difference = np.abs(shown - true)
    return {
        "loss_difference": float(np.median(difference)),
        "loss_difference_largest": float(difference.max()),
    }


# ---------------------------------------------------------------------------------------------------------
# Topology
# ---------------------------------------------------------------------------------------------------------


@frozen
class Merge:
    """A basin of a grid, from its minimum to where it joins a deeper one.

    Attributes
    ----------
    birth, death
        Loss at the minimum and at the saddle; the deepest basin never joins another, its death is infinite.
    minimum, saddle
        Row and column of both; the saddle of the deepest is None.
    parent
        Place, in the list of basins, of the deeper basin that it joins; None for the deepest.
    """

    birth: float
    death: float
    minimum: tuple[int, int]
    saddle: tuple[int, int] | None
    parent: int | None

    @property
    def persistence(self) -> float:
        """How high the way out is: death - birth."""
        return self.death - self.birth


def merge_tree(loss: np.ndarray) -> list[Merge]:
    """Return the basins of a grid of losses, the deepest first: the merge tree of its sublevel sets.

    Points are added in rising order. One with no neighbour below it (of its eight) starts a basin; one with neighbours
    in several joins them, and all but the deepest end there (the elder rule of persistent homology in dimension 0).
    A basin of low persistence is a ripple of the grid; points that are not finite are walls.

    Parameters
    ----------
    loss
        Shape (Y, X).

    References
    ----------
    H. Edelsbrunner, D. Letscher, A. Zomorodian. Topological persistence and simplification. Discrete and
    Computational Geometry 28, 2002.
    """
    rows, columns = loss.shape
    values = loss.ravel()
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    root = np.full(len(values), -1, dtype=np.intp)  # of a point's basin: its minimum
    ended: dict[int, tuple[float, int | None, int | None]] = {}

    def find(point: int) -> int:
        while root[point] != point:
            root[point] = root[root[point]]
            point = root[point]
        return point

    rank = np.empty(len(values), dtype=np.intp)
    rank[order] = np.arange(len(order))
    for point in order:
        row, column = divmod(int(point), columns)
        around = {
            find(r * columns + c)
            for r in range(max(0, row - 1), min(rows, row + 2))
            for c in range(max(0, column - 1), min(columns, column + 2))
            if root[r * columns + c] >= 0
        }
        if not around:
            root[point] = point
            ended[int(point)] = (float("inf"), None, None)
            continue
        deepest = min(around, key=lambda basin: rank[basin])
        root[point] = deepest
        for basin in around - {deepest}:
            root[basin] = deepest
            ended[basin] = (float(values[point]), int(point), deepest)
    basins = sorted(ended, key=lambda basin: rank[basin])
    place = {basin: index for index, basin in enumerate(basins)}
    return [
        Merge(
            float(values[basin]),
            death,
            divmod(basin, columns),
            None if saddle is None else divmod(saddle, columns),
            None if parent is None else place[parent],
        )
        for basin, (death, saddle, parent) in ((basin, ended[basin]) for basin in basins)
    ]
