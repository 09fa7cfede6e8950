"""Products on disk, so that an iteration that was killed goes on where it stood.

An iteration that is made of products, a generator and arithmetic is determined by the products: run again with the
same start, it asks for the same ones. So the products are written, one file each and none rewritten, and what
runs again reads them in place of computing them: the same bits, at whatever stage it had been.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["KeptProducts", "digest"]


def digest(*parts: Any) -> str:
    """Return a hash of tensors, by their bits, and of anything else, by its representation."""
    import torch

    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            flat = part.detach().contiguous().cpu()
            found.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            found.update(flat.flatten().view(torch.uint8).numpy().data)
        else:
            found.update(repr(part).encode())
    return found.hexdigest()


class KeptProducts:
    """The products of an operator, from a folder as far as they stand there, and written to it from then on.

    A file holds a product, its hash, and the hash of the vector that was multiplied. Where a hash is another, since
    another machine rounds differently or the file is damaged, the product is computed. The first that is kept
    is computed in any case: where it is not the same, bit for bit, what is kept is of another matrix, and is removed.

    Parameters
    ----------
    folder
        Where; made with the first product.
    matvec
        The product with a vector, (P,) to (P,).

    Attributes
    ----------
    computed, read
        How many products have been computed, and how many read.
    """

    def __init__(self, folder: Path, matvec: Callable[[Tensor], Tensor]) -> None:
        self.folder, self._matvec = folder, matvec
        self.computed = self.read = 0
        self._same_matrix = False

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product.

        Raises
        ------
        landscape.errors.LandscapeError
            When the folder cannot be written to.
        """
        from safetensors.torch import save_file

        from landscape.store.files import commit, explained, temporary_beside

        path, name = self._path(self.computed + self.read), digest(vector)
        kept = self._kept(path, name)
        if kept is not None and self._same_matrix:
            self.read += 1
            # Copied, since sums depend on how memory is aligned.
            return kept.to(vector, copy=True)
        product = self._matvec(vector)
        if kept is not None:
            self._same_matrix = digest(kept) == digest(product)
            if not self._same_matrix:
                # The vectors may go on to be the same, where one matrix is a multiple of the other.
                self.remove()
        with explained(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(path)
            there = {"vector": name, "hash": digest(product)}
            save_file({"product": product.detach().cpu().contiguous()}, temporary, metadata=there)
            commit(temporary, path)
        self.computed += 1
        return product

    def _path(self, number: int) -> Path:
        return self.folder / f"product-{number:06d}.safetensors"

    def _kept(self, path: Path, name: str) -> Tensor | None:
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                there = file.metadata() or {}
                if there.get("vector") != name:
                    return None
                product: Tensor = file.get_tensor("product")
                return product if there.get("hash") == digest(product) else None
        except SafetensorError:
            return None

    def remove(self) -> None:
        """Remove the products and their folder."""
        for path in self.folder.glob("product-*.safetensors*"):
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
