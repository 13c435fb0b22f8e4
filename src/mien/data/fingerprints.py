"""What is kept of every picture without keeping the picture: size, content hash, a small grey thumbnail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
SIDE = 48  # pixels of a thumbnail: a FER-2013 face is its own


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
        return Fingerprints(self.digests[indices], self.thumbnails[indices], self.sizes[indices])

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
    return Fingerprints(
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.thumbnails for part in parts]),
        np.concatenate([part.sizes for part in parts]),
    )


def fingerprints_of_all(pictures: Iterable[NDArray[np.uint8]]) -> Fingerprints:
    """Return the fingerprints of many pictures, in order."""
    return joined([fingerprint_of(picture) for picture in pictures])
