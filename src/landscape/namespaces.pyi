"""``landscape.probes`` and its like as type checkers see them; there is no such module when Python runs.

The names of this project's own components have their types here. All other names are looked up when the program
runs, and are ``Any`` to a type checker (see ``Namespace.__getattr__``), as are those of plugins that are not
installed. A test compares this file with the entry points.
"""

import landscape.composition.in_process
import landscape.composition.schedules
import landscape.composition.starts
import landscape_covariance.covariance
import landscape_covariance.noise
import landscape_hessian.estimates
import landscape_hessian.overlap
import landscape_hessian.spectrum
import landscape_hessian.whole
import landscape_homotopy.monodromy
import landscape_homotopy.parameter_homotopy
import landscape_homotopy.total_degree
import landscape_msolve.msolve
import landscape_networks.cifar
import landscape_networks.convolutional
import landscape_networks.corruptions
import landscape_networks.deep_linear
import landscape_networks.digits
import landscape_networks.idx
import landscape_networks.mlp
import landscape_networks.omniglot
import landscape_networks.plane
import landscape_networks.quadratic
import landscape_networks.synthetic
import landscape_networks.tensors
import landscape_networks.torchvision_dataset
import landscape_phcpack.phcpack
import landscape_projectors.autoencoder
import landscape_projectors.binary
import landscape_projectors.composite
import landscape_projectors.layouts
import landscape_projectors.pca
import landscape_projectors.planes
import landscape_projectors.som
import landscape_projectors.starts
import landscape_walkers.adam
import landscape_walkers.connectivity
import landscape_walkers.distances
import landscape_walkers.easgd
import landscape_walkers.entropy_sgd
import landscape_walkers.gradient_norm
import landscape_walkers.group
import landscape_walkers.interpolation
import landscape_walkers.langevin
import landscape_walkers.lbfgs
import landscape_walkers.minimum_ratio
import landscape_walkers.parle
import landscape_walkers.path
import landscape_walkers.rmsprop
import landscape_walkers.robust_ensemble
import landscape_walkers.sam
import landscape_walkers.schedules
import landscape_walkers.sgd
import landscape_walkers.sharpness
import landscape_walkers.stops
import landscape_walkers.wandering
from landscape.plugins.registry import Namespace

class _Models(Namespace):
    DeepLinear: type[landscape_networks.deep_linear.DeepLinear]
    LeNet: type[landscape_networks.convolutional.LeNet]
    MLP: type[landscape_networks.mlp.MLP]
    NoisyQuadratic: type[landscape_networks.quadratic.NoisyQuadratic]
    Plane: type[landscape_networks.plane.Plane]
    SimpleCNN: type[landscape_networks.convolutional.SimpleCNN]

class _Datasets(Namespace):
    CIFAR10: type[landscape_networks.cifar.CIFAR10]
    CIFAR100: type[landscape_networks.cifar.CIFAR100]
    Digits: type[landscape_networks.digits.Digits]
    DoubleImages: type[landscape_networks.corruptions.DoubleImages]
    FashionMNIST: type[landscape_networks.idx.FashionMNIST]
    FunctionFit: type[landscape_networks.synthetic.FunctionFit]
    GaussianClusters: type[landscape_networks.synthetic.GaussianClusters]
    GradientNoise: type[landscape_networks.quadratic.GradientNoise]
    KMNIST: type[landscape_networks.idx.KMNIST]
    MNIST: type[landscape_networks.idx.MNIST]
    NoiseInputs: type[landscape_networks.corruptions.NoiseInputs]
    NoiseLines: type[landscape_networks.corruptions.NoiseLines]
    Omniglot: type[landscape_networks.omniglot.Omniglot]
    RandomLabels: type[landscape_networks.corruptions.RandomLabels]
    ScrambledLabels: type[landscape_networks.corruptions.ScrambledLabels]
    Seeded: type[landscape_networks.corruptions.Seeded]
    SoftLabels: type[landscape_networks.corruptions.SoftLabels]
    Tensors: type[landscape_networks.tensors.Tensors]
    TorchvisionDataset: type[landscape_networks.torchvision_dataset.TorchvisionDataset]

