"""A critical-point study: a polynomial family, a solver, and a number of samples."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from landscape.composition.conduct import begin, closed, conducted, reopened
from landscape.composition.progress import stage
from landscape.composition.run import Run
from landscape.errors import ConfigurationError, PolynomialError
from landscape.interfaces import Backend, PolynomialModel, Solver
from landscape.randomness import derive_seed, preserved_random_state, torch_generator
from landscape.systems import ParametricFamily, PolynomialFamily, Solutions
from landscape.validators import at_least, of_type, optional, refuse, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from landscape.composition.cross_examination import CrossExamination

__all__ = ["CriticalPointStudy"]


#: Matrices of complex numbers, a row and a column per unknown, that following one path takes: the Jacobian, its
#: factors, and what it is put together from.
_MATRICES = 6
#: Copies of the solutions of a sample, complex numbers each, that are there at once: orbits, all of them together,
#: and what is written.
_COPIES = 4


def _polynomial(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, PolynomialModel | PolynomialFamily):
        refuse(
            instance, attribute, value, "give a polynomial model, such as DeepLinear, or a PolynomialFamily."
        )


@frozen
class CriticalPointStudy:
    """Find all isolated complex critical points of many members of a polynomial family.

    Attributes
    ----------
    model
        A polynomial model, or a :class:`~landscape.PolynomialFamily` written out by hand.
    solver
        What finds the solutions.
    samples
        Number of random real members of the family.
    seed
        The one seed: of the samples' parameters and of the solver's generator.
    name
        Stands in the report.
    """

    model: PolynomialModel | PolynomialFamily = field(validator=_polynomial)
    solver: Solver = field(validator=of_type(Solver))
    samples: int = field(default=100, kw_only=True, validator=at_least(1))
    seed: int = field(default=0, kw_only=True, validator=whole)
    name: str | None = field(default=None, kw_only=True, validator=optional(of_type(str)))

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any],
        solver: Solver | None = None,
        *,
        samples: int | None = None,
        seed: int | None = None,
    ) -> CriticalPointStudy:
        """Make the study that a ``config.json`` of the program behind arXiv:2301.12651 describes.

        The fields are those of :mod:`landscape.composition.thesis_configuration`. What is done otherwise than that
        program did it is said in a warning.

        Parameters
        ----------
        source
            The file, or what it holds.
        solver
            ``Monodromy()`` by default.
        samples, seed
            In place of what the file says.

        Raises
        ------
        landscape.errors.ConfigurationError
            Naming the field that is unknown, missing, wrong, or contradicts another.
        """
        from landscape import plugins
        from landscape.composition.thesis_configuration import read_thesis_configuration

        read = read_thesis_configuration(source)
        for note in read.notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        return cls(
            plugins.get("models", "DeepLinear")(**read.model),
            solver or plugins.get("solvers", "Monodromy")(),
            samples=read.samples if samples is None else samples,
            seed=read.seed if seed is None else seed,
        )

    def family(self) -> ParametricFamily:
        """Return the family whose members are solved."""
        return self.model.family() if isinstance(self.model, PolynomialModel) else self.model

    def parameters(self, family: ParametricFamily | None = None) -> NDArray[Any]:
        """Return the parameters of the samples, shape (samples, number of parameters)."""
        return (family or self.family()).sample(self.samples, derive_seed(self.seed, "samples"))

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | None = None,
        *,
        run_id: str | None = None,
    ) -> Run:
        """Solve every sample and record the solutions.

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
            ``summary()`` has a row per sample; ``solutions`` everything. ``tables``: ``network``, one row for all
            samples; ``real_points``, a row per real critical point with its loss and Hessian index;
            ``zero_patterns``, ``real_counts`` and ``hessian_indices``; ``evidence``, how it is known that no solution
            is missing; ``failed_checks`` where any failed.

        Raises
        ------
        landscape.errors.PolynomialError
            For a sample with curves of critical points, as far as that is known beforehand, and for more unknowns
            than fit into memory.
        """
        from landscape.composition.shipping import run_on

        if backend is not None:
            if run_id is not None:
                raise ConfigurationError(
                    "run_id is for runs in this process; leave it out where a backend runs."
                )
            return run_on(backend, self, store)
        family = self.family()
        _refuse_too_many(family)
        parameters = self._solvable(family)
        # What the solver refuses leaves no run behind: solvers check before they return their iterator.
        solved = self._solved(family, parameters)
        run = begin(self, "critical-points", store, run_id)
        return self._carry_out(run, family, parameters, solved)

    def _solvable(self, family: ParametricFamily) -> NDArray[Any]:
        """Return the parameters of the samples; raise where one of them is known to have curves of solutions."""
        parameters = self.parameters(family)
        for index, row in enumerate(parameters):
            reason = family.degeneracy(row)
            if reason:
                raise PolynomialError(
                    f"the critical points of sample {index} of seed {self.seed} are not isolated: {reason}. Give every "
                    f"weight a lambda of its own, with regularisation='uniform(0, 1)' say."
                )
        return parameters

    def _solved(self, family: ParametricFamily, parameters: NDArray[Any]) -> Iterator[Solutions]:
        return self.solver.solve_family(family, parameters, torch_generator(self.seed, "solver"))

    def against(self, solver: Solver, *, tolerance: float = 1e-6) -> CrossExamination:
        """Let another solver solve the same samples, and compare; nothing is recorded.

        Parameters
        ----------
        solver
            The other solver; it may be the same with other settings.
        tolerance
            Up to which solutions count as the same, relative to their size.

        Returns
        -------
        CrossExamination
            True when both have the same solutions of every sample. ``samples()`` has a row per sample with what
            is missing on either side, ``solvers()`` time, paths and failures of both, ``failures()`` the reasons.

        Raises
        ------
        landscape.errors.ConfigurationError
            For what is no solver.
        """
        from landscape.composition.cross_examination import cross_examine

        if not isinstance(solver, Solver):
            raise ConfigurationError(
                f"against: {solver!r} is no solver; give one, such as ls.solvers.Monodromy()."
            )
        family = self.family()
        _refuse_too_many(family)
        return cross_examine((self.solver, solver), family, self._solvable(family), self.seed, tolerance)

    def resume(self, run: Run) -> Run:
        """Solve the samples that `run` is missing."""
        family = self.family()
        return self._carry_out(reopened(run, self), family, self.parameters(family))

    def _carry_out(
        self,
        run: Run,
        family: ParametricFamily,
        parameters: NDArray[Any],
        solved: Iterator[Solutions] | None = None,
    ) -> Run:
        import pandas as pd

        from landscape.composition import critical_points as tables

        directory = run.directory
        found: dict[int, Solutions] = {
            int(metadata["sample"]): Solutions.from_arrays(arrays, metadata)
            for arrays, metadata in directory.solutions()
        }
        missing = [index for index in range(len(parameters)) if index not in found]
        if solved is None:
            solved = self._solved(family, parameters[np.array(missing, dtype=int)])
        with (
            conducted(run, lambda: f"{len(found)} of {len(parameters)} samples done") as hooks,
            preserved_random_state(derive_seed(self.seed, "solver", "global")),
            stage(self.name or "Critical points", len(parameters), done=len(found)) as progress,
        ):
            if missing:
                progress.note("solving a generic member, then every sample from it")
                for index, solutions in zip(missing, solved, strict=True):
                    found[index] = solutions
                    arrays, metadata = solutions.to_arrays()
                    facts = {"sample": index, "unknowns": list(family.unknown_names)}
                    directory.write_solutions(index, arrays, metadata | facts)
                    progress.note(f"{len(solutions.points)} solutions")
                    progress.advance()
            bounds = hooks.bounds(lambda: family.system(_generic(parameters)))
            rows: list[dict[str, Any]] = []
            real: list[dict[str, Any]] = []
            ordered = sorted(found.items())
            for index, solutions in ordered:
                row = tables.sample_rows(family, parameters[index], solutions, bounds)
                rows.append({"sample": index} | row | {"seed": self.seed})
                points = tables.real_points(family, parameters[index], solutions)
                real += [{"sample": index} | point for point in points]
            tables.unequal_counts(rows)
            summary, real_points = pd.DataFrame(rows), pd.DataFrame(real)
            network = pd.DataFrame([tables.network_row(family, summary, real_points)])
            directory.write_table("summary", summary)
            directory.write_table("network", network, latex=tables.latex_of(network, self.name or ""))
            directory.write_table("real_points", real_points)
            directory.write_table("real_counts", tables.real_count_table(summary))
            directory.write_table("hessian_indices", tables.index_table(real_points))
            directory.write_table(
                "zero_patterns", tables.pattern_table(family, (solutions for _, solutions in ordered))
            )
            directory.write_table("evidence", tables.evidence_table(solutions for _, solutions in ordered))
            failed = tables.failed_checks(summary)
            if len(failed):
                directory.write_table("failed_checks", failed)
            closed(run, hooks, "complete")
        return run


def _refuse_too_many(family: ParametricFamily) -> None:
    """Raise where not even one path, or the solutions of one sample, fit into memory.

    Raises
    ------
    landscape.errors.PolynomialError
        Naming the number of unknowns.
    """
    n = family.unknown_count
    needed = _MATRICES * 16 * n**2
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return  # a system that does not say how much memory it has
    if needed > there:
        raise PolynomialError(
            f"{n} unknowns are too many: one path alone needs {_gibibytes(needed)} GiB for its Jacobians, this machine "
            f"has {_gibibytes(there)}. Choose smaller widths; there are as many unknowns as weights."
        )
    count = family.conjectured_counts().get("N_C", 0)
    needed = _COPIES * 16 * n * count
    if needed > there:
        raise PolynomialError(
            f"a formula says that each sample has {_short(count)} solutions in {n} unknowns; they need "
            f"{_gibibytes(needed)} GiB, this machine has {_gibibytes(there)}. Choose smaller widths."
        )


def _short(number: int) -> str:
    """Return a whole number, of more than twelve digits the order only; it may be too large for a float."""
    digits = str(number)
    return digits if len(digits) <= 12 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def _gibibytes(size: int) -> str:
    return _short((size + 2**29) >> 30)


def _generic(parameters: NDArray[Any]) -> NDArray[np.float64]:
    """Return generic parameters, zero only where those of all samples are."""
    drawn = np.random.default_rng(0).uniform(0.5, 1.5, parameters.shape[1])
    return np.asarray(np.where((parameters != 0).any(axis=0), drawn, 0.0))
