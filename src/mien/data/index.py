"""Labelled picture files: examined once (decoded, measured; the findings are cached), sorted into splits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.dataset import SPLITS, Pictures, Progress, RawDataset, Split, Unreadable, in_order
from mien.data.fingerprints import (
    DIGEST_BYTES,
    SIDE,
    Fingerprints,
    fingerprint_of,
    fingerprints_of_all,
    joined,
)
from mien.errors import DataError, ImageError
from mien.files import natural
from mien.images import decode
from mien.images.decode import read_bytes
from mien.workers import workers


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
        # A run of pictures, such as a split of a csv, is a view of the whole and costs no memory.
        run = len(indices) > 0 and bool((np.diff(indices) == 1).all())
        pixels = self.pixels[indices[0] : indices[-1] + 1] if run else self.pixels[indices]
        return InMemoryPictures(pixels, self.fingerprints.take(indices) if self.fingerprints else None)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures that stay on disk, whatever their size; they were examined when the folder was scanned."""

    paths: Sequence[Path]
    fingerprints: Fingerprints | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one file; ImageError when it has gone or changed for the worse since the scan."""
        path = self.paths[index]
        return decode(read_bytes(path, str(path)), str(path)).pixels

    def take(self, indices: NDArray[np.intp]) -> FilePictures:
        paths = [self.paths[int(index)] for index in indices]
        return FilePictures(paths, self.fingerprints.take(indices) if self.fingerprints else None)


def fingerprints_of(pictures: Pictures) -> Fingerprints:
    """Return the fingerprints that were found when the pictures were first read, or read them all now."""
    known = getattr(pictures, "fingerprints", None)
    if isinstance(known, Fingerprints):
        return known
    return fingerprints_of_all(pictures.read(index) for index in range(len(pictures)))


_BATCH = 64  # files between two looks at what the decoders complained about
_GONE = (-1, -1)
_NOTHING = Fingerprints(
    np.zeros((1, DIGEST_BYTES), np.uint8), np.zeros((1, SIDE, SIDE), np.uint8), np.zeros((1, 3), np.int32)
)


@dataclass(frozen=True, eq=False)
class Scan:
    """Findings on n files, in their order. reasons: why a file is no usable picture, '' where it is one.

    fingerprints: of length n, zeros where there is a reason.
    """

    fingerprints: Fingerprints
    reasons: Sequence[str]

    @property
    def readable(self) -> NDArray[np.intp]:
        return np.flatnonzero([not reason for reason in self.reasons])


def scan_files(paths: Sequence[Path], source: Path, progress: Progress | None = None) -> Scan:
    """Decode every file once, in parallel, unless an earlier scan of `source` saw it with this size and time.

    progress is told (done, of) after each batch of files that had to be decoded.
    """
    key = cache.hash_of("scan", str(source.resolve()))
    states = [_state(path) for path in paths]
    known = _remembered(key)
    found: list[tuple[Fingerprints, str] | None] = [
        known.get((str(path), *state)) for path, state in zip(paths, states, strict=True)
    ]
    new = [place for place, item in enumerate(found) if item is None]
    for place, item in zip(new, _examined([paths[place] for place in new], progress), strict=True):
        found[place] = item
    items = [item for item in found if item is not None]
    scan = Scan(joined([fingerprints for fingerprints, _ in items]), [reason for _, reason in items])
    if new or len(known) != len(paths):
        _remember(key, paths, states, scan)
    return scan


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return _GONE
    return status.st_size, status.st_mtime_ns


def _examined(paths: Sequence[Path], progress: Progress | None) -> Iterator[tuple[Fingerprints, str]]:
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            yield from pool.map(_examine, batch)
            if progress:
                progress(start + len(batch), len(paths))


def _examine(path: Path) -> tuple[Fingerprints, str]:
    try:
        return fingerprint_of(decode(_content(path), "it").pixels), ""
    except ImageError as error:
        return _NOTHING, str(error)


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading one may wait for ever
        raise ImageError("it is a pipe, socket or device, not a file")
    return read_bytes(path, "it")


def _remembered(key: str) -> dict[tuple[str, int, int], tuple[Fingerprints, str]]:
    stored = cache.load("scan", key)
    if stored is None:
        return {}
    text = json.loads(stored["text"].tobytes())
    fingerprints = Fingerprints.from_arrays(stored)
    places = np.arange(len(fingerprints))
    states = stored["states"].tolist()
    return {
        (name, *state): (fingerprints.take(places[row : row + 1]), reason)
        for row, (name, state, reason) in enumerate(zip(text["names"], states, text["reasons"], strict=True))
    }


def _remember(key: str, paths: Sequence[Path], states: Sequence[tuple[int, int]], scan: Scan) -> None:
    text = json.dumps({"names": [str(path) for path in paths], "reasons": list(scan.reasons)})
    cache.store(
        "scan",
        key,
        {
            "text": np.frombuffer(text.encode("ascii"), np.uint8),
            "states": np.array(states, np.int64).reshape(-1, 2),
            **scan.fingerprints.arrays(),
        },
    )


# Sets of small faces of one size are held decoded: 256 MB is FER-2013 three times over.
_SMALL_SIDE, _SMALL_BYTES = 96, 256_000_000


@dataclass(frozen=True)
class LabelledFile:
    """One row of a data set of files. name: what a person would look for."""

    path: Path
    name: str
    label: str
    split: str


def index_files(
    source: Path, name: str, files: Sequence[LabelledFile], progress: Progress | None = None
) -> RawDataset:
    """Examine the files and sort them into splits. Classes are in natural order of their names."""
    scan = scan_files([file.path for file in files], source, progress)
    unreadable = [
        Unreadable(file.name, reason) for file, reason in zip(files, scan.reasons, strict=True) if reason
    ]
    usable = [files[int(row)] for row in scan.readable]
    pictures = _pictures([file.path for file in usable], scan.fingerprints.take(scan.readable))
    classes = tuple(sorted({file.label for file in files}, key=natural))
    number = {label: place for place, label in enumerate(classes)}
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero([file.split == split for file in usable])
        chosen = [usable[int(row)] for row in rows]
        labels = np.array([number[file.label] for file in chosen], np.int64)
        splits[split] = Split(pictures.take(rows), labels, [file.name for file in chosen])
    return RawDataset(name, classes, in_order(splits), tuple(unreadable))


def _pictures(paths: Sequence[Path], fingerprints: Fingerprints) -> Pictures:
    """Return small pictures of one size decoded (cached by their content), all others as files to stream."""
    on_disk = FilePictures(paths, fingerprints)
    sizes = np.unique(fingerprints.sizes, axis=0)
    if (
        len(sizes) != 1
        or sizes[0, :2].max() > _SMALL_SIDE
        or fingerprints.sizes.prod(axis=1).sum() > _SMALL_BYTES
    ):
        return on_disk
    key = cache.hash_of(fingerprints.digests.tobytes(), fingerprints.sizes.tobytes())
    stored = cache.load("small", key) or cache.kept("small", key, {"pixels": _decoded(on_disk)})
    return InMemoryPictures(stored["pixels"], fingerprints)  # type: ignore[arg-type]


def _decoded(pictures: FilePictures) -> NDArray[np.uint8]:
    with ThreadPoolExecutor(workers()) as pool:
        decoded = pool.map(pictures.read, range(len(pictures)))
        first = next(decoded)
        pixels = np.empty((len(pictures), *first.shape), np.uint8)
        pixels[0] = first
        for place, picture in enumerate(decoded, start=1):
            pixels[place] = picture
    return pixels
