"""Examining picture files once: each is decoded, measured and judged; the findings are cached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.reading import Progress
from mien.data.traits import DIGEST_BYTES, LIKENESS, Traits, joined, measure
from mien.errors import ImageError
from mien.images import damage_heard, decode_image, decode_known
from mien.images.decode import read_bytes
from mien.workers import workers

_BATCH = 64  # files between two looks at what the decoders complained about
_GONE = (-1, -1)
_NOTHING = Traits(
    np.zeros((1, DIGEST_BYTES), np.uint8), np.zeros((1, *LIKENESS), np.uint8), np.zeros((1, 3), np.int32)
)


@dataclass(frozen=True, eq=False)
class Scan:
    """Findings on n files, in their order. reasons: why a file is no usable picture, '' where it is one.

    traits: of length n, zeros where there is a reason.
    """

    traits: Traits
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
    found: list[tuple[Traits, str] | None] = [
        known.get((str(path), *state)) for path, state in zip(paths, states, strict=True)
    ]
    new = [place for place, item in enumerate(found) if item is None]
    for place, item in zip(new, _examined([paths[place] for place in new], progress), strict=True):
        found[place] = item
    items = [item for item in found if item is not None]
    scan = Scan(joined([traits for traits, _ in items]), [reason for _, reason in items])
    if new or len(known) != len(paths):
        _remember(key, paths, states, scan)
    return scan


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return _GONE
    return status.st_size, status.st_mtime_ns


def _examined(paths: Sequence[Path], progress: Progress | None) -> Iterator[tuple[Traits, str]]:
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            with damage_heard() as heard:
                findings = list(pool.map(_examine, batch))
            if heard:  # somebody in this batch is damaged: ask them one by one
                findings = [_examine_alone(path) for path in batch]
            yield from findings
            if progress:
                progress(start + len(batch), len(paths))


def _examine(path: Path) -> tuple[Traits, str]:
    try:
        return measure(decode_known(_content(path), "it")), ""
    except ImageError as error:
        return _NOTHING, str(error)


def _examine_alone(path: Path) -> tuple[Traits, str]:
    try:
        return measure(decode_image(_content(path), "it")), ""
    except ImageError as error:
        return _NOTHING, str(error)


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading one may wait for ever
        raise ImageError("it is a pipe, socket or device, not a file")
    return read_bytes(path, "it")


def _remembered(key: str) -> dict[tuple[str, int, int], tuple[Traits, str]]:
    stored = cache.load("scan", key)
    if stored is None:
        return {}
    text = json.loads(stored["text"].tobytes())
    traits = Traits.from_arrays(stored)
    places = np.arange(len(traits))
    states = stored["states"].tolist()
    return {
        (name, *state): (traits.take(places[row : row + 1]), reason)
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
            **scan.traits.arrays(),
        },
    )
