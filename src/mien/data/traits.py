"""What is kept of every picture without keeping the picture: size, content hash, a small grey likeness."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
LIKENESS = (16, 17)  # height, width: one column more than the difference hash has bits a row


@dataclass(frozen=True, eq=False)
class Traits:
    """Traits of n pictures.

    digests: (n, 16) uint8, BLAKE2b of size and pixels; a colour picture whose three channels are equal has
    the digest of the grey one. likenesses: (n, 16, 17) uint8, the grey picture shrunk by area averaging.
    sizes: (n, 3) int32, height, width and channels (1 or 3).
    """

    digests: NDArray[np.uint8]
    likenesses: NDArray[np.uint8]
    sizes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, indices: NDArray[np.intp]) -> Traits:
        return Traits(self.digests[indices], self.likenesses[indices], self.sizes[indices])

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a cache stores of them."""
        return {"digests": self.digests, "likenesses": self.likenesses, "sizes": self.sizes}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[np.generic]]) -> Traits:
        return cls(stored["digests"], stored["likenesses"], stored["sizes"])  # type: ignore[arg-type]

    @property
    def keys(self) -> list[bytes]:
        """The digests as bytes, to be put into sets and dictionaries."""
        return [row.tobytes() for row in self.digests]

    def differences(self) -> NDArray[np.uint8]:
        """Return the difference hashes, (n, 32) uint8: a bit for each step to the right that gets lighter.

        After N. Krawetz, 'Kind of Like That' (2013),
        https://www.hackerfactor.com/blog/archives/529-Kind-of-Like-That.html, with 16x16 bits instead of 8x8,
        because aligned face crops are much alike.
        """
        steps = self.likenesses[:, :, 1:] > self.likenesses[:, :, :-1]
        return np.packbits(steps.reshape(len(self), LIKENESS[0] * (LIKENESS[1] - 1)), axis=1)


def measure(picture: NDArray[np.uint8]) -> Traits:
    """Return the traits, of length one, of a picture: (height, width) or (height, width, 3) uint8."""
    channels = 1 if picture.ndim == 2 else 3
    if channels == 3 and (picture == picture[:, :, :1]).all():
        picture = np.ascontiguousarray(picture[:, :, 0])
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(picture).data)
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    likeness = cv2.resize(grey, LIKENESS[::-1], interpolation=cv2.INTER_AREA)
    return Traits(
        np.frombuffer(digest.digest(), np.uint8)[None],
        np.asarray(likeness, np.uint8)[None],
        np.array([[*picture.shape[:2], channels]], np.int32),
    )


def joined(parts: Sequence[Traits]) -> Traits:
    """Put traits behind each other, in order; none gives Traits of length zero."""
    if not parts:
        return Traits(
            np.empty((0, DIGEST_BYTES), np.uint8),
            np.empty((0, *LIKENESS), np.uint8),
            np.empty((0, 3), np.int32),
        )
    return Traits(
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.likenesses for part in parts]),
        np.concatenate([part.sizes for part in parts]),
    )


def measure_all(pictures: Iterable[NDArray[np.uint8]]) -> Traits:
    """Return the traits of many pictures, in order."""
    return joined([measure(picture) for picture in pictures])
