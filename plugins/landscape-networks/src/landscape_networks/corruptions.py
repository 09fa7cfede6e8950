"""Corrupted data: datasets made of other datasets, to find out what a network makes of damage.

Every one loads its base with the generator it is given, and then draws its own part from the same generator, so
that the splits of the base are those that it has without corruption. Where only the training data is corrupted,
the test data is the base's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError, DataError
from landscape.interfaces import Dataset
from landscape_networks._drawing import integers, normal, permutation
from landscape_networks._fields import optional_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = [
    "DoubleImages",
    "NoiseInputs",
    "NoiseLines",
    "RandomLabels",
    "ScrambledLabels",
    "Seeded",
    "SoftLabels",
]

_ZHANG = (
    "Zhang, Bengio, Hardt, Recht, Vinyals. Understanding deep learning requires rethinking generalization. ICLR "
    "2017, arXiv:1611.03530."
)


def _check_base(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, Dataset):
        raise ConfigurationError(
            f"{type(instance).__name__}: base={value!r} is no dataset; give one, such as Digits()."
        )


def _check_share(instance: Any, attribute: Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigurationError(
            f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; give a number from 0 to 1."
        )


def _pairs(dataset: Any, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the splits of the base as pairs of tensors.

    Raises
    ------
    DataError
        If a split is of another form, or there is none called ``"train"``.
    """
    import torch

    from landscape.objective import as_data

    splits = {name: as_data(data).everything() for name, data in dataset.base.load(generator).items()}
    who, base = type(dataset).__name__, type(dataset.base).__name__
    for name, batch in splits.items():
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not all(isinstance(part, torch.Tensor) for part in batch):
            raise DataError(f"{who}: the split {name!r} of {base} is no pair (x, y) of tensors.")
    if "train" not in splits:
        raise DataError(f"{who}: {base} has no split 'train'; it has {', '.join(splits) or 'none'}.")
    return {name: (batch[0], batch[1]) for name, batch in splits.items()}


