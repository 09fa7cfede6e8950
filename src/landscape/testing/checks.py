"""What every component of a kind must do, as checks for the tests of its author."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from landscape.errors import ConfigurationError, LandscapeError
from landscape.interfaces import (
    Component,
    InvertibleProjection,
    LandscapeProjector,
    Measurement,
    PopulationProbe,
    Probe,
    Projection,
    Projector,
    Solver,
    Uncertainty,
    Walker,
)
from landscape.objective import Landscape, Point, Population
from landscape.plugins.entry import flaw, infer_kind
from landscape.randomness import preserved_random_state
from landscape.store import SnapshotSpan, decode, encode
from landscape.systems import PolynomialSystem, Solutions, match
from landscape.testing.landscapes import quadratic, tanh_regression

__all__ = [
    "ConformanceError",
    "check_component",
    "check_probe",
    "check_projector",
    "check_solver",
    "check_walker",
]


class ConformanceError(LandscapeError, AssertionError):
    """A component breaks a rule that landscape relies on; the message names the rule and the cure."""


def _require(condition: Any, text: str) -> None:
    if not condition:
        raise ConformanceError(text)


# ---------------------------------------------------------------------------------------------------------
# What is compared, and how
# ---------------------------------------------------------------------------------------------------------


def _bits(value: Any) -> Any:
    """Return something that is equal for two values if and only if they agree in every bit."""
    if isinstance(value, Tensor):
        return _bits(value.detach().cpu().resolve_conj().numpy())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: _bits(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [isinstance(value, tuple), *(_bits(entry) for entry in value)]
    if attrs.has(type(value)):
        return {a.name: _bits(getattr(value, a.name)) for a in attrs.fields(type(value))}
    return value


def _global_random_state() -> Any:
    legacy = np.random.get_state()  # noqa: NPY002 - the global state is what is watched here
    return _bits([list(random.getstate()), list(legacy), torch.get_rng_state()])


def _module_state(landscape: Landscape) -> Any:
    module = landscape.module
    return _bits(
        {
            "parameters": dict(module.named_parameters()),
            "buffers": dict(module.named_buffers()),
            "gradients": {name: p.grad for name, p in module.named_parameters() if p.grad is not None},
            "requires_grad": {name: p.requires_grad for name, p in module.named_parameters()},
            "training": {name: part.training for name, part in module.named_modules()},
        }
    )


@contextmanager
def _changes_nothing(who: str, landscapes: Sequence[Landscape] = (), **values: Any) -> Iterator[None]:
    """Require that the block changes neither the global random state, nor modules, nor `values`."""
    random_state = _global_random_state()
    modules = [_module_state(landscape) for landscape in landscapes]
    before = {name: _bits(value) for name, value in values.items()}
    yield
    _require(
        _global_random_state() == random_state,
        f"{who} draws from a global random state (random, numpy.random or torch). Draw from the generator it "
        "is given: torch.randn(..., generator=generator), or landscape.randomness.numpy_generator(generator).",
    )
    for landscape, state in zip(landscapes, modules, strict=True):
        after = _module_state(landscape)
        changed = ", ".join(part for part in state if state[part] != after[part])
        _require(
            not changed,
            f"{who} changes the {changed} of landscape.module. Work with the methods of the landscape, which "
            "take theta as an argument.",
        )
    for name, value in values.items():
        _require(_bits(value) == before[name], f"{who} changes its argument {name} in place; copy it first.")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------------
# Components
# ---------------------------------------------------------------------------------------------------------


def check_component(component: Component | type[Component]) -> None:
    """Check what holds for components of every kind.

    It is a concrete frozen attrs class that derives from one of the interfaces; its instances are hashable,
    equal when their fields are, and survive the way through a configuration file.

    Parameters
    ----------
    component
        An instance, or a class whose fields all have defaults. An instance is better where defaults are None.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance: Any = _instance(component)
    cls: Any = type(instance)
    who = cls.__name__
    try:
        kind = infer_kind(cls)
    except ConfigurationError as error:
        raise ConformanceError(str(error)) from error
    problem = flaw(kind, cls)
    _require(problem is None, f"{who} is not usable as a component: {problem}.")

    try:
        hash(instance)
    except TypeError as error:
        raise ConformanceError(
            f"{who} cannot be hashed ({error}). Measurements are remembered by their probe, so its fields must "
            "be hashable: give lists a converter, `field(converter=tuple)`."
        ) from error
    fields = {a.name: getattr(instance, a.name) for a in attrs.fields(cls) if a.init}
    copy = attrs.evolve(instance)
    _require(
        copy == instance and hash(copy) == hash(instance),
        f"{who} is not equal to a copy of itself. A field compares by identity: keep plain values in fields.",
    )
    for name, value in fields.items():
        _check_plain(f"{who}.{name}", value)
    _require(
        isinstance(cls.schema, int) and not isinstance(cls.schema, bool) and cls.schema >= 1,
        f"{who}.schema must be a whole number, at least 1; it is {cls.schema!r}.",
    )
    _require(
        isinstance(cls.references, tuple) and all(isinstance(text, str) for text in cls.references),
        f"{who}.references must be a tuple of strings; it is {cls.references!r}.",
    )
    _check_round_trip(instance)


