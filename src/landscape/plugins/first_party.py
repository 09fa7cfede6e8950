"""Which distribution of this project provides what, to tell what to install when a name is missing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["FIRST_PARTY"]

_NAMES = {
    "landscape-networks": {
        "models": "MLP DeepLinear LeNet NoisyQuadratic Plane SimpleCNN",
        "datasets": "Digits CIFAR10 CIFAR100 DoubleImages FashionMNIST FunctionFit GaussianClusters GradientNoise "
        "KMNIST MNIST NoiseInputs NoiseLines Omniglot RandomLabels ScrambledLabels Seeded SoftLabels Tensors "
        "TorchvisionDataset",
    },
    "landscape-walkers": {
        "walkers": "SGD EASGD GD Adam RMSprop LBFGS SAM SGLD MALA EntropySGD GradientNormDescent "
        "SharpnessAscent RandomWalk ExcursionWalk RobustEnsemble Parle Group",
        "probes": "Loss Score GradientNorm WeightNorm CosineWithStart DistanceFromStart Sharpness "
        "PairwiseDistances Interpolation ModeConnectivity MinimumRatio",
        "stops": "Target Patience MaximalLoss",
        "schedules": "Anneal Decay",
    },
    "landscape-hessian": {
        "probes": "HessianSpectrum GradientHessianOverlap CurvatureDensity CurvatureDiagonal CurvatureSpectrum "
        "CurvatureTrace EigenvaluesNear HessianSubspaceOverlap"
    },
    "landscape-covariance": {"probes": "GradientCovariance CovarianceHessianAlignment GradientNoiseScale"},
    "landscape-projectors": {
        "projectors": "PCA SOM Autoencoder BinaryEncoder Chain FitOn HessianPlane PHATE Part RandomDirections TSNE "
        "ThreePoints UMAP",
        "starts": "Ranked WeightLattice",
    },
    "landscape-homotopy": {"solvers": "Monodromy ParameterHomotopy TotalDegree"},
    "landscape-phcpack": {"solvers": "PHCpack"},
    "landscape-msolve": {"solvers": "Msolve"},
    "landscape-studies": {
        "studies": "deep-linear-critical-points demo elementary-walkers initialisation learning-dynamics "
        "noisy-quadratic optimisation-path weight-space-map zero-gradient"
    },
}

#: ``{(kind, name): distribution}`` of the plugins in this repository.
FIRST_PARTY: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (kind, name): distribution
        for distribution, kinds in _NAMES.items()
        for kind, names in kinds.items()
        for name in names.split()
    }
)
