"""Near copies: the same shot again, mirrored, cropped, shifted, turned, recompressed, relit or retouched.

They are found in two steps that need nothing but the 48x48 thumbnails, so no picture is decoded again and no network
decides what is alike.

**Candidates.** `mien.data.candidates` says which pictures may be the same, and roughly how one lies on the other.

**Verification.** `mien.data.alignment` fits how one lies on the other, and compares the details.

`docs/data-trust.md` has the figures: what is found and missed of 22 alterations, and false pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.alignment import (
    NOISY,
    SURE,
    Map,
    coarsely_aligned,
    evened,
    halved,
    same_shot,
    textured,
)
from mien.data.candidates import NEIGHBOURS, described_closely, exhaustive, hypotheses, in_cells, room_for
from mien.data.dataset import Progress
from mien.data.pictures import SIDE, Fingerprints, on_disk_if_large
from mien.errors import need
from mien.images.decode import workers

_EVEN = 3.0  # grey levels of deviation within a line of a frame
_WORTH_CACHING = 500  # pictures
_COLUMNS = 2048  # pictures at once: bounds the memory


@dataclass(frozen=True, eq=False)
class NearCopies:
    """Pairs of pictures that show the same shot but not the same pixels.

    first, second: (m,) int64, rows, first < second. details: (m,) float32, the correlation of their fine details once
    aligned, at most 1. maps: (m, 2, 3) float32, from pixels of the first 48x48 thumbnail to pixels of the second, both
    without frames. relit: (m,) bool, brightness or contrast differ. framed: (m,) bool, one has an even frame.

    Each picture is compared with its `NEIGHBOURS` likeliest others, so of a thousand frames of one video not every pair
    is listed; `grouped` joins them all the same.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    details: NDArray[np.float32]
    maps: NDArray[np.float32]
    relit: NDArray[np.bool_]
    framed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, indices: NDArray[np.intp]) -> NearCopies:
        return NearCopies(*(getattr(self, name)[indices] for name in _FIELDS))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The two rows of each pair."""
        return list(zip(self.first.tolist(), self.second.tolist(), strict=True))

    def kind(self, pair: int) -> str:
        """Say in words what was done to one of the two: 'mirrored, cropped to 80 %'."""
        words = _kind(self.maps[pair].astype(np.float64), float(self.details[pair]), bool(self.relit[pair]))
        return ", ".join([*(["framed"] if self.framed[pair] else []), *words]) or "recompressed"


def no_copies() -> NearCopies:
    """Return an empty list of pairs."""
    rows = np.empty(0, np.int64)
    none = np.empty(0, bool)
    return NearCopies(rows, rows, np.empty(0, np.float32), np.empty((0, 2, 3), np.float32), none, none)


_FIELDS = ("first", "second", "details", "maps", "relit", "framed")


def near_copies(prints: Fingerprints, progress: Progress | None = None) -> NearCopies:
    """Return all pairs of near copies among pictures; pixel copies are left to their digests.

    Of pixel copies the first alone is compared. The answer is kept in the cache, whatever the order of the pictures.
    progress is told (done, of) in pictures. The time grows with the square of the number of pictures: see
    `estimated_s`. Memory: about 1.5 kB a picture besides the thumbnails.
    """
    found = _near_copies(prints, progress, math.inf)
    assert found is not None
    return found


def near_copies_if_quick(prints: Fingerprints, seconds: float = 60.0) -> NearCopies | None:
    """Return near copies where the cache has them or the search takes about so many seconds at most; else None."""
    return _near_copies(prints, None, seconds)


def _near_copies(prints: Fingerprints, progress: Progress | None, seconds: float) -> NearCopies | None:
    def search(rows: NDArray[np.intp]) -> tuple[NearCopies, NDArray[np.bool_]]:
        inner, framed = _without_frames(prints.thumbnails[rows])
        return _all_pairs(inner, progress), framed

    return _remembered("near copies 4", prints, search, seconds)


def closest_copies(prints: Fingerprints) -> NearCopies:
    """Return near copies of which the whole, or nine tenths, look alike, in a time that suits millions of pictures.

    A picture is compared only with those that lie near it in the space of descriptions, and crops to less than 90 % and
    shifts are not looked for. The answer is kept in the cache.
    """
    found = _remembered("closest copies 4", prints, partial(_closest, prints.thumbnails), math.inf)
    assert found is not None
    return found


def _remembered(
    name: str,
    prints: Fingerprints,
    search: Callable[[NDArray[np.intp]], tuple[NearCopies, NDArray[np.bool_]]],
    seconds: float,
) -> NearCopies | None:
    """Return copies from the cache, else those that a search finds; None where that takes more than so many seconds.

    search: is given rows of pictures, no two equal, and returns pairs, numbered by their place among those, and which
    of those rows have a frame.
    """
    digests, rows = np.unique(prints.digests, axis=0, return_index=True)
    key = cache.hash_of(name, digests.tobytes())
    is_large = len(prints) >= _WORTH_CACHING
    if stored := cache.load("near", key) if is_large else None:
        return _renumbered(NearCopies(*(stored[field] for field in _FIELDS)), rows)  # type: ignore[arg-type]
    if estimated_s(len(rows)) > seconds:
        return None
    parts = [textured(prints.thumbnails[rows[at : at + _COLUMNS]]) for at in range(0, len(rows), _COLUMNS)]
    worth = np.flatnonzero(np.concatenate([np.zeros(0, bool), *parts]))
    pairs, framed = search(rows[worth])
    found = _renumbered(replace(pairs, framed=framed[pairs.first] != framed[pairs.second]), worth)
    if is_large:
        cache.store("near", key, {field: getattr(found, field) for field in _FIELDS})
    return _renumbered(found, rows)


def _closest(
    all_thumbnails: NDArray[np.uint8], rows: NDArray[np.intp]
) -> tuple[NearCopies, NDArray[np.bool_]]:
    """Return the closest copies among some rows of thumbnails, numbered by their place there, and which have frames."""
    thumbnails = on_disk_if_large((len(rows), SIDE, SIDE))
    halves = on_disk_if_large((len(rows), SIDE // 2, SIDE // 2), np.int8)
    described = room_for(len(rows))
    framed = np.empty(len(rows), bool)
    with _one_thread_of_blas():
        for start in range(0, len(rows), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            thumbnails[part], framed[part] = _without_frames(all_thumbnails[rows[part]])
            even = evened(thumbnails[part])
            halves[part], described[part] = halved(even), described_closely(even)
        return _verified(thumbnails, halves, np.arange(len(rows)), in_cells(described)), framed


@contextmanager
def _one_thread_of_blas() -> Iterator[None]:
    """Multiply on one thread inside the block, where threadpoolctl is there (scikit-learn brings it).

    The products are small: on a busy machine the threads of BLAS took four times as long waiting for each other.
    """
    if find_spec("threadpoolctl") is None:
        yield
        return
    with need("threadpoolctl", "train", "the search for copies").threadpool_limits(1, user_api="blas"):
        yield


def _renumbered(pairs: NearCopies, rows: NDArray[np.intp]) -> NearCopies:
    """Return the same pairs for pictures that have other numbers, the lower one first, in order."""
    first, second = rows[pairs.first], rows[pairs.second]
    turned = first > second
    maps = np.array(pairs.maps)
    for place in np.flatnonzero(turned).tolist():
        maps[place] = np.linalg.inv(np.vstack([maps[place], [0, 0, 1]]))[:2]
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    order = np.lexsort((high, low))
    return replace(pairs, first=low, second=high, maps=maps).take(order)


def grouped(prints: Fingerprints, pairs: NearCopies) -> NDArray[np.int64]:
    """Number pictures so that pixel copies and near copies, directly or in a chain, have one number: (n,) int64.

    The number is the row of the first picture of the group.
    """
    return components(len(prints), pairs.pairs, prints.keys)


def components(count: int, pairs: Iterable[tuple[int, int]], *keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Return the connected components of a graph, (count,) int64: the smallest member of each node's component.

    keys: one for each node, which connects those that have the same; '' connects none.

    >>> components(5, [(3, 1), (4, 3)]).tolist(), components(4, [(0, 1)], ["a", "", "", "a"]).tolist()
    ([0, 1, 2, 1, 1], [0, 0, 2, 0])
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    links = [pairs]
    for own in keys:
        first: dict[Hashable, int] = {}
        links.append([(first.setdefault(key, node), node) for node, key in enumerate(own) if key != ""])
    for one, other in chain.from_iterable(links):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(node) for node in range(count)], np.int64)


def estimated_s(count: int) -> float:
    """Return about how many seconds of processor time the search for near copies takes among so many pictures."""
    return 1.7e-7 * count**2 + 6e-3 * count


def _without_frames(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut even frames of one level away, and scale what is inside to the whole: (n, 48, 48).

    Returns also which had one, (n,). A frame has the same level all round; the line within it is cut as well, because
    there both are mixed.
    """
    found, framed = thumbnails.copy(), np.zeros(len(thumbnails), bool)
    levels = thumbnails.astype(np.float32)
    even = levels.std(axis=2) < _EVEN, levels.std(axis=1) < _EVEN  # rows, columns
    means = levels.mean(axis=2), levels.mean(axis=1)
    edges = np.stack([means[0][:, 0], means[0][:, -1], means[1][:, 0], means[1][:, -1]], axis=1)
    around = np.logical_and.reduce([even[0][:, 0], even[0][:, -1], even[1][:, 0], even[1][:, -1]])
    for place in np.flatnonzero(around & (np.ptp(edges, axis=1) < 2 * _EVEN)).tolist():
        inside = []
        for line_even, mean in zip(even, means, strict=True):
            border = line_even[place] & (np.abs(mean[place] - edges[place, 0]) < 2 * _EVEN)
            within = np.flatnonzero(~border)
            inside.append((int(within[0]) + 1, int(within[-1])) if len(within) else (0, 0))
        (top, bottom), (left, right) = inside
        if min(bottom - top, right - left) < SIDE // 2:
            continue  # little is left: a drawing on paper, not a framed picture
        cut = np.ascontiguousarray(thumbnails[place, top:bottom, left:right])
        found[place] = cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        framed[place] = True
    return found, framed