def _instance(component: Component | type[Component]) -> Component:
    if not isinstance(component, type):
        return component
    try:
        return component()
    except TypeError as error:
        raise ConformanceError(
            f"{component.__name__}() cannot be made without arguments ({error}); give the check an instance."
        ) from error


def _check_plain(path: str, value: Any) -> None:
    """Require that JSON and TOML can say `value`."""
    if value is None or isinstance(value, bool | int | float | str | Component):
        return
    if isinstance(value, tuple):
        for index, entry in enumerate(value):
            _check_plain(f"{path}[{index}]", entry)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _require(isinstance(key, str), f"{path} has the key {key!r}; keys must be strings.")
            _check_plain(f"{path}[{key!r}]", entry)
    elif attrs.has(type(value)):
        for a in attrs.fields(type(value)):
            _check_plain(f"{path}.{a.name}", getattr(value, a.name))
    else:
        raise ConformanceError(
            f"{path} is {value!r} of type {type(value).__name__}, which a configuration cannot say. Fields are "
            "numbers, strings, booleans, tuples and mappings of these, and other components."
        )


def _check_round_trip(instance: Component) -> None:
    from landscape.composition.trees import plain, structure

    cls = type(instance)
    try:
        tree = json.loads(json.dumps(plain(instance), allow_nan=False))
        # The class is known here and need not be registered; components inside it may be imported.
        del tree["component"]
        again = structure(tree, cls, path=cls.__name__, trust=True)
    except (LandscapeError, TypeError, ValueError) as error:
        raise ConformanceError(
            f"{cls.__name__} does not survive the way through a configuration: {error} Annotate every field "
            "with the type it has."
        ) from error
    _require(
        type(again) is cls and _bits(again) == _bits(instance),
        f"{cls.__name__} comes back from a configuration as {again!r}, not as {instance!r}. A converter or a "
        "default must not change a value that it has changed already.",
    )


# ---------------------------------------------------------------------------------------------------------
# Probes
# ---------------------------------------------------------------------------------------------------------


