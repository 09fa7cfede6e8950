"""The trace of the Hessian by Hutchinson's estimator."""

import torch
from attrs import field, frozen, validators

from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.objective import Point


@frozen
class HessianTrace(Probe):
    """Estimates tr H as the mean of z.Hz over vectors z of random signs.

    Column `hessian_trace`, with its standard error; the variance of one sample is twice the sum of squares of
    H off its diagonal (Hutchinson 1990). Costs two gradients per sample and keeps one vector.

    Parameters
    ----------
    samples
        How many vectors. The error shrinks as one over the root of this; with a single one it is unknown.
    """

    references = ("Hutchinson. Commun. Stat. Simul. Comput. 19 (1990).",)

    samples: int = field(default=32, validator=validators.ge(1))

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Measure at `point`, with signs drawn from `generator`."""
        values = torch.empty(self.samples, dtype=torch.float64)
        for i in range(self.samples):
            bits = torch.randint(2, point.theta.shape, generator=generator, device=generator.device)
            z = 2 * bits.to(point.theta) - 1
            values[i] = z.double() @ point.hessian().matvec(z).double()
        trace = {"hessian_trace": float(values.mean())}
        if self.samples == 1:
            return Measurement(scalars=trace, warnings=("A single sample says nothing about its error.",))
        error = Uncertainty(float(values.std()) / self.samples**0.5, "standard error")
        return Measurement(scalars=trace, errors={"hessian_trace": error})