def _corrupted(
    dataset: Any, generator: torch.Generator, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Mapping[str, Data]:
    """Return the splits of the base with `change` made to the training data alone."""
    from landscape.objective import as_data

    splits = _pairs(dataset, generator)
    splits["train"] = change(*splits["train"])
    return {name: as_data(pair) for name, pair in splits.items()}


def _classes(dataset: Any, *targets: Tensor) -> int:
    """Return the number of classes: what the field says, or the largest label plus one.

    Raises
    ------
    DataError
        For targets that are not class numbers, or more classes than the field says.
    """
    who = type(dataset).__name__
    if any(y.is_floating_point() or y.ndim != 1 for y in targets):
        raise DataError(
            f"{who} needs class numbers as targets, of shape (n,); those of {type(dataset.base).__name__} are "
            f"{targets[0].dtype} of shape {tuple(targets[0].shape)}. Corruptions of labels go inside SoftLabels."
        )
    found = max(int(y.max()) for y in targets) + 1
    if dataset.classes is not None and dataset.classes < found:
        raise DataError(
            f"{who}: classes={dataset.classes}, but the data holds the class {found - 1}; give at least {found}, "
            "or None to count them."
        )
    return dataset.classes or found


def _images(dataset: Any, x: Tensor) -> None:
    if x.ndim < 3:
        raise DataError(
            f"{type(dataset).__name__} needs images, of shape (n, ..., height, width); the inputs of "
            f"{type(dataset.base).__name__} have the shape {tuple(x.shape)}. Digits gives images with flatten=False."
        )


@frozen
class DoubleImages(Dataset):
    """Two images side by side, whose label is the sum of the two labels, modulo the number of classes.

    In every split, image i is joined on its right by image π(i) of the same split, with a permutation π of its
    own drawn from the generator: there are as many doubles as there were images, and every image occurs once on
    either side. The label is :math:`(y_i + y_{π(i)}) mod C`. No single pixel tells anything about it when
    classes are equally frequent.

    Images of shape (n, ..., h, w) become (n, ..., h, 2w). Vectors, shape (n, d), are put one after the other.

    Parameters
    ----------
    base
        The data.
    classes
        C; None is the largest label of any split, plus one.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset.
    """

    base: Dataset = field(validator=_check_base)
    classes: int | None = field(default=None, validator=optional_count)

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, doubled.

        Raises
        ------
        landscape.errors.DataError
            For inputs that are no vectors or images, and targets that are no class numbers.
        """
        import torch

        from landscape.objective import as_data

        splits = _pairs(self, generator)
        classes = _classes(self, *(y for _, y in splits.values()))
        doubled = {}
        for name, (x, y) in splits.items():
            if x.ndim < 2:
                raise DataError("DoubleImages needs inputs of shape (n, d) or (n, ..., height, width).")
            right = permutation(len(y), generator)
            doubled[name] = as_data((torch.cat([x, x[right]], dim=-1), (y + y[right]) % classes))
        return doubled


@frozen
class ScrambledLabels(Dataset):
    """Training labels in random order: inputs and labels are as they were, but have nothing to do with each other.

    The labels are permuted, so that every class stays as frequent as it was; by chance, about one label in C is
    right. Test data is left alone. Targets of any kind are permuted, probabilities as well.

    Parameters
    ----------
    base
        The data.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset.
    """

    references: ClassVar[tuple[str, ...]] = (_ZHANG,)

    base: Dataset = field(validator=_check_base)

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, with the labels of ``"train"`` permuted."""
        return _corrupted(self, generator, lambda x, y: (x, y[permutation(len(y), generator)]))


@frozen
class RandomLabels(Dataset):
    """A fraction of the training labels is replaced by random ones.

    round(fraction n) of the n examples are drawn; each gets a label uniform among all C classes, by chance one
    in C its own, as in Zhang et al. (2017). Test data is left alone.

    Parameters
    ----------
    base
        The data.
    fraction
        From 0 to 1.
    classes
        C; None is the largest label of the training data plus one.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset or the fraction is not between 0 and 1.
    """

    references: ClassVar[tuple[str, ...]] = (_ZHANG,)

    base: Dataset = field(validator=_check_base)
    fraction: float = field(default=1.0, validator=_check_share)
    classes: int | None = field(default=None, validator=optional_count)

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, with some labels of ``"train"`` replaced."""

        def replace(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            count = round(self.fraction * len(y))
            rows = permutation(len(y), generator)[:count]
            labels = y.clone()
            labels[rows] = integers(_classes(self, y), count, generator).to(y.dtype)
            return x, labels

        return _corrupted(self, generator, replace)


@frozen
class NoiseInputs(Dataset):
    """Training inputs replaced by standard normal noise; labels and test data are left alone.

    Parameters
    ----------
    base
        The data.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset.
    """

    references: ClassVar[tuple[str, ...]] = (_ZHANG,)

    base: Dataset = field(validator=_check_base)

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, with noise as inputs of ``"train"``."""
        return _corrupted(self, generator, lambda x, y: (normal(tuple(x.shape), generator, _floating(x)), y))


@frozen
class NoiseLines(Dataset):
    """Some rows and columns of the training images replaced by standard normal noise.

    The rows and columns are drawn once and are the same in all images and channels; the noise differs from
    pixel to pixel and image to image. Labels and test data are left alone.

    Parameters
    ----------
    base
        The data: images of shape (n, ..., height, width).
    rows, columns
        How many.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset, or for numbers below 0.
    """

    base: Dataset = field(validator=_check_base)
    rows: int = 7
    columns: int = 7

    def __attrs_post_init__(self) -> None:
        if min(self.rows, self.columns) < 0:
            raise ConfigurationError(
                f"NoiseLines: rows={self.rows}, columns={self.columns}; give numbers of at least 0."
            )

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, with noise in some lines of ``"train"``.

        Raises
        ------
        landscape.errors.DataError
            For inputs that are no images, and images that have fewer rows or columns.
        """
        import torch

        def replace(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            _images(self, x)
            height, width = x.shape[-2:]
            if self.rows > height or self.columns > width:
                raise DataError(
                    f"NoiseLines: {self.rows} rows and {self.columns} columns of images with {height} x {width} "
                    "pixels; give fewer."
                )
            noisy = torch.zeros(height, width, dtype=torch.bool)
            noisy[permutation(height, generator)[: self.rows]] = True
            noisy[:, permutation(width, generator)[: self.columns]] = True
            images = x.to(_floating(x), copy=True)
            shape = (*x.shape[:-2], int(noisy.sum()))
            images[..., noisy] = normal(shape, generator, images.dtype)
            return images, y

        return _corrupted(self, generator, replace)


@frozen
class SoftLabels(Dataset):
    r"""Training labels as probabilities: p for the class of the example and q for each of the others.

    Targets become floating-point numbers of shape (n, C). The loss ``"cross_entropy"`` is then
    :math:`-\frac1n \sum_i \sum_c t_{ic} \log p_{ic}`, and the score still counts how often the class of the
    example is the most probable one. Test targets stay class numbers, that is, probabilities 1 and 0.

    Parameters
    ----------
    base
        The data. Corruptions of labels go inside: ``SoftLabels(ScrambledLabels(Digits()))``.
    p
        Probability of the class of the example.
    q
        Of every other class; None is (1 - p) / (C - 1), with which they sum to 1: 0.01 for ten classes.
    classes
        C; None is the largest label of any split, plus one.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset, or for probabilities that are not between 0 and 1.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna. Rethinking the Inception architecture for computer vision. "
        "CVPR 2016, arXiv:1512.00567, section 7.",
    )

    base: Dataset = field(validator=_check_base)
    p: float = field(default=0.91, validator=_check_share)
    q: float | None = None
    classes: int | None = field(default=None, validator=optional_count)

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base, with probabilities as targets of ``"train"``.

        Raises
        ------
        landscape.errors.DataError
            For targets that are no class numbers, and data of one class.
        landscape.errors.ConfigurationError
            Where the probabilities do not sum to 1.
        """
        import torch

        from landscape.objective import as_data

        splits = _pairs(self, generator)
        classes = _classes(self, *(y for _, y in splits.values()))
        if classes < 2:
            raise DataError("SoftLabels: the data holds one class only; there is no other to give weight to.")
        even = (1 - self.p) / (classes - 1)
        q = even if self.q is None else self.q
        total = self.p + (classes - 1) * q
        if q < 0 or abs(total - 1) > 1e-9:
            raise ConfigurationError(
                f"SoftLabels: p={self.p} and q={q} for {classes} classes sum to {total:.6g}, not to 1; leave q "
                f"out, which makes it {even:.6g}."
            )
        x, y = splits["train"]
        soft = torch.full((len(y), classes), q, dtype=_floating(x))
        soft[torch.arange(len(y)), y] = self.p
        splits["train"] = x, soft
        return {name: as_data(pair) for name, pair in splits.items()}


@frozen
class Seeded(Dataset):
    """Data that is drawn with a seed of its own, whatever the seed of the experiment.

    Splits, subsets and corruptions are drawn from the generator of the experiment, so that another seed gives
    other data. ``Seeded(RandomLabels(Digits(), 0.2), seed=3)`` is the data of an experiment with seed 3 in
    every experiment: only initialisation, data order and noise change with its seed.

    Parameters
    ----------
    base
        The data.
    seed
        The seed of the data.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `base` is no dataset.
    """

    base: Dataset = field(validator=_check_base)
    seed: int = 0

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits of the base; `generator` is not drawn from."""
        from landscape.randomness import torch_generator

        return self.base.load(torch_generator(self.seed, "dataset"))


def _floating(x: Tensor) -> torch.dtype:
    """Return the type of x, or float32 where it is no floating type."""
    import torch

    return x.dtype if x.is_floating_point() else torch.float32