def check_probe(
    probe: Probe | PopulationProbe | type[Probe] | type[PopulationProbe],
    landscape: Landscape | None = None,
) -> Measurement:
    """Check that a probe measures, repeats itself and changes nothing.

    Parameters
    ----------
    probe
        An instance, or a class whose fields all have defaults.
    landscape
        Where to measure, at its present weights. A noisy quadratic in eight dimensions and a small network
        if left out; a probe that needs something special (a score, certain layers) needs one that has it.

    Returns
    -------
    Measurement
        What it found on the (last) landscape, so that a test can go on with the numbers.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    check_component(probe)
    instance = _instance(probe)
    if not isinstance(instance, Probe | PopulationProbe):
        raise ConformanceError(f"{type(instance).__name__} derives from neither Probe nor PopulationProbe.")
    where = (
        [quadratic(np.linspace(0.5, 4.0, 8), noise=0.3).landscape, tanh_regression().landscape]
        if landscape is None
        else [landscape]
    )
    for each in where:
        measurement = _check_probe_on(instance, each)
    return measurement


def _check_probe_on(probe: Probe | PopulationProbe, landscape: Landscape) -> Measurement:
    who = f"{type(probe).__name__}.measure"
    theta = landscape.initial()
    initial = theta + 0.1 * torch.linspace(-1, 1, theta.numel(), dtype=theta.dtype, device=theta.device)

    def measure(seed: int, global_seed: int) -> Measurement:
        splits = {"train": landscape.data, "test": landscape.data}
        here, start = theta.clone(), initial.clone()
        with (
            preserved_random_state(global_seed),
            _changes_nothing(who, [landscape], theta=here, initial=start),
        ):
            if isinstance(probe, Probe):
                point = Point(landscape, here, step=3, initial=start, seed=1, splits=splits)
                return probe.measure(point, _generator(seed))
            positions = torch.stack([here, start, 0.5 * (here + start)])
            population = Population(landscape, positions, step=3, initial=start, seed=1, splits=splits)
            with _changes_nothing(who, positions=positions):
                return probe.measure(population, _generator(seed))

    first, second = measure(7, global_seed=1), measure(7, global_seed=2)
    _check_measurement(who, first)
    _require(
        _bits(first) == _bits(second),
        f"{who} gives different results at the same point with the same generator. It keeps something between "
        "calls, or draws from elsewhere.",
    )
    return first


def _check_measurement(who: str, found: Any) -> None:
    if not isinstance(found, Measurement):
        raise ConformanceError(f"{who} must return a landscape.Measurement; it returned {found!r}.")
    # What the annotations promise is what is checked here.
    scalars: Mapping[Any, Any] = found.scalars
    errors: Mapping[Any, Any] = found.errors
    arrays: Mapping[Any, Any] = found.arrays
    carry: Mapping[Any, Any] = found.carry
    sentences: Any = found.warnings
    for name in [*scalars, *arrays, *carry]:
        _require(
            isinstance(name, str) and name.isidentifier(),
            f"{who} names something {name!r}. Names become columns and files: use letters, digits and _.",
        )
    for name in ("step", "worker", "at", "warnings"):
        _require(name not in scalars, f"{who} uses the name {name!r}, which the metrics table has taken.")
    for name, value in scalars.items():
        _require(
            isinstance(value, float | int) and not isinstance(value, bool),
            f"{who}: the scalar {name} is {value!r}, a {type(value).__name__}; make it a Python float: float(...).",
        )
    for name, error in errors.items():
        _require(name in scalars, f"{who} gives an error of {name}, which is not among its scalars.")
        _require(
            isinstance(error, Uncertainty) and error.kind in ("bound", "standard error"),
            f"{who}: the error of {name} must be an Uncertainty of kind 'bound' or 'standard error'; it is {error!r}.",
        )
        _require(
            error.value >= 0 or (math.isnan(error.value) and math.isnan(scalars[name])),
            f"{who}: the error of {name} is {error.value!r}; it cannot be negative, nor NaN beside a number.",
        )
        _require(
            f"{name}_error" not in scalars,
            f"{who}: the scalar {name}_error stands where the error of {name} is written.",
        )
    for name, array in arrays.items():
        _require(
            isinstance(array, np.ndarray) and array.dtype.kind in "biufc",
            f"{who}: the array {name} must be a numpy array of numbers; it is a {type(array).__name__}.",
        )
    for name, tensor in carry.items():
        _require(
            isinstance(tensor, Tensor) and not tensor.requires_grad,
            f"{who}: what is carried as {name} must be a tensor without a graph: tensor.detach().",
        )
    _require(
        isinstance(sentences, tuple) and all(isinstance(text, str) for text in sentences),
        f"{who}: warnings must be a tuple of sentences; they are {sentences!r}.",
    )
    unknown = [name for name, value in scalars.items() if not math.isfinite(value)]
    unknown += [name for name, array in arrays.items() if not np.isfinite(array).all()]
    _require(
        not unknown or sentences,
        f"{who} leaves {', '.join(unknown)} without a finite value and does not say why: add a sentence to "
        "Measurement.warnings.",
    )
    _require(
        scalars or arrays,
        f"{who} found nothing: neither scalars nor arrays. What could not be determined is NaN with a warning.",
    )


# ---------------------------------------------------------------------------------------------------------
# Walkers
# ---------------------------------------------------------------------------------------------------------


def check_walker(
    walker: Walker[Any] | type[Walker[Any]], landscape: Landscape | None = None, *, steps: int = 3
) -> None:
    """Check that a walker keeps everything that changes in its state, and that the state can be resumed.

    Parameters
    ----------
    walker
        An instance, or a class whose fields all have defaults.
    landscape
        Where to walk. A noisy quadratic and a small network if left out.
    steps
        How many steps are taken before and after the state has gone through the store.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    check_component(walker)
    instance = _instance(walker)
    if not isinstance(instance, Walker):
        raise ConformanceError(f"{type(instance).__name__} does not derive from Walker.")
    where = (
        [quadratic(np.linspace(0.2, 1.0, 6), noise=0.3).landscape, tanh_regression().landscape]
        if landscape is None
        else [landscape]
    )
    for each in where:
        _check_walker_on(instance, each, steps)


