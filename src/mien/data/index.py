"""Labelled picture files: examined once (decoded, measured; the findings are cached), sorted into splits."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.dataset import SPLITS, Pictures, Progress, RawDataset, Split, Unreadable, in_order
from mien.data.pictures import (
    DIGEST_BYTES,
    SIDE,
    Box,
    FilePictures,
    Fingerprints,
    InMemoryPictures,
    cut_out,
    fingerprint_of,
    on_disk_if_large,
)
from mien.errors import ImageError
from mien.files import clipped, natural
from mien.images import decode
from mien.images.decode import read_bytes, workers
from mien.labels import FERPLUS

# A box counts as beyond its picture where less than this of it lies inside; a note says so where these are more than a
# tenth: detectors give faces at an edge such boxes, too.
_INSIDE, _MOST_BEYOND = 0.8, 0.1
_BATCH = 64  # files between two reports of progress
_GONE = (-1, -1)  # size and time of a file that cannot be looked at
# Sets of small faces of one size are held decoded: 256 MB is FER-2013 three times over.
_SMALL_SIDE, _SMALL_BYTES = 96, 256_000_000


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One picture of a data set of files. name: what a person would look for. group: see Split.groups.

    box: what is cut out of the picture, None for all of it. shares: its soft label, in the order of
    Found.share_classes. votes: its FER+ votes, in the order labels.FERPLUS.
    """

    path: Path
    name: str
    label: str
    split: str
    group: str = ""
    box: Box | None = None
    shares: tuple[float, ...] | None = None
    votes: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Found:
    """What a reader found at DATA, before any picture is opened. refused, grouped: see RawDataset."""

    name: str
    files: Sequence[LabelledFile]
    notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    share_classes: tuple[str, ...] = ()
    grouped: bool = False


# Of one file; with the reason not to use it, or what is odd about it.
_Finding = tuple[Fingerprints | None, str, str]


@dataclass(frozen=True, eq=False)
class Scan:
    """Findings on n files, in their order. reasons: why a file is no usable picture, '' where it is one.

    warnings: what is odd about a file that is used all the same, '' where nothing is.

    fingerprints: of length n, zeros where there is a reason.
    """

    fingerprints: Fingerprints
    reasons: Sequence[str]
    warnings: Sequence[str]

    @property
    def readable(self) -> NDArray[np.intp]:
        return np.flatnonzero([not reason for reason in self.reasons])


def scan_files(files: Sequence[LabelledFile], source: Path, progress: Progress | None = None) -> Scan:
    """Decode every file once, in parallel, unless an earlier scan of `source` saw it with this size and time.

    progress is told (done, of) after each batch of files that had to be decoded.
    """
    key = cache.hash_of("scan 2", os.path.realpath(source))
    names = [str(file.path) if file.box is None else f"{file.path} {file.box}" for file in files]
    states = [_state(file.path) for file in files]
    rows, earlier = _remembered(key, names, states)
    if earlier and np.array_equal(rows, np.arange(len(earlier.reasons))):
        return earlier  # nothing has changed
    reasons, warnings = [""] * len(files), [""] * len(files)
    prints = Fingerprints(
        np.zeros((len(files), DIGEST_BYTES), np.uint8),
        on_disk_if_large((len(files), SIDE, SIDE)),
        np.zeros((len(files), 3), np.int32),
    )
    if earlier:
        for place in np.flatnonzero(rows >= 0).tolist():
            row = int(rows[place])
            _put(prints, place, earlier.fingerprints.take(np.array([row])))
            reasons[place], warnings[place] = earlier.reasons[row], earlier.warnings[row]
    new = np.flatnonzero(rows < 0).tolist()
    for place, (found, reason, warning) in zip(
        new, _examined([files[place] for place in new], progress), strict=True
    ):
        _put(prints, place, found)
        reasons[place], warnings[place] = reason, warning
    return _kept(key, names, states, Scan(prints, reasons, warnings))


def _put(prints: Fingerprints, place: int, found: Fingerprints | None) -> None:
    """Write the fingerprint of one file, zeros where there is none."""
    prints.digests[place] = 0 if found is None else found.digests[0]
    prints.thumbnails[place] = 0 if found is None else found.thumbnails[0]
    prints.sizes[place] = 0 if found is None else found.sizes[0]


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return _GONE
    return status.st_size, status.st_mtime_ns


def _examined(files: Sequence[LabelledFile], progress: Progress | None) -> Iterator[_Finding]:
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            yield from pool.map(_examine, batch)
            if progress:
                progress(start + len(batch), len(files))


def _examine(file: LabelledFile) -> _Finding:
    try:
        decoded = decode(_content(file.path), "it")
        return fingerprint_of(cut_out(decoded.pixels, file.box)), "", decoded.warning
    except ImageError as error:
        return None, str(error), ""


def _content(path: Path) -> bytes:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        # The words of the system alone do not say where: a table's paths may start from another folder.
        where = f"; looked for {clipped(str(path))}" if error.errno == errno.ENOENT else ""
        raise ImageError(f"it cannot be opened: {error.strerror or error}{where}") from error
    except ValueError as error:
        raise ImageError("its name has a zero byte, which no file's name has") from error
    if not stat.S_ISREG(kind):  # reading one may wait for ever
        raise ImageError("it is a folder, pipe, socket or device, not a picture")
    return read_bytes(path, "it")


