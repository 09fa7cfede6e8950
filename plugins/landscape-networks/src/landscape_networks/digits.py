"""Handwritten digits: small real images that need no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Dataset
from landscape_networks._drawing import stratified
from landscape_networks._fields import check_fraction

if TYPE_CHECKING:
    import torch

    from landscape.objective import Data

__all__ = ["Digits"]

#: How many images scikit-learn carries.
_IMAGES = 1797
_CLASSES = 10


def _check_examples(instance: Digits, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, int) and _CLASSES <= value <= _IMAGES):
        raise ConfigurationError(
            f"Digits: examples={value!r} is not possible; there are {_IMAGES} images, and at least "
            f"{_CLASSES} are needed for one of each digit. None takes all."
        )


@frozen
class Digits(Dataset):
    """The 1,797 handwritten digits that scikit-learn carries: 8 x 8 pixels, ten classes, no download.

    Inputs are float32 in [0, 1] (the grey values 0 to 16, divided by 16), of shape (n, 64), or
    (n, 1, 8, 8) with ``flatten=False``. Targets are the digits 0 to 9 as int64, of shape (n,).

    The split is drawn from the generator and stratified: every digit has the same share of both parts, up to
    rounding. Within a part, images keep the order of the original.

    Parameters
    ----------
    test_fraction
        Share of the images that becomes the split ``"test"``; with 0 there is no such split and all images
        are for training.
    examples
        How many of the images to use, test images included; drawn with the same share of every digit, up to
        rounding. None uses all 1,797.
    centre
        Subtract from every pixel its mean over the training images, in both splits.
    flatten
        Whether an image is a vector of 64 pixels or an array of shape (1, 8, 8) for convolutions.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a number of examples that there is not, and a fraction that is not between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> splits = ls.datasets.Digits().load(torch.Generator().manual_seed(0))
    >>> splits["train"].examples, splits["test"].examples
    (1438, 359)
    """

    references: ClassVar[tuple[str, ...]] = (
        "Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository "
        "(1998), doi:10.24432/C50P49.",
    )

    test_fraction: float = field(default=0.2, validator=check_fraction)
    examples: int | None = field(default=None, validator=_check_examples)
    centre: bool = False
    flatten: bool = True

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, for ``test_fraction > 0``, ``"test"``."""
        import torch

        from landscape.objective import as_data
        from landscape.randomness import imported

        pixels, digits = imported("sklearn.datasets").load_digits(return_X_y=True)
        x = torch.from_numpy(pixels).to(torch.float32) / 16
        y = torch.from_numpy(digits).to(torch.int64)

        used = torch.ones(len(y), dtype=torch.bool)
        if self.examples is not None:
            used = stratified(y, used, self.examples, _CLASSES, generator)
        test = stratified(y, used, round(self.test_fraction * int(used.sum())), _CLASSES, generator)
        train = used & ~test

        if self.centre:
            x = (x.double() - x[train].double().mean(0)).to(torch.float32)
        if not self.flatten:
            x = x.reshape(-1, 1, 8, 8)
        splits = {"train": as_data((x[train], y[train]))}
        if test.any():
            splits["test"] = as_data((x[test], y[test]))
        return splits
