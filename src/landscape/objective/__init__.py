"""The objective: a module's loss on data as a function of one flat vector of weights.

========================  =====================================================================================
``layout``                which weight stands where in the vector
``batch``                 nested batches of tensors; one batch per row of weights
``data``                  what data is: read in order, as often as needed
``stream``                mini-batches in an order that a seed decides
``losses``                what a module and a batch give, and how much a batch counts
``evaluation``            evaluating a module at given weights without leaving a trace
``landscape``             value, gradient, score, and relatives on other data or fewer weights
``replay``                values at many points: a forward pass recorded once, and what is affine on a plane
``curvature``             Hessian, Gauss-Newton, Fisher, covariance: operators for many products
``gram``                  inner products of the gradients of examples, without the gradients
``differentiability``     which submodule has no second derivative
``point``                 points and populations, and what was measured there
========================  =====================================================================================
"""

from __future__ import annotations

from landscape.objective.batch import Batch, PerRow
from landscape.objective.curvature import CurvatureCost, CurvatureOperator
from landscape.objective.data import Data, as_data, fixed
from landscape.objective.landscape import Landscape
from landscape.objective.layout import Layout
from landscape.objective.losses import BatchLoss
from landscape.objective.point import Point, Population
from landscape.objective.stream import BatchStream, BatchStreamState

__all__ = [
    "Batch",
    "BatchLoss",
    "BatchStream",
    "BatchStreamState",
    "CurvatureCost",
    "CurvatureOperator",
    "Data",
    "Landscape",
    "Layout",
    "PerRow",
    "Point",
    "Population",
    "as_data",
    "fixed",
]
