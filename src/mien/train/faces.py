"""`--faces crop`: photographs in, their largest faces out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset, Pictures, Split
from mien.data.index import Fingerprints, fingerprints_of
from mien.detect.align import align
from mien.detect.base import Detection, Detector
from mien.errors import DataError


@dataclass(frozen=True, eq=False)
class FacePictures:
    """The faces in pictures, cut out when they are read: in memory there are only their places."""

    pictures: Pictures
    faces: tuple[Detection, ...]  # one a picture
    margin: float

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def fingerprints(self) -> Fingerprints:
        """Of the whole pictures, by which copies are known."""
        return fingerprints_of(self.pictures)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the square around one face: (side, side, 3) uint8, RGB."""
        return align(self.pictures.read(index), self.faces[index], self.margin)

    def take(self, indices: NDArray[np.intp]) -> FacePictures:
        """Return the faces at these places, in this order."""
        return FacePictures(self.pictures.take(indices), tuple(self.faces[i] for i in indices), self.margin)


def crop_faces(dataset: Dataset, detector: Detector, margin: float) -> tuple[Dataset, tuple[str, ...]]:
    """Replace every picture by its largest face; leave out pictures without one, and return their names.

    margin: side of the square crop over the longer side of the face box. The pictures are searched in parallel
    threads, one at a time each, and cut when they are read, so memory does not grow with the data set. Raises
    DataError when no picture of the whole data set shows a face, ImageError when one cannot be decoded any more.
    """
    splits, without, record = {}, [], hashlib.sha256(dataset.fingerprint.encode())
    record.update(json.dumps([dict(detector.metadata), margin], sort_keys=True).encode())
    for name, split in dataset.splits.items():
        faces = _largest(split.pictures, detector)
        splits[name] = _faces_of(split, faces, margin)
        without += [split.names[row] for row, face in enumerate(faces) if face is None]
        record.update(json.dumps([name, [face and face.to_dict() for face in faces]]).encode())
    total = sum(map(len, dataset.splits.values()))
    if len(without) == total:
        raise DataError(
            f"the face detector {detector.name!r} found no face in any of the {total} pictures of {dataset.source}; "
            "if they are face crops already, use them whole (--faces whole)"
        )
    found = replace(
        dataset,
        splits=splits,
        fingerprint=record.hexdigest(),
        notes=(*dataset.notes, _note(detector.name, total, len(without))),
    )
    return found, tuple(without)


def _faces_of(split: Split, faces: Sequence[Detection | None], margin: float) -> Split:
    kept = split.take(np.array([row for row, face in enumerate(faces) if face is not None], np.intp))
    found = tuple(face for face in faces if face is not None)
    return replace(kept, pictures=FacePictures(kept.pictures, found, margin))


def _largest(pictures: Pictures, detector: Detector) -> list[Detection | None]:
    """Return each picture's largest face, or None."""

    def search(index: int) -> Detection | None:
        return next(iter(detector.detect(pictures.read(index))), None)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(search, range(len(pictures))))


def _note(detector: str, total: int, without: int) -> str:
    left = f"; {without} without a face are left out" if without else ""
    what = f"cropped the largest face out of {total - without} of {total} pictures"
    return f"{what} with the face detector {detector!r}{left}"