def _check_walker_on(walker: Walker[Any], landscape: Landscape, steps: int) -> None:
    who = type(walker).__name__
    workers: Any = walker.workers
    _require(
        isinstance(workers, int) and workers >= 1,
        f"{who}.workers must be a whole number, at least 1; it is {workers!r}.",
    )
    theta = landscape.initial()
    spread = 0.1 * torch.randn(workers, theta.numel(), generator=_generator(5), dtype=torch.float64)
    positions = theta + spread.to(theta)
    given = positions.clone()

    def start(global_seed: int) -> Any:
        with (
            preserved_random_state(global_seed),
            _changes_nothing(f"{who}.start", [landscape], positions=given),
        ):
            return walker.start(landscape, given, _generator(3))

    state = start(1)
    _require(
        attrs.has(type(state)) and _is_frozen(state),
        f"{who}.start must return a frozen attrs class; it returned a {type(state).__name__}.",
    )
    _require(
        _bits(encode(state)) == _bits(encode(start(2))),
        f"{who}.start gives different states for the same positions and generator.",
    )
    at_start = walker.positions(state)
    _require(
        at_start.shape == positions.shape and torch.equal(at_start, positions),
        f"{who}.positions must return, before the first step, the positions given to start, shape "
        f"{tuple(positions.shape)}; it returned shape {tuple(at_start.shape)}"
        f"{'' if at_start.shape != positions.shape else ' and other numbers'}.",
    )

    def step(before: Any, global_seed: int = 1, active: Tensor | None = None) -> Any:
        with preserved_random_state(global_seed), _changes_nothing(f"{who}.step", [landscape], state=before):
            return walker.step(landscape, before, active=active)

    for _ in range(steps):
        after = step(state)
        _require(
            _bits(encode(after)) == _bits(encode(step(state, global_seed=2))),
            f"{who}.step gives different results for the same state. All that changes belongs into the state, "
            "generator states included.",
        )
        state = after
    _require(
        torch.equal(given, positions), f"{who}.step changes the tensor of positions that start was given."
    )
    _check_labelled(walker, state, landscape.size)
    _check_record(walker, state)
    _check_active(walker, state, step)
    _check_relocation(walker, state, step)
    _check_hyperparameters(walker, state, step)

    fresh = walker.start(landscape, positions, _generator(99))
    tree, tensors = encode(state)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed = decode(json.loads(json.dumps(tree)), tensors, fresh)
    for _ in range(steps):
        state, resumed = step(state), step(resumed)
    _require(
        _bits(encode(state)) == _bits(encode(resumed)),
        f"{who} walks on differently after its state was stored and read again.",
    )


