"""True losses along lines and over maps, the topology of what comes out, and what the maps hide.

A map that leads back to weights can be evaluated: at each point of a grid over it stands a network, and its loss is
computed, not interpolated. Planes in the span of the snapshots, curved maps (autoencoders, self-organising maps,
layouts) and planes along directions of their own are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from landscape.composition.progress import stage
from landscape.errors import ConfigurationError, RunError
from landscape.interfaces import InvertibleProjection, Projection
from landscape_projectors.planes import PlaneProjection

if TYPE_CHECKING:
    import torch
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
#: Points between two times that finished rows are written, at least.
_BETWEEN = 256

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


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
    centre = coefficients.mean(axis=0)
    left, singular, right = np.linalg.svd(coefficients - centre, full_matrices=False)
    rank = int(np.sum(singular > 1e-12 * singular[0])) if singular.size else 0
    if rank + 1 > min(block, len(coefficients) // 4):
        for part in _blocks(coefficients, block):
            yield span.restore(part)
        return
    # Steps as long as the points are apart: in float32, short ones would drown in the rounding of the centre.
    step = float(singular[0]) / np.sqrt(len(coefficients)) if rank else 1.0
    frame = span.restore(np.concatenate([centre[None], centre + step * right[:rank]]))
    along = (left[:, :rank] * singular[:rank]) / step
    for part in _blocks(along, block):
        yield frame[0] + frame.new_tensor(part) @ (frame[1:] - frame[0])


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
    import torch

    from landscape.objective import as_data

    data = landscape.data
    examples = min(data.examples, max(256, evaluations // max(1, points)))
    if examples < data.examples:
        chosen = np.linspace(0, data.examples - 1, examples).round().astype(int)
        parts = [data.take(torch.from_numpy(part)) for part in _blocks(chosen, 256)]
        landscape = landscape.on(as_data(parts))
    return landscape, examples


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


class _OnMap:
    """Computes losses at points of a map, in this process.

    Parameters
    ----------
    landscape, span, projection
        As in :func:`loss_grid`.
    points
        All that will be asked for, shape (G, d): whether they lie on a flat, and where its origin is best,
        depends on them.
    """

    def __init__(
        self, landscape: Landscape, span: SnapshotSpan, projection: Projection, points: np.ndarray
    ) -> None:
        from landscape.objective.replay import Replay

        self._span, self._projection = span, projection
        self._flat = _Flat.of(span, projection, points) if len(points) > points.shape[1] + 1 else None
        self._replay = (
            Replay(landscape)
            if self._flat is None
            else Replay(landscape, self._flat.origin, self._flat.directions)
        )

    @property
    def dtype(self) -> torch.dtype:
        """In which the losses are computed."""
        return self._replay.landscape.dtype

    def told(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what another process needs to know: weights, or coordinates on a flat, its origin and directions."""
        if self._flat is None:
            return (np.concatenate([w.numpy() for w in weights_at(self._span, self._projection, points)]),)
        flat = self._flat
        return flat.factors(points).numpy(), flat.origin.numpy(), flat.directions.numpy()

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the losses at points, shape (G,)."""
        if self._flat is None:
            return _losses(self._replay, weights_at(self._span, self._projection, points))
        return np.asarray(self._replay.values(self._flat.factors(points)).double().cpu().numpy())


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
    mapper: Mapper | None = None,
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
        A file to keep finished rows in. If it is there, an interrupted grid goes on where it was; a file of another
        grid, or of another loss, is refused.
    mapper, run
        What applies a function to parts of the grid, in their order, and the run whose training landscape this is:
        ``mapper=ProcessPoolExecutor(4).map, run=run`` shares the rows out to processes, each of which opens the run
        for itself. Any executor whose workers see the run's directory will do; threads would share one module.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the projection has other than two dimensions or no way back, or a mapper is given without a run.
    landscape.errors.RunError
        If the file belongs to something else.
    """
    if projection.coordinates.shape[1] != 2:
        raise ConfigurationError(
            f"A grid needs a projection of 2 dimensions; this one has {projection.coordinates.shape[1]}. Fit one of "
            f"two, or follow a line with loss_line."
        )
    if (mapper is None) != (run is None):
        raise ConfigurationError(
            "loss_grid: give a mapper and the run together; workers open the run for themselves, since a module "
            "cannot be evaluated at several points at the same time."
        )
    if not leads_back(projection):
        raise _no_way_back(projection)
    x, y = _axes(projection.coordinates, resolution, padding, window)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    some, examples = _affordable(landscape, x.size * y.size, evaluations)
    loss = np.full((len(y), len(x)), np.nan)
    done = np.zeros(len(y), dtype=bool)
    store = None if path is None else Path(path)
    on_map = _OnMap(some, span, projection, points.reshape(-1, 2))
    if store is not None and store.exists():
        loss, done = _continued(store, x, y, examples)
        if done.any():
            _require_same_loss(on_map, points, loss, done, store)
    blocks = list(_blocks(np.flatnonzero(~done), max(1, _BETWEEN // len(x))))
    places = [points[rows].reshape(-1, 2) for rows in blocks]
    if mapper is None or run is None:
        found: Iterable[np.ndarray] = map(on_map, places)
    else:
        found = mapper(_OfRun(str(run.path), x.size * y.size, evaluations), map(on_map.told, places))
    with stage("True losses on a grid", len(y), done=int(done.sum())) as progress:
        for rows, values in zip(blocks, found, strict=True):
            loss[rows], done[rows] = values.reshape(len(rows), len(x)), True
            if store is not None:
                _keep(store, x, y, loss, done, examples)
            progress.advance(len(rows))
    return LossGrid(x, y, loss, examples, landscape.data.examples)


@frozen
class _OfRun:
    """Compute losses at some points, in a process that opens the run for itself."""

    path: str
    points: int
    evaluations: int

    def __call__(self, told: tuple[np.ndarray, ...]) -> np.ndarray:
        import torch

        from landscape.objective.replay import Replay

        landscape = _landscape_of(self.path, self.points, self.evaluations)
        first, *others = map(torch.from_numpy, told)
        replay = Replay(landscape, *others)
        return np.asarray(replay.values(first).double().cpu().numpy())


@lru_cache(maxsize=1)
def _landscape_of(path: str, points: int, evaluations: int) -> Landscape:
    from landscape.composition import open_run

    return _affordable(open_run(path).landscape(), points, evaluations)[0]


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
    path: Path, x: np.ndarray, y: np.ndarray, loss: np.ndarray, done: np.ndarray, examples: int
) -> None:
    from landscape.store.tensors import save_tensors

    save_tensors(path, {"x": x, "y": y, "loss": loss, "done": done}, {"loss grid": 1, "examples": examples})


def _continued(path: Path, x: np.ndarray, y: np.ndarray, examples: int) -> tuple[np.ndarray, np.ndarray]:
    from landscape.store.tensors import load_arrays, metadata_of

    header = metadata_of(path)
    if not isinstance(header, dict) or header.get("loss grid") != 1:
        raise RunError(f"{path} holds no loss grid; give another path.")
    kept = load_arrays(path)
    same = all(
        kept[name].shape == axis.shape and np.allclose(kept[name], axis, rtol=1e-9, atol=0)
        for name, axis in (("x", x), ("y", y))
    )
    if not same or header["examples"] != examples:
        raise RunError(
            f"{path} holds a grid of {len(kept['x'])} x {len(kept['y'])} points on {header['examples']} examples, at "
            f"other places or on another number than asked for ({len(x)} x {len(y)}, {examples}). Give another path."
        )
    return np.array(kept["loss"]), np.array(kept["done"])


def _require_same_loss(
    on_map: _OnMap,
    points: np.ndarray,
    loss: np.ndarray,
    done: np.ndarray,
    path: Path,
) -> None:
    """Compute one finished point again; a grid of another landscape would differ there."""
    finite = np.argwhere(np.isfinite(loss) & done[:, None])
    if not len(finite):
        return
    row, column = finite[len(finite) // 2]
    (again,) = on_map(points[row, column][None])
    # One point alone is computed in another way than many, and differs in its last bits.
    tolerance = 1e-3 if "64" not in str(on_map.dtype) else 1e-6
    if not np.isclose(again, loss[row, column], rtol=tolerance, atol=1e-12):
        raise RunError(
            f"{path} holds a grid of another loss: at ({points[row, column][0]:.4g}, {points[row, column][1]:.4g}) it "
            f"says {loss[row, column]:.6g}, and the landscape {again:.6g}. Give another path."
        )


def loss_line(
    landscape: Landscape,
    start: Tensor,
    end: Tensor,
    *,
    points: int = 51,
    beyond: float = 0.25,
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

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two points.
    """
    import torch

    if points < 2:
        raise ConfigurationError(f"loss_line: points={points} is no line; give at least 2.")
    position = np.linspace(-beyond, 1 + beyond, points)
    t = torch.from_numpy(position)[:, None]
    first, last = start.double().cpu(), end.double().cpu()
    block = max(1, _HELD // (8 * len(first)))
    return _line(landscape, position, ((1 - part) * first + part * last for part in t.split(block)))


def loss_along(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: Projection,
    start: np.ndarray,
    end: np.ndarray,
    *,
    points: int = 51,
    beyond: float = 0.25,
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

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two points, ends of another dimension, or a projection without a way back.
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
    position = np.linspace(-beyond, 1 + beyond, points)
    places = (1 - position[:, None]) * ends[0] + position[:, None] * ends[1]
    return _line(landscape, position, weights_at(span, projection, places))


def _line(landscape: Landscape, position: np.ndarray, blocks: Iterable[Tensor]) -> LossLine:
    loss, score = [], []
    for weights in blocks:
        values, found = landscape.value_and_score(weights)
        loss.append(values.double().cpu().numpy())
        score.append(np.full(len(weights), np.nan) if found is None else found.double().cpu().numpy())
    scores = np.concatenate(score)
    return LossLine(position, np.concatenate(loss), None if np.isnan(scores).all() else scores)


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
