"""A critical-point study: a polynomial family, a solver, and a number of samples."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen
from attrs.validators import gt, instance_of

from landscape.composition.configuration import to_tree
from landscape.composition.progress import stage
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.composition.running import default_store
from landscape.interfaces import Backend, PolynomialModel, Solver
from landscape.plugins import RunHooks
from landscape.randomness import derive_seed, torch_generator
from landscape.store import RunStore
from landscape.systems import ParametricFamily, PolynomialFamily, Solutions

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CriticalPointStudy"]


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

    model: PolynomialModel | PolynomialFamily
    solver: Solver = field(validator=instance_of(Solver))
    samples: int = field(default=100, kw_only=True, validator=[instance_of(int), gt(0)])
    seed: int = field(default=0, kw_only=True, validator=instance_of(int))
    name: str | None = field(default=None, kw_only=True)

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
            ``summary()`` has a row per sample; ``tables["real_points"]`` a row per real critical point with
            its loss and Hessian index; ``solutions`` everything.
        """
        from landscape.composition.shipping import run_on

        if backend is not None:
            return run_on(backend, self, store)
        family = self.family()
        parameters = self.parameters(family)
        directory = RunStore(default_store(store)).create(
            to_tree(self), gather(self), kind="critical-points", run_id=run_id
        )
        return self._carry_out(Run(directory, recipe=self), family, parameters)

    def resume(self, run: Run) -> Run:
        """Solve the samples that `run` is missing."""
        family = self.family()
        return self._carry_out(Run(run.directory.reopen(), recipe=self), family, self.parameters(family))

    def _carry_out(self, run: Run, family: ParametricFamily, parameters: NDArray[Any]) -> Run:
        import pandas as pd

        from landscape.composition.critical_points import real_points, sample_rows

        directory = run.directory
        hooks = RunHooks(run)
        hooks.started()
        found: dict[int, Solutions] = {
            int(metadata["sample"]): Solutions.from_arrays(arrays, metadata)
            for arrays, metadata in directory.solutions()
        }
        missing = [index for index in range(len(parameters)) if index not in found]
        generator = torch_generator(self.seed, "solver")
        error: BaseException | None = None
        try:
            with stage(self.name or "Critical points", len(parameters), done=len(found)) as progress:
                if missing:
                    progress.note("solving a generic member, then every sample from it")
                    solved = self.solver.solve_family(family, parameters[np.array(missing)], generator)
                    for index, solutions in zip(missing, solved, strict=True):
                        found[index] = solutions
                        arrays, metadata = solutions.to_arrays()
                        directory.write_solutions(index, arrays, metadata | {"sample": index})
                        progress.note(f"{len(solutions.points)} solutions")
                        progress.advance()
            summary, real = [], []
            for index, solutions in sorted(found.items()):
                row = sample_rows(family, parameters[index], solutions)
                summary.append({"sample": index, "seed": self.seed} | row)
                real += [
                    {"sample": index} | point for point in real_points(family, parameters[index], solutions)
                ]
            directory.write_table("summary", pd.DataFrame(summary))
            directory.write_table("real_points", pd.DataFrame(real))
            directory.close("complete")
        except KeyboardInterrupt as interrupt:
            error = interrupt
            directory.close("interrupted", f"{len(found)} of {len(parameters)} samples done")
            raise
        except BaseException as failure:
            error = failure
            directory.close("failed", f"{type(failure).__name__}: {failure}")
            raise
        finally:
            hooks.finished(error)
        return run