class _Probes(Namespace):
    CosineWithStart: type[landscape_walkers.path.CosineWithStart]
    CovarianceHessianAlignment: type[landscape_covariance.noise.CovarianceHessianAlignment]
    CurvatureDensity: type[landscape_hessian.estimates.CurvatureDensity]
    CurvatureDiagonal: type[landscape_hessian.estimates.CurvatureDiagonal]
    CurvatureSpectrum: type[landscape_hessian.whole.CurvatureSpectrum]
    CurvatureTrace: type[landscape_hessian.estimates.CurvatureTrace]
    DistanceFromStart: type[landscape_walkers.path.DistanceFromStart]
    EigenvaluesNear: type[landscape_hessian.whole.EigenvaluesNear]
    GradientCovariance: type[landscape_covariance.covariance.GradientCovariance]
    GradientHessianOverlap: type[landscape_hessian.overlap.GradientHessianOverlap]
    GradientNorm: type[landscape_walkers.path.GradientNorm]
    GradientNoiseScale: type[landscape_covariance.noise.GradientNoiseScale]
    HessianSpectrum: type[landscape_hessian.spectrum.HessianSpectrum]
    HessianSubspaceOverlap: type[landscape_hessian.overlap.HessianSubspaceOverlap]
    Interpolation: type[landscape_walkers.interpolation.Interpolation]
    Loss: type[landscape_walkers.path.Loss]
    MinimumRatio: type[landscape_walkers.minimum_ratio.MinimumRatio]
    ModeConnectivity: type[landscape_walkers.connectivity.ModeConnectivity]
    PairwiseDistances: type[landscape_walkers.distances.PairwiseDistances]
    Score: type[landscape_walkers.path.Score]
    Sharpness: type[landscape_walkers.path.Sharpness]
    WeightNorm: type[landscape_walkers.path.WeightNorm]

class _Walkers(Namespace):
    Adam: type[landscape_walkers.adam.Adam]
    EASGD: type[landscape_walkers.easgd.EASGD]
    EntropySGD: type[landscape_walkers.entropy_sgd.EntropySGD]
    ExcursionWalk: type[landscape_walkers.wandering.ExcursionWalk]
    GD: type[landscape_walkers.sgd.GD]
    GradientNormDescent: type[landscape_walkers.gradient_norm.GradientNormDescent]
    Group: type[landscape_walkers.group.Group]
    LBFGS: type[landscape_walkers.lbfgs.LBFGS]
    MALA: type[landscape_walkers.langevin.MALA]
    Parle: type[landscape_walkers.parle.Parle]
    RMSprop: type[landscape_walkers.rmsprop.RMSprop]
    RandomWalk: type[landscape_walkers.wandering.RandomWalk]
    RobustEnsemble: type[landscape_walkers.robust_ensemble.RobustEnsemble]
    SAM: type[landscape_walkers.sam.SAM]
    SGD: type[landscape_walkers.sgd.SGD]
    SGLD: type[landscape_walkers.langevin.SGLD]
    SharpnessAscent: type[landscape_walkers.sharpness.SharpnessAscent]

class _Projectors(Namespace):
    Autoencoder: type[landscape_projectors.autoencoder.Autoencoder]
    BinaryEncoder: type[landscape_projectors.binary.BinaryEncoder]
    Chain: type[landscape_projectors.composite.Chain]
    FitOn: type[landscape_projectors.composite.FitOn]
    HessianPlane: type[landscape_projectors.planes.HessianPlane]
    PCA: type[landscape_projectors.pca.PCA]
    PHATE: type[landscape_projectors.layouts.PHATE]
    Part: type[landscape_projectors.composite.Part]
    RandomDirections: type[landscape_projectors.planes.RandomDirections]
    SOM: type[landscape_projectors.som.SOM]
    TSNE: type[landscape_projectors.layouts.TSNE]
    ThreePoints: type[landscape_projectors.planes.ThreePoints]
    UMAP: type[landscape_projectors.layouts.UMAP]

class _Solvers(Namespace):
    Monodromy: type[landscape_homotopy.monodromy.Monodromy]
    Msolve: type[landscape_msolve.msolve.Msolve]
    PHCpack: type[landscape_phcpack.phcpack.PHCpack]
    ParameterHomotopy: type[landscape_homotopy.parameter_homotopy.ParameterHomotopy]
    TotalDegree: type[landscape_homotopy.total_degree.TotalDegree]

class _Backends(Namespace):
    InProcess: type[landscape.composition.in_process.InProcess]

class _Starts(Namespace):
    Fresh: type[landscape.composition.starts.Fresh]
    FromFile: type[landscape.composition.starts.FromFile]
    FromRun: type[landscape.composition.starts.FromRun]
    PreTrained: type[landscape.composition.starts.PreTrained]
    Ranked: type[landscape_projectors.starts.Ranked]
    WeightLattice: type[landscape_projectors.starts.WeightLattice]

class _Stops(Namespace):
    MaximalLoss: type[landscape_walkers.stops.MaximalLoss]
    Patience: type[landscape_walkers.stops.Patience]
    Target: type[landscape_walkers.stops.Target]

class _Schedules(Namespace):
    Anneal: type[landscape_walkers.schedules.Anneal]
    At: type[landscape.composition.schedules.At]
    Decay: type[landscape_walkers.schedules.Decay]

models: _Models
datasets: _Datasets
probes: _Probes
walkers: _Walkers
projectors: _Projectors
solvers: _Solvers
backends: _Backends
starts: _Starts
stops: _Stops
schedules: _Schedules
studies: Namespace
