"""From a list of labelled files to a Reading: scanned, without the unreadable ones, small faces in memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.dataset import SPLITS, Pictures, Split, Unreadable
from mien.data.pictures import FilePictures, InMemoryPictures
from mien.data.reading import Progress, Reading, in_order
from mien.data.scan import scan_files
from mien.data.traits import Traits
from mien.workers import workers

# Sets of small faces of one size are held decoded: 256 MB is FER-2013 three times over.
_SMALL_SIDE, _SMALL_BYTES = 96, 256_000_000


@dataclass(frozen=True)
class LabelledFile:
    """One row of a data set of files. name: what a person would look for."""

    path: Path
    name: str
    label: str
    split: str


def gather(
    source: Path, name: str, files: Sequence[LabelledFile], progress: Progress | None = None
) -> Reading:
    """Examine the files and sort them into splits. Classes are in natural order of their names."""
    scan = scan_files([file.path for file in files], source, progress)
    unreadable = [
        Unreadable(file.name, reason) for file, reason in zip(files, scan.reasons, strict=True) if reason
    ]
    usable = [files[int(row)] for row in scan.readable]
    pictures = _pictures([file.path for file in usable], scan.traits.take(scan.readable))
    classes = tuple(sorted({file.label for file in files}, key=natural))
    number = {label: place for place, label in enumerate(classes)}
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero([file.split == split for file in usable])
        chosen = [usable[int(row)] for row in rows]
        labels = np.array([number[file.label] for file in chosen], np.int64)
        splits[split] = Split(pictures.take(rows), labels, [file.name for file in chosen])
    return Reading(name, classes, in_order(splits), tuple(unreadable))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which 2.jpg comes before 10.jpg.

    >>> sorted(["b10", "b9", "a"], key=natural)
    ['a', 'b9', 'b10']
    """
    parts: list[tuple[int, int, str]] = []
    run = ""
    for letter in name:
        if run and (letter.isdecimal() != run[-1].isdecimal()):
            parts.append(_part(run))
            run = ""
        run += letter
    return (*parts, _part(run))


def _part(run: str) -> tuple[int, int, str]:
    return (0, int(run), run) if run.isdecimal() else (1, 0, run)


def _pictures(paths: Sequence[Path], traits: Traits) -> Pictures:
    """Return small pictures of one size decoded (cached by their content), all others as files to stream."""
    on_disk = FilePictures(paths, traits)
    sizes = np.unique(traits.sizes, axis=0)
    if len(sizes) != 1 or sizes[0, :2].max() > _SMALL_SIDE or traits.sizes.prod(axis=1).sum() > _SMALL_BYTES:
        return on_disk
    key = cache.hash_of(traits.digests.tobytes(), traits.sizes.tobytes())
    stored = cache.load("small", key) or cache.kept("small", key, {"pixels": _decoded(on_disk)})
    return InMemoryPictures(stored["pixels"], traits)  # type: ignore[arg-type]


def _decoded(pictures: FilePictures) -> NDArray[np.uint8]:
    with ThreadPoolExecutor(workers()) as pool:
        decoded = pool.map(pictures.read, range(len(pictures)))
        first = next(decoded)
        pixels = np.empty((len(pictures), *first.shape), np.uint8)
        pixels[0] = first
        for place, picture in enumerate(decoded, start=1):
            pixels[place] = picture
    return pixels
