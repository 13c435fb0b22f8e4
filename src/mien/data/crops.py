"""Faces cut out of what holds them: the largest of each photograph (`--faces crop`), and the crops of a face set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset, Pictures, Split
from mien.data.pictures import FilePictures, Fingerprints, JoinedPictures, fingerprints_of
from mien.detect.base import Box, Detection, Detector, align
from mien.errors import DataError
from mien.faceset.row import FaceRow, content_key
from mien.images.decode import workers
from mien.terminal import counted

F = TypeVar("F", Detection, FaceRow)


@dataclass(frozen=True, eq=False)
class _CutFaces(Generic[F]):
    """Faces that are cut out of pictures when they are read: in memory there are only their places.

    faces: one a picture. margin: side of what is cut out over the longer side of the face's box.
    """

    pictures: Pictures
    faces: tuple[F, ...]
    margin: float = 1.0

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def fingerprints(self) -> Fingerprints:
        """Of the whole pictures, by which copies are known, whatever is cut out of them."""
        return fingerprints_of(self.pictures)

    def take(self, indices: NDArray[np.intp]) -> Self:
        """Return the faces at these places, in this order."""
        faces = tuple(self.faces[place] for place in indices)
        return replace(self, pictures=self.pictures.take(indices), faces=faces)


class FacePictures(_CutFaces[Detection]):
    """The faces in photographs."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the square around one face: (side, side, 3) uint8, RGB."""
        return align(self.pictures.read(index), self.faces[index], self.margin)


class StoredFaces(_CutFaces[FaceRow]):
    """The faces in the crops of a face set, which show some of what is around them: cut and turned when they are read.

    faces: in pixels of the crop as `FaceRow.in_crop` says them for a crop of one pixel a side.
    """

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the square around one face: (side, side, 3) uint8, RGB; grey ones as they are."""
        crop = self.pictures.read(index)
        return align(crop, self.faces[index].in_crop(max(crop.shape[:2])), self.margin)


def stored_faces(pictures: Pictures) -> NDArray[np.bool_]:
    """Say which pictures are faces of a face set, whose place is known: (n,) bool."""
    if isinstance(pictures, JoinedPictures):
        found = np.zeros(len(pictures), bool)
        for part, source in enumerate(pictures.sources):
            mine = pictures.parts == part
            found[mine] = stored_faces(source)[pictures.rows[mine]]
        return found
    return np.full(len(pictures), isinstance(pictures, StoredFaces))


def source_keys(pictures: Pictures) -> list[str]:
    """Return for each picture what its source is known by: of a face of a face set, as its id says it, '' of others."""
    if isinstance(pictures, JoinedPictures):
        return _of_each(pictures, source_keys)
    if isinstance(pictures, StoredFaces):
        return [face.id.rpartition("-")[0] for face in pictures.faces]
    return [""] * len(pictures)


def file_keys(pictures: Pictures) -> list[str]:
    """Return for each picture the key of its file's content, as `source_keys` has it; '' where there is no file."""
    if isinstance(pictures, JoinedPictures):
        return _of_each(pictures, file_keys)
    if not isinstance(pictures, FilePictures):
        return [""] * len(pictures)
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(_file_key, pictures.paths))


def _of_each(pictures: JoinedPictures, keys: Callable[[Pictures], list[str]]) -> list[str]:
    """Return the keys of joined pictures, each as its own source has it."""
    found = [keys(source) for source in pictures.sources]
    places = zip(pictures.parts.tolist(), pictures.rows.tolist(), strict=True)
    return [found[part][row] for part, row in places]


def _file_key(path: Path) -> str:
    try:
        return content_key(path.read_bytes())
    except OSError:
        return ""


def with_margin(dataset: Dataset, margin: float) -> Dataset:
    """Return the data set with the faces of face sets cut as a network with this margin takes them; others stay."""
    splits = {
        name: replace(split, pictures=_recut(split.pictures, margin))
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def _recut(pictures: Pictures, margin: float) -> Pictures:
    if isinstance(pictures, StoredFaces):
        return replace(pictures, margin=margin)
    if isinstance(pictures, JoinedPictures):
        return replace(pictures, sources=[_recut(source, margin) for source in pictures.sources])
    return pictures


def crop_faces(dataset: Dataset, detector: Detector, margin: float) -> tuple[Dataset, tuple[str, ...]]:
    """Replace every picture by its largest face; leave out pictures without one, and return their names.

    Faces of a face set stay as they are (see `with_margin`).

    margin: side of the square crop over the longer side of the face box. The pictures are searched in parallel
    threads, one at a time each, and cut when they are read, so memory does not grow with the data set. Raises
    DataError when no picture of the whole data set shows a face, ImageError when one cannot be decoded any more.
    """
    if all(stored_faces(split.pictures).all() for split in dataset.splits.values()):
        return dataset, ()
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
            f"the face detector {detector.name!r} found no face in any of {counted(total, 'picture')} of "
            f"{dataset.source}; if they are face crops already, use them whole (--faces whole)"
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
    cut = stored_faces(pictures)

    def search(index: int) -> Detection | None:
        if cut[index]:
            side = float(max(pictures.read(index).shape[:2]))
            return Detection(Box(0.0, 0.0, side, side), whole=True)
        return next(iter(detector.detect(pictures.read(index))), None)

    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(search, range(len(pictures))))


def _note(detector: str, total: int, without: int) -> str:
    left = f"; left out: {without:,} without a face" if without else ""
    what = f"cropped the largest face out of {total - without:,} of {counted(total, 'picture')}"
    return f"{what} with the face detector {detector!r}{left}"
