"""Nearly identical faces: the same photograph smaller or saved again, a frame that shows nothing new.

A perceptual hash names the candidates, in memory that a hundred thousand faces do not fill; the crops then decide, once
they are aligned. Faces with another expression are no copies, however alike the rest is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.alignment import alikeness
from mien.errors import ImageError, OutputError
from mien.faceset.crops import perceptual_hash, thumbnail
from mien.faceset.table import SHOWN, FaceRow, FaceSet
from mien.files import whole_file
from mien.images import read_image

Picture = NDArray[np.uint8]
HASHES_FILE = "hashes.npz"  # of the shown faces: a cache
_BITS = 14  # of 64 that may differ; of 17 copies among 4,847 faces four have 14; most other faces have 16 and more
# Correlation of all, and of the second worst of 16 blocks, once aligned. Of 75 faces made half or a quarter as large,
# or saved as JPEG of quality 50, 95 % have 0.996 and 0.97 or more. Of five faces, a neutral and a half smiling one have
# 0.991 and 0.97 (medians), a neutral and a smiling one 0.97 and 0.92.
_ALL, _BLOCKS = 0.993, 0.95
_TRIED = 6  # candidates that are aligned, the nearest first; among 1,700 faces one has 1.5 that are no copies
_REMEMBERED = 16_384  # thumbnails in memory, 2.3 kB each


class Copies:
    """The shown faces of a set, asked whether another face is one of them."""

    def __init__(self, faces: FaceSet) -> None:
        self._faces = faces
        self._ids: list[str] = []
        self._hashes = np.empty(1024, np.uint64)
        self._recent: OrderedDict[str, Picture] = OrderedDict()
        stored = _load(faces.folder / HASHES_FILE)
        for face in faces:
            if face.status != SHOWN:
                continue
            if face.id in stored:
                self._append(face.id, stored[face.id])
            elif (small := self._thumbnail(face.id)) is not None:
                self._append(face.id, perceptual_hash(small)[0])

    def original(self, small: Picture) -> str:
        """Return the id of the shown face that a thumbnail nearly repeats, mirrored or not; '' where there is none."""
        known = self._hashes[: len(self._ids)]
        tried: list[tuple[int, int, bool]] = []
        for mirrored, bits in enumerate(perceptual_hash(small)):
            far = _differing(known ^ np.uint64(bits))
            near = np.flatnonzero(far <= _BITS)
            tried += [(int(far[place]), int(place), bool(mirrored)) for place in near]
        for _, place, mirrored in sorted(tried)[:_TRIED]:
            other = self._thumbnail(self._ids[place])
            if other is None:
                continue
            everywhere, blocks = alikeness(other, small, mirrored=mirrored)
            if everywhere >= _ALL and blocks >= _BLOCKS:
                return self._ids[place]
        return ""

    def add(self, face: FaceRow, small: Picture) -> None:
        """Take in a face that is shown."""
        self._append(face.id, perceptual_hash(small)[0])
        self._remember(face.id, small)

    def save(self) -> None:
        """Store the hashes, so that the next run need not read the crops. A cache: nothing fails without it."""
        with suppress(OutputError), whole_file(self._faces.folder / HASHES_FILE) as temporary:
            np.savez(temporary, ids=np.array(self._ids, str), hashes=self._hashes[: len(self._ids)])

    def _append(self, face: str, bits: int) -> None:
        if len(self._ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[len(self._ids)] = bits
        self._ids.append(face)

    def _remember(self, face: str, small: Picture) -> None:
        self._recent[face] = small
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _thumbnail(self, face: str) -> Picture | None:
        if face not in self._recent:
            row = self._faces[face]
            try:
                self._remember(face, thumbnail(read_image(self._faces.crop_path(row)), row.margin))
            except ImageError:  # somebody removed or changed it: it is a copy of nothing then
                return None
        return self._recent[face]


_POPULATION = np.array([bin(value).count("1") for value in range(256)], np.uint8)


def _differing(bits: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return how many bits are set in each number."""
    found: NDArray[np.intp] = _POPULATION[bits.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.intp)
    return found


def _load(path: Path) -> dict[str, int]:
    try:
        with np.load(path) as stored:
            names: Iterable[str] = stored["ids"].tolist()
            return dict(zip(names, stored["hashes"].tolist(), strict=True))
    except Exception:  # missing, damaged or something else: it is made again
        return {}
