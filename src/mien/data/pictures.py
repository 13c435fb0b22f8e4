"""The pictures of a data set, in memory, on disk or joined, and their fingerprints, by which copies are known.

Fingerprints are what is kept of every picture without keeping the picture: size, content hash, a small grey thumbnail.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Pictures
from mien.errors import DataError, ImageError
from mien.files import cache_folder
from mien.images import decode
from mien.images.decode import read_bytes

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are not included
DIGEST_BYTES = 16
SIDE = 48  # pixels of a thumbnail: a FER-2013 face is its own
_LARGE_BYTES, _ROWS = 128_000_000, 8192  # of thumbnails that need not be in memory; copied at a time


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Fingerprints of n pictures.

    digests: (n, 16) uint8, BLAKE2b of size and pixels; a colour picture whose three channels are equal has
    the digest of the grey one. thumbnails: (n, 48, 48) uint8, the grey picture squeezed into a square (by area
    averaging where it is larger). sizes: (n, 3) int32, height, width and channels (1 or 3).
    """

    digests: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, indices: NDArray[np.intp]) -> Fingerprints:
        if isinstance(rows := _as_run(indices), slice):
            return Fingerprints(self.digests[rows], self.thumbnails[rows], self.sizes[rows])
        thumbnails = on_disk_if_large((len(indices), SIDE, SIDE))
        for start in range(0, len(indices), _ROWS):
            thumbnails[start : start + _ROWS] = self.thumbnails[indices[start : start + _ROWS]]
        return Fingerprints(self.digests[indices], thumbnails, self.sizes[indices])

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a cache stores of them."""
        return {"digests": self.digests, "thumbnails": self.thumbnails, "sizes": self.sizes}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[np.generic]]) -> Fingerprints:
        return cls(stored["digests"], stored["thumbnails"], stored["sizes"])  # type: ignore[arg-type]

    @property
    def keys(self) -> list[bytes]:
        """The digests as bytes, to be put into sets and dictionaries."""
        return [row.tobytes() for row in self.digests]

    @property
    def kinds(self) -> NDArray[np.intp]:
        """Numbers of the contents, (n,): equal for pixel copies."""
        whole = np.ascontiguousarray(self.digests).view(f"V{DIGEST_BYTES}").reshape(-1)
        return np.unique(whole, return_inverse=True)[1].reshape(-1)


def _as_run(indices: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return a run of rows, such as a split of a csv, as a slice: what it takes is a view and costs no memory."""
    if len(indices) and bool((np.diff(indices) == 1).all()):
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def fingerprint_of(picture: NDArray[np.uint8]) -> Fingerprints:
    """Return the fingerprint, of length one, of a picture: (height, width) or (height, width, 3) uint8."""
    channels = 1 if picture.ndim == 2 else 3
    if channels == 3 and (picture == picture[:, :, :1]).all():
        picture = np.ascontiguousarray(picture[:, :, 0])
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(picture).data)
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    shrinks = min(grey.shape) >= SIDE
    thumbnail = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return Fingerprints(
        np.frombuffer(digest.digest(), np.uint8)[None],
        np.asarray(thumbnail, np.uint8)[None],
        np.array([[*picture.shape[:2], channels]], np.int32),
    )


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Put fingerprints behind each other, in order; none gives Fingerprints of length zero."""
    if not parts:
        return Fingerprints(
            np.empty((0, DIGEST_BYTES), np.uint8),
            np.empty((0, SIDE, SIDE), np.uint8),
            np.empty((0, 3), np.int32),
        )
    digests = np.concatenate([part.digests for part in parts])
    thumbnails = on_disk_if_large((len(digests), SIDE, SIDE))
    np.concatenate([part.thumbnails for part in parts], out=thumbnails)
    return Fingerprints(digests, thumbnails, np.concatenate([part.sizes for part in parts]))


def on_disk_if_large(shape: tuple[int, ...], kind: type[np.generic] = np.uint8) -> NDArray[Any]:
    """Return an array to be filled; a large one lies in a file without a name, so that memory stays free.

    The thumbnails of a million pictures are 2.3 GB.
    """
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size > _LARGE_BYTES:
        with suppress(OSError):  # no room, or read-only: then in memory
            cache_folder().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache_folder()) as file:
                if hasattr(os, "posix_fallocate"):  # a full disk would end the process later, without a word
                    os.posix_fallocate(file.fileno(), 0, size)
                # Not a memmap's view by view: each would look up its base.
                return np.asarray(np.memmap(file, kind, "r+", shape=shape))
    return np.empty(shape, kind)


def fingerprints_of_all(pictures: Iterable[NDArray[np.uint8]]) -> Fingerprints:
    """Return the fingerprints of many pictures, in order."""
    return joined([fingerprint_of(picture) for picture in pictures])


@dataclass(frozen=True, eq=False)
class InMemoryPictures:
    """Pictures of one size. pixels: (n, height, width) or (n, height, width, 3) uint8, grey or RGB."""

    pixels: NDArray[np.uint8]
    fingerprints: Fingerprints | None = None

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
        fingerprints = self.fingerprints.take(indices) if self.fingerprints else None
        return InMemoryPictures(self.pixels[_as_run(indices)], fingerprints)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures that stay on disk, whatever their size; they were examined when the folder was scanned.

    boxes: what is cut out of each, None for the whole picture; None where nothing is cut out of any.
    """

    paths: Sequence[Path]
    fingerprints: Fingerprints | None = None
    boxes: Sequence[Box | None] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one file; ImageError when it has gone or changed for the worse since the scan."""
        path = self.paths[index]
        picture = decode(read_bytes(path, str(path)), str(path)).pixels
        return cut_out(picture, self.boxes[index] if self.boxes else None)

    def take(self, indices: NDArray[np.intp]) -> FilePictures:
        paths = [self.paths[int(index)] for index in indices]
        boxes = [self.boxes[int(index)] for index in indices] if self.boxes else None
        return FilePictures(paths, self.fingerprints.take(indices) if self.fingerprints else None, boxes)


@dataclass(frozen=True, eq=False)
class JoinedPictures:
    """Pictures of several data sets, one behind the other. parts, rows: (n,) which picture of which part each is."""

    sources: Sequence[Pictures]
    parts: NDArray[np.intp]
    rows: NDArray[np.intp]
    fingerprints: Fingerprints | None = None

    @classmethod
    def of(cls, sources: Sequence[Pictures]) -> JoinedPictures:
        lengths = [len(source) for source in sources]
        parts = np.repeat(np.arange(len(sources)), lengths)
        rows = np.concatenate([np.arange(length) for length in lengths])
        return cls(sources, parts, rows, joined([fingerprints_of(source) for source in sources]))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> NDArray[np.uint8]:
        return self.sources[int(self.parts[index])].read(int(self.rows[index]))

    def take(self, indices: NDArray[np.intp]) -> JoinedPictures:
        fingerprints = self.fingerprints.take(indices) if self.fingerprints else None
        return JoinedPictures(self.sources, self.parts[indices], self.rows[indices], fingerprints)


def cut_out(picture: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
    """Return what lies in a box, as far as it lies in the picture; ImageError where nothing does."""
    if box is None:
        return picture
    left, top, right, bottom = (max(0, edge) for edge in box)
    inside = picture[top:bottom, left:right]
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ImageError(f"its face's box {box} is empty")
    if not inside.size:
        raise ImageError(
            f"its face's box {box} lies outside of the picture, {picture.shape[1]}x{picture.shape[0]}"
        )
    return np.ascontiguousarray(inside)


def fingerprints_of(pictures: Pictures) -> Fingerprints:
    """Return the fingerprints that were found when the pictures were first read, or read them all now."""
    known = getattr(pictures, "fingerprints", None)
    if isinstance(known, Fingerprints):
        return known
    return fingerprints_of_all(pictures.read(index) for index in range(len(pictures)))