# The search


def _all_pairs(thumbnails: NDArray[np.uint8], progress: Progress | None) -> NearCopies:
    """Compare all pictures; then one of each large group again, because its nearest are all in its own group."""
    halves = np.empty((len(thumbnails), SIDE // 2, SIDE // 2), np.int8)
    for start in range(0, len(thumbnails), _COLUMNS):
        halves[start : start + _COLUMNS] = halved(evened(thumbnails[start : start + _COLUMNS]))
    rows = np.arange(len(thumbnails))
    pairs = _verified(thumbnails, halves, rows, exhaustive(thumbnails, progress))
    while True:
        groups = components(len(thumbnails), pairs.pairs)
        members = np.bincount(groups, minlength=len(groups))
        standing = np.flatnonzero(members > NEIGHBOURS)
        more = _verified(thumbnails, halves, standing, exhaustive(thumbnails[standing], None))
        known = set(pairs.pairs)
        new = [pair not in known for pair in more.pairs]
        if not any(new):
            return pairs
        more = more.take(np.flatnonzero(new))
        pairs = NearCopies(*(np.concatenate([getattr(pairs, name), getattr(more, name)]) for name in _FIELDS))


def _verified(
    thumbnails: NDArray[np.uint8],
    halves: NDArray[np.int8],
    rows: NDArray[np.intp],
    candidates: Iterable[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]],
) -> NearCopies:
    """Return the candidates that are near copies. rows: what the numbers of the candidates mean."""
    found: dict[tuple[int, int], tuple[Map, float, bool]] = {}

    def checked(job: tuple[int, int, int]) -> tuple[Map, float, bool] | None:
        query, other, way = job
        there = coarsely_aligned(halves[other], halves[query], hypotheses()[way].map)
        return None if there is None else same_shot(thumbnails[other], thumbnails[query], there)

    with ThreadPoolExecutor(workers()) as pool:
        for queries, others, ways in candidates:
            jobs = []
            for query, other, way in zip(
                rows[queries].tolist(), rows[others].tolist(), ways.tolist(), strict=True
            ):
                # From the far side the same pair comes with another hypothesis, which may be the better one: so a pair
                # is tried twice at most, and only once where it was found.
                if (min(query, other), max(query, other)) not in found:
                    jobs.append((query, other, way))
            for (query, other, _), answer in zip(jobs, pool.map(checked, jobs), strict=True):
                if answer:
                    # Aligned from `other` to `query`; told from the lower row to the higher.
                    there, details, relit = answer
                    pair = (min(query, other), max(query, other))
                    found[pair] = (
                        there if other < query else np.asarray(np.linalg.inv(there)),
                        details,
                        relit,
                    )
    order = sorted(found)
    first, second = np.array(order, np.int64).reshape(-1, 2).T
    return NearCopies(
        first,
        second,
        np.array([found[pair][1] for pair in order], np.float32),
        np.array([found[pair][0][:2] for pair in order], np.float32).reshape(-1, 2, 3),
        np.array([found[pair][2] for pair in order], bool),
        np.zeros(len(order), bool),
    )


def _kind(there: Map, details: float, relit: bool) -> list[str]:
    linear = there[:, :2]
    size = math.sqrt(abs(float(np.linalg.det(linear))))
    words = []
    if np.linalg.det(linear) < 0:
        words.append("mirrored")
        linear = linear @ np.diag([-1.0, 1.0])
    share = min(size, 1 / size)
    if share < 0.965:
        words.append(f"cropped to {share:.0%}")
    middle = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2])
    shift = np.abs(there[:, :2] @ middle + there[:, 2] - middle).max() / SIDE
    if share >= 0.965 and shift >= 0.025:
        words.append(f"shifted by {shift:.0%}")
    angle = abs(math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])))
    if angle >= 2.5:
        words.append(f"turned by {angle:.0f} degrees")
    if details < NOISY:
        words.append("another frame, or written on")
    elif details < SURE:
        words.append("retouched")
    if relit:
        words.append("other light")
    return words