def _is_frozen(state: Any) -> bool:
    try:
        state.__setattr__(attrs.fields(type(state))[0].name, None)
    except (attrs.exceptions.FrozenInstanceError, IndexError):
        return True
    return False


def _check_labelled(walker: Walker[Any], state: Any, size: int) -> None:
    who = f"{type(walker).__name__}.labelled"
    for label, vector in walker.labelled(state).items():
        _require(label.isidentifier(), f"{who}: {label!r} is no name for a point; use letters, digits and _.")
        _require(
            vector.shape == (size,),
            f"{who}: the point {label!r} has shape {tuple(vector.shape)}, not ({size},).",
        )


def _check_record(walker: Walker[Any], state: Any) -> None:
    who = f"{type(walker).__name__}.record"
    workers = len(walker.positions(state))
    with _changes_nothing(who, state=state):
        recorded: Mapping[Any, Any] = walker.record(state)
    for name, values in recorded.items():
        _require(
            isinstance(name, str) and name.isidentifier() and name not in ("step", "worker"),
            f"{who}: {name!r} is no name for a column; use letters, digits and _, and neither 'step' nor 'worker'.",
        )
        _require(
            isinstance(values, tuple) and len(values) == workers and all(type(v) is float for v in values),
            f"{who}: {name} is {values!r}; it must be a tuple of {workers} floats, one for each worker.",
        )


def _check_active(walker: Walker[Any], state: Any, step: Any) -> None:
    who = f"{type(walker).__name__}.step"
    before = walker.positions(state).clone()
    workers = len(before)
    nobody = walker.positions(step(state, active=torch.zeros(workers, dtype=torch.bool)))
    _require(torch.equal(nobody, before), f"{who} moves workers although none is active.")
    everybody = step(state, active=torch.ones(workers, dtype=torch.bool))
    _require(
        _bits(walker.positions(everybody)) == _bits(walker.positions(step(state))),
        f"{who} with every worker active differs from the step without `active`.",
    )
    if workers > 1:
        one = torch.zeros(workers, dtype=torch.bool)
        one[0] = True
        after = walker.positions(step(state, active=one))
        _require(torch.equal(after[1:], before[1:]), f"{who} moves workers that are not active.")


def _check_relocation(walker: Walker[Any], state: Any, step: Any) -> None:
    who = f"{type(walker).__name__}.relocate"
    old = walker.positions(state).clone()
    target = old + 1.0
    with _changes_nothing(who, state=state, positions=target):
        moved = walker.relocate(state, target)
    _require(
        torch.equal(walker.positions(moved), target), f"{who} does not put the workers where it is told to."
    )
    _require(
        walker.hyperparameters(moved) == walker.hyperparameters(state), f"{who} changes hyper-parameters."
    )
    back = walker.relocate(moved, old)
    _require(
        _bits(encode(back)) == _bits(encode(state)),
        f"{who} there and back does not give the state it began with: it changes more than the positions.",
    )
    step(moved)
    _require(torch.equal(target, old + 1.0), f"{who} keeps the tensor it is given, and a step changes it.")


def _check_hyperparameters(walker: Walker[Any], state: Any, step: Any) -> None:
    who = type(walker).__name__
    in_force = walker.hyperparameters(state)
    workers = len(walker.positions(state))
    for name, value in in_force.items():
        # A name such as "0.lr" is that of a part of the population.
        if isinstance(value, tuple) and "." not in name:
            _require(
                len(value) == workers,
                f"{who}.hyperparameters: {name} has {len(value)} values for {workers} workers.",
            )
        with _changes_nothing(f"{who}.adjust", state=state):
            same = walker.adjust(state, **{name: value})
        _require(
            _bits(encode(step(same))) == _bits(encode(step(state))),
            f"{who}.adjust({name}=...) with the value in force changes the walk.",
        )
        wanted = tuple(entry / 2 for entry in value) if isinstance(value, tuple) else value / 2
        other = walker.adjust(state, **{name: wanted})
        _require(
            walker.hyperparameters(other)[name] == wanted,
            f"{who}.adjust({name}={wanted!r}) is not in force afterwards; hyperparameters still says "
            f"{walker.hyperparameters(other)[name]!r}.",
        )
    try:
        walker.adjust(state, no_such_name=1.0)
    except ConfigurationError:
        return
    raise ConformanceError(f"{who}.adjust accepts a name that hyperparameters does not list.")