def _remembered(
    key: str, names: Sequence[str], states: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.intp], Scan | None]:
    """Return in which row of an earlier scan each file stands that has not changed (-1: in none), and that scan."""
    stored = cache.load("scan", key)
    if stored is None:
        return np.full(len(names), -1), None
    text = json.loads(stored["text"].tobytes())
    known = {
        (name, *state): row
        for row, (name, state) in enumerate(zip(text["names"], stored["states"].tolist(), strict=True))
    }
    rows = [known.get((name, *state), -1) for name, state in zip(names, states, strict=True)]
    return np.array(rows, np.intp), Scan(Fingerprints.from_arrays(stored), text["reasons"], text["warnings"])


def _kept(key: str, names: Sequence[str], states: Sequence[tuple[int, int]], scan: Scan) -> Scan:
    """Remember a scan, and return it with its thumbnails where they are remembered."""
    said = {"names": list(names), "reasons": list(scan.reasons), "warnings": list(scan.warnings)}
    text = json.dumps(said)
    stored = cache.kept(
        "scan",
        key,
        {
            "text": np.frombuffer(text.encode("ascii"), np.uint8),
            "states": np.array(states, np.int64).reshape(-1, 2),
            **scan.fingerprints.arrays(),
        },
    )
    return replace(scan, fingerprints=Fingerprints.from_arrays(stored))


def index_files(source: Path, found: Found, progress: Progress | None = None) -> RawDataset:
    """Examine the files and sort them into splits. Classes are in natural order of their names."""
    files = found.files
    scan = scan_files(files, source, progress)
    unreadable = [
        Unreadable(clipped(file.name), reason)
        for file, reason in zip(files, scan.reasons, strict=True)
        if reason
    ]
    usable = [files[int(row)] for row in scan.readable]
    fingerprints = scan.fingerprints.take(scan.readable)
    pictures = _pictures(usable, fingerprints)
    classes = tuple(sorted({file.label for file in files} | set(found.share_classes), key=natural))
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero([file.split == split for file in usable])
        chosen = [usable[int(row)] for row in rows]
        splits[split] = _split(pictures.take(rows), chosen, classes, found.share_classes)
    notes = (*found.notes, *_odd(files, scan.warnings), *_beyond(usable, fingerprints.sizes))
    return RawDataset(
        found.name, classes, in_order(splits), tuple(unreadable), notes, found.refused, found.grouped
    )


def _odd(files: Sequence[LabelledFile], warnings: Sequence[str]) -> list[str]:
    """Count the files that are used although they are written oddly, as damaged ones often are, and name the first."""
    odd = [(file.name, warning) for file, warning in zip(files, warnings, strict=True) if warning]
    if not odd:
        return []
    name, warning = odd[0]
    several = "pictures are" if len(odd) > 1 else "picture is"
    return [f"{len(odd):,} {several} used with a warning; the first, {clipped(name)}: {warning}"]


def _beyond(files: Sequence[LabelledFile], sizes: NDArray[np.int32]) -> list[str]:
    """Say it where many boxes reach far beyond their pictures, as ends that are read as widths and heights do.

    sizes: (n, 3) of what was cut out, as far as it lies in the picture.
    """
    boxed = [(file, size) for file, size in zip(files, sizes[:, :2].tolist(), strict=True) if file.box]
    far = []
    for file, (high, wide) in boxed:
        left, top, right, bottom = file.box or (0, 0, 0, 0)
        if wide * high < _INSIDE * (right - left) * (bottom - top):
            far.append(file)
    if len(far) <= _MOST_BEYOND * len(boxed):
        return []
    return [
        f"{len(far):,} of {len(boxed):,} boxes of faces reach far beyond their pictures, such as {far[0].box} of "
        f"{clipped(far[0].name)}; are they read as they are meant? A column width is no right end"
    ]


def _split(
    pictures: Pictures, files: Sequence[LabelledFile], classes: Sequence[str], share_classes: Sequence[str]
) -> Split:
    number = {label: place for place, label in enumerate(classes)}
    labels = np.array([number[file.label] for file in files], np.int64)
    groups = [file.group for file in files] if any(file.group for file in files) else None
    votes = (
        [file.votes or (0.0,) * len(FERPLUS) for file in files] if any(file.votes for file in files) else None
    )
    shares = None
    if share_classes and files:
        shares = np.zeros((len(files), len(classes)), np.float32)
        places = [number[name] for name in share_classes]
        for row, file in enumerate(files):
            if file.shares is None:
                shares[row, number[file.label]] = 1
            else:
                shares[row, places] = file.shares
    return Split(
        pictures,
        labels,
        [file.name for file in files],
        None if votes is None else np.array(votes, np.float32),
        groups,
        shares,
    )


def _pictures(files: Sequence[LabelledFile], fingerprints: Fingerprints) -> Pictures:
    """Return small pictures of one size decoded (cached by their content), all others as files to stream."""
    boxes = [file.box for file in files] if any(file.box for file in files) else None
    on_disk = FilePictures([file.path for file in files], fingerprints, boxes)
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
