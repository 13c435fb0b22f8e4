"""Photographs with face boxes: reading labels.jsonl, and the decoded pictures, which are kept on disk."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.cache import hash_of
from mien.errors import DataError, OutputError
from mien.files import cache_folder, whole_file
from mien.images import decode

LABELS_FILE = "labels.jsonl"
SPLITS = ("train", "val")
_FORMAT = 1  # part of the cache's name


@dataclass(frozen=True, eq=False)
class Photo:
    """One photograph's labels, in its pixels.

    boxes: (n, 4) x, y, width, height. scores: (n,) how sure the teacher is, 0 to 1. landmarks: (n, 5, 2), order as in
    `Detection`. ignore: (m, 4) boxes that are neither face nor background. tar: archive that holds the file; "": the
    folder itself does. All float32.
    """

    file: str
    tar: str
    source: str
    split: str
    width: int
    height: int
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces of a crop in its pixels; as in `Photo`."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.float32]

    @classmethod
    def none(cls) -> Faces:
        return cls(
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty((0, 5, 2), np.float32),
            np.empty((0, 4), np.float32),
        )


@dataclass(frozen=True, eq=False)
class Photos:
    """Photographs with their pixels. pixels: one flat uint8 array, perhaps on disk; starts: (n,) into it."""

    rows: Sequence[Photo]
    pixels: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one photograph: (height, width, 3) uint8, RGB; a view that must not be written to."""
        row = self.rows[index]
        start, size = int(self.starts[index]), row.height * row.width * 3
        return np.asarray(self.pixels[start : start + size]).reshape(row.height, row.width, 3)

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> Photos:
        return Photos(
            [self.rows[int(i)] for i in indices], self.pixels, self.starts[np.asarray(indices, np.intp)]
        )

    def fingerprint(self) -> str:
        """SHA-256 of names and labels; what two runs must share to be the same run."""
        parts: list[str | bytes] = []
        for row in self.rows:
            labels = (row.boxes, row.scores, row.landmarks, row.ignore)
            parts += [row.file, *(array.tobytes() for array in labels)]
        return hash_of(*parts)


def read_photos(folder: Path, split: str) -> Photos:
    """Read one split ('train' or 'val') of a folder with labels.jsonl and its photographs, decoded.

    The photographs lie in the archives that the labels name, or beside the labels. They are decoded once and kept in
    mien's cache folder, uncompressed (some 170 kB each), because decoding in every epoch would cost a fifth of the
    training's time. Raises DataError for a missing or damaged file, naming it, and for a split without photographs.
    """
    rows = [row for row in read_labels(folder) if row.split == split]
    if not rows:
        raise DataError(
            f"{folder / LABELS_FILE} has no row with split {split!r}; a detector needs train and val"
        )
    sizes = np.array([row.height * row.width * 3 for row in rows], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    total = int(sizes.sum())
    file = _cache_file(folder, rows, split)
    if (kept := _kept(file, total)) is not None:
        return Photos(rows, kept, starts)
    try:
        with whole_file(file) as temporary:
            flat = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(total,))
            _fill(flat, folder, rows, starts)
            flat.flush()
            del flat
    except OutputError:  # no room on the disk: then in memory
        pixels = np.empty(total, np.uint8)
        _fill(pixels, folder, rows, starts)
        return Photos(rows, pixels, starts)
    return Photos(rows, np.load(file, mmap_mode="r"), starts)