# ---------------------------------------------------------------------------------------------------------
# Projectors
# ---------------------------------------------------------------------------------------------------------


def check_projector(
    projector: Projector | type[Projector],
    span: SnapshotSpan | None = None,
    *,
    landscape: Landscape | None = None,
    consistent: bool = True,
) -> Projection:
    """Check that a projector fits a projection that can be drawn, stored and fitted again.

    Parameters
    ----------
    projector
        An instance, or a class whose fields all have defaults.
    span
        The snapshots to fit; a curved path of 40 snapshots in 30 dimensions if left out.
    landscape
        What they are points of, for a :class:`~landscape.interfaces.LandscapeProjector`.
    consistent
        Whether the projection maps a snapshot to where it stands. Methods without a map of their own for
        further points, such as t-SNE, do so only nearly.

    Returns
    -------
    Projection
        What was fitted, so that a test can go on with it.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    check_component(projector)
    instance = _instance(projector)
    if not isinstance(instance, Projector):
        raise ConformanceError(f"{type(instance).__name__} does not derive from Projector.")
    who = type(instance).__name__
    span = _curved_path() if span is None else span

    def fit(global_seed: int) -> Projection:
        with (
            preserved_random_state(global_seed),
            _changes_nothing(f"{who}.fit", coordinates=span.coordinates),
        ):
            if isinstance(instance, LandscapeProjector) and landscape is not None:
                return instance.fit_to(landscape, span, _generator(11))
            return instance.fit(span, _generator(11))

    projection, again = fit(1), fit(2)
    _require(isinstance(projection, Projection), f"{who}.fit must return a Projection, not {projection!r}.")
    drawn = projection.coordinates
    snapshots = len(span.coordinates)
    _require(
        drawn.ndim == 2 and len(drawn) == snapshots and drawn.dtype == np.float64,
        f"{who}: coordinates must be float64 of shape ({snapshots}, d); they are {drawn.dtype} of shape {drawn.shape}.",
    )
    _require(np.isfinite(drawn).all(), f"{who}: coordinates are not all finite.")
    _require(
        _bits(drawn) == _bits(again.coordinates),
        f"{who}.fit gives different maps for the same snapshots and generator.",
    )
    dimension = drawn.shape[1]
    labels: Any = projection.axis_labels
    _require(
        len(labels) == dimension and all(isinstance(label, str) for label in labels),
        f"{who}: axis_labels must be {dimension} strings, one per coordinate; they are {labels!r}.",
    )
    quality: Any = projection.quality
    _require(
        quality and all(isinstance(value, float | int) for value in quality.values()),
        f"{who}: quality must say, in numbers, how much the picture keeps; it is {quality!r}.",
    )
    arrays: Any = projection.to_arrays()
    _require(
        arrays
        and all(isinstance(array, np.ndarray) and array.dtype.kind in "biufcU" for array in arrays.values()),
        f"{who}: to_arrays must return numpy arrays of numbers by name.",
    )
    with _changes_nothing(f"{who}: transform", coefficients=span.coordinates):
        moved = projection.transform(span.coordinates)
    _require(
        moved.shape == drawn.shape and np.isfinite(moved).all(),
        f"{who}: transform of shape {span.coordinates.shape} must give finite numbers of shape {drawn.shape}; "
        f"it gave shape {moved.shape}.",
    )
    if consistent:
        size = max(float(np.abs(drawn).max()), 1e-300)
        off = float(np.abs(moved - drawn).max()) / size
        _require(
            off < 1e-6,
            f"{who}: transform maps the snapshots {off:.1e} (relative) away from where coordinates has them.",
        )
    if isinstance(projection, InvertibleProjection):
        back = projection.inverse(drawn)
        _require(
            back.shape == span.coordinates.shape and np.isfinite(back).all(),
            f"{who}: inverse of shape {drawn.shape} must give finite numbers of shape "
            f"{span.coordinates.shape}; it gave shape {back.shape}.",
        )
        true = span.coordinates
        missed = float(((back - true) ** 2).sum())
        spread = float(((true - true.mean(axis=0)) ** 2).sum())
        _require(
            missed < spread,
            f"{who}: inverse leads farther from the snapshots than their own mean is (squared distance {missed:.3g} "
            f"against {spread:.3g}); the loss drawn under the map would be that of other weights.",
        )
    return projection


def _curved_path() -> SnapshotSpan:
    """Return 40 snapshots along a noisy curve in 30 dimensions."""
    generator = _generator(17)
    time = torch.linspace(0, 3, 40, dtype=torch.float64)[:, None]
    directions = torch.randn(3, 30, generator=generator, dtype=torch.float64)
    curve = torch.cat([time, time.cos(), (2 * time).sin()], dim=1) @ directions
    noise = 0.05 * torch.randn(40, 30, generator=generator, dtype=torch.float64)
    return SnapshotSpan.from_tensor(curve + noise)


# ---------------------------------------------------------------------------------------------------------
# Solvers
# ---------------------------------------------------------------------------------------------------------


def check_solver(
    solver: Solver | type[Solver],
    system: PolynomialSystem | None = None,
    expected: ArrayLike | None = None,
) -> Solutions:
    """Check that a solver finds all isolated complex solutions of a system, and says how it knows.

    Parameters
    ----------
    solver
        An instance, or a class whose fields all have defaults.
    system
        What to solve; ``x^2 + y^2 - 5 = 0, x*y - 2 = 0`` if left out, with the solutions (1, 2), (2, 1) and
        their negatives.
    expected
        Its isolated solutions, shape (n, N); needed with `system`.

    Returns
    -------
    Solutions
        What was found.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    check_component(solver)
    instance = _instance(solver)
    if not isinstance(instance, Solver):
        raise ConformanceError(f"{type(instance).__name__} does not derive from Solver.")
    who = f"{type(instance).__name__}.solve"
    if system is None:
        system = PolynomialSystem(("x^2 + y^2 - 5", "x*y - 2"), ("x", "y"))
        expected = [[1, 2], [2, 1], [-1, -2], [-2, -1]]
    if expected is None:
        raise ConformanceError("check_solver needs the expected solutions of the system it is given.")
    truth = np.asarray(expected, dtype=np.complex128)

    def solve(global_seed: int) -> Solutions:
        with preserved_random_state(global_seed), _changes_nothing(who):
            return instance.solve(system, _generator(13))

    found, again = solve(1), solve(2)
    _require(isinstance(found, Solutions), f"{who} must return landscape.Solutions; it returned {found!r}.")
    _require(
        _bits(found.points) == _bits(again.points),
        f"{who} gives different points for the same system and generator.",
    )
    missing = truth[match(truth, found.points) < 0]
    _require(not len(missing), f"{who} does not find {missing.tolist()}.")
    wrong = found.points[match(found.points, truth) < 0]
    _require(not len(wrong), f"{who} calls {wrong.tolist()} solutions, which they are not.")
    _require(len(found) == len(truth), f"{who} lists {len(found)} solutions of {len(truth)}: some twice.")
    _require(
        found.completeness == "unknown" or found.evidence,
        f"{who} claims completeness {found.completeness!r} and gives no evidence for it.",
    )
    arrays, metadata = found.to_arrays()
    stored = Solutions.from_arrays(arrays, json.loads(json.dumps(metadata)))
    _require(np.array_equal(stored.points, found.points), f"{who}: the solutions cannot be stored.")
    return found
