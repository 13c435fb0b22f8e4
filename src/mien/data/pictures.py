"""The two kinds of Pictures: held in memory (small faces), or decoded from files when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Pictures
from mien.data.traits import Traits, measure_all
from mien.errors import DataError
from mien.images import decode_known
from mien.images.decode import read_bytes


@dataclass(frozen=True, eq=False)
class InMemoryPictures:
    """Pictures of one size. pixels: (n, height, width) or (n, height, width, 3) uint8, grey or RGB."""

    pixels: NDArray[np.uint8]
    traits: Traits | None = None

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        if kind != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise DataError(
                f"pictures in memory must be uint8 of shape (n, height, width) or (n, height, width, 3), "
                f"got {kind} of shape {shape}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(self.pixels[index])

    def take(self, indices: NDArray[np.intp]) -> InMemoryPictures:
        # A run of pictures, such as a split of a csv, is a view of the whole and costs no memory.
        run = len(indices) > 0 and bool((np.diff(indices) == 1).all())
        pixels = self.pixels[indices[0] : indices[-1] + 1] if run else self.pixels[indices]
        return InMemoryPictures(pixels, self.traits.take(indices) if self.traits else None)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures that stay on disk, whatever their size; they were examined when the folder was scanned."""

    paths: Sequence[Path]
    traits: Traits | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one file; ImageError when it has gone or changed for the worse since the scan."""
        path = self.paths[index]
        return decode_known(read_bytes(path, str(path)), str(path))

    def take(self, indices: NDArray[np.intp]) -> FilePictures:
        paths = [self.paths[int(index)] for index in indices]
        return FilePictures(paths, self.traits.take(indices) if self.traits else None)


def traits_of(pictures: Pictures) -> Traits:
    """Return the traits that were found when the pictures were first read, or read them all now."""
    known = getattr(pictures, "traits", None)
    if isinstance(known, Traits):
        return known
    return measure_all(pictures.read(index) for index in range(len(pictures)))