def read_labels(folder: Path) -> list[Photo]:
    """Read labels.jsonl; DataError with file and line for what is wrong in it."""
    file = folder / LABELS_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DataError(
            f"cannot read {file} ({reason}); DATA must be a folder with {LABELS_FILE}, one JSON object a photograph "
            "(docs/how-to/train-a-detector.md)"
        ) from error
    return [_photo(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _photo(line: str, where: str) -> Photo:
    try:
        row: Mapping[str, Any] = json.loads(line)
        faces = row["faces"]
        photo = Photo(
            file=str(row["file"]),
            tar=str(row.get("tar") or ""),
            source=str(row.get("source", "")),
            split=str(row["split"]),
            width=int(row["width"]),
            height=int(row["height"]),
            boxes=_array([face["box"] for face in faces], (-1, 4)),
            scores=_array([face.get("score", 1.0) for face in faces], (-1,)),
            landmarks=_array([face["landmarks"] for face in faces], (-1, 5, 2)),
            ignore=_array(row.get("ignore", []), (-1, 4)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where} is not a label ({type(error).__name__}: {error}); it needs file, split, width, height and faces, "
            "each face with box and landmarks"
        ) from error
    return _checked(photo, where)


def _checked(photo: Photo, where: str) -> Photo:
    if photo.split not in SPLITS:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}, got {photo.split!r}")
    if min(photo.width, photo.height) < 1:
        raise DataError(f"{where}: width and height must be at least 1, got {photo.width}x{photo.height}")
    sizes = np.concatenate([photo.boxes[:, 2:], photo.ignore[:, 2:]])
    numbers = (photo.boxes, photo.scores, photo.landmarks, photo.ignore)
    if not (sizes > 0).all() or not all(np.isfinite(array).all() for array in numbers):
        raise DataError(
            f"{where}: every box must be (x, y, width, height) in pixels, width and height above 0"
        )
    if not ((photo.scores >= 0) & (photo.scores <= 1)).all():
        raise DataError(f"{where}: a score must be from 0 to 1, got {photo.scores.tolist()}")
    return photo


def _array(values: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(shape)


def _cache_file(folder: Path, rows: Sequence[Photo], split: str) -> Path:
    """Name the decoded pictures after what they were made from: labels, and size and time of the archives."""
    names = sorted({row.tar for row in rows if row.tar})
    states = []
    for name in names:
        state = _existing(folder / name).stat()
        states.append(f"{name} {state.st_size} {state.st_mtime_ns}")
    loose = [f"{row.file} {(folder / row.file).stat().st_mtime_ns}" for row in rows if not row.tar and
             (folder / row.file).exists()]  # fmt: skip
    sizes = [f"{row.file} {row.width}x{row.height}" for row in rows]
    key = hash_of(split, str(folder.resolve()), *states, *loose, *sizes)
    return cache_folder() / "data" / f"photos-{_FORMAT}-{key[:40]}.npy"


def _kept(file: Path, total: int) -> NDArray[np.uint8] | None:
    try:
        kept = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.shape == (total,) and kept.dtype == np.uint8 else None


def _fill(flat: NDArray[np.uint8], folder: Path, rows: Sequence[Photo], starts: NDArray[np.int64]) -> None:
    for (row, data), start in zip(_encoded(folder, rows), starts, strict=True):
        picture = decode(data, row.file).pixels
        if picture.ndim == 2:
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
        if picture.shape != (row.height, row.width, 3):
            raise DataError(
                f"{row.file} has {picture.shape[1]}x{picture.shape[0]} pixels, its label says "
                f"{row.width}x{row.height}; get both again"
            )
        flat[start : start + picture.size] = picture.reshape(-1)


def _encoded(folder: Path, rows: Sequence[Photo]) -> Iterator[tuple[Photo, bytes]]:
    """Yield every photograph's bytes, in the order of the rows."""
    with ExitStack() as stack:
        archives: dict[str, tarfile.TarFile] = {}
        for row in rows:
            if not row.tar:
                yield row, _existing(folder / row.file).read_bytes()
                continue
            if row.tar not in archives:
                archives[row.tar] = stack.enter_context(_archive(folder / row.tar))
            yield row, _member(archives[row.tar], row)


def _archive(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(_existing(path))
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a tar archive ({error}); get it again") from error


def _member(archive: tarfile.TarFile, row: Photo) -> bytes:
    try:
        stream = archive.extractfile(row.file)
        if stream is None:
            raise KeyError
        return stream.read()
    except (KeyError, tarfile.TarError, OSError) as error:
        raise DataError(
            f"{row.tar} holds no whole file {row.file}, which {LABELS_FILE} names; get both again"
        ) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no file {path}, which {LABELS_FILE} names; get the data set again")
    return path
