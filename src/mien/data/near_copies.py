"""Near copies: the same shot again, mirrored, cropped, shifted, turned, recompressed, relit or retouched.

They are found in two steps that need nothing but the 48x48 thumbnails, so no picture is decoded again and no network
decides what is alike.

**Candidates.** A thumbnail, its local contrast evened out, is described by the lowest cosine waves (a DCT) of a window.
The whole of every picture is compared with 30 windows of every other (all of it, and parts of 90, 80 and 70 % of its
sides), plain and mirrored, with two slightly turned versions, and with the whole turned by quarters. A crop so meets
the window that it was cut from.

**Verification.** The window says roughly how one picture lies on the other; `mien.data.alignment` fits that and
compares the details.

`docs/data-trust.md` has the figures: what is found and missed of 22 alterations, and false pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as once
from importlib.util import find_spec
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.alignment import (
    FLIP,
    NOISY,
    SURE,
    Floats,
    Map,
    coarsely_aligned,
    evened,
    halved,
    same_shot,
    textured,
)
from mien.data.dataset import Progress
from mien.data.index import SIDE, Fingerprints, on_disk_if_large
from mien.errors import need
from mien.images.decode import workers

NEIGHBOURS = 8  # candidates of a picture that are verified, at most
_LIKELY = 0.66  # cosine from which a pair is a candidate; of crops to 70 % one in a hundred is below
_EVEN = 3.0  # grey levels of deviation within a line of a frame
_WORTH_CACHING = 500  # pictures

# Windows by the share of the picture's sides: how many positions each way.
_WINDOWS = {1.0: 1, 0.9: 2, 0.8: 3, 0.7: 4}
_SHIFTED = 0.8  # windows of this share meet each other's centre as well: that finds shifts
_TURNS = (8.0, -8.0)  # degrees
_SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float64)  # exchanges the axes
_WAVES, _HIGHEST = 8, 10  # waves each way, and the largest sum of both that is kept

# Of the search in cells.
_CELL_LIKELY, _CELL_SHARE = 0.8, 0.9  # cosine of a candidate, least share of its windows
_CELL_SAMPLE, _CELL_ROUNDS = 40_000, 6  # pictures that the cells are made from, in how many rounds
_CELL_PROBES, _CELL_QUERIES = 4, 512  # cells that are looked into, pictures at once
_QUERIES, _COLUMNS = 128, 2048  # pictures compared at once, both ways: bounds the memory, fits the caches


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


def closest_copies(prints: Fingerprints) -> NearCopies:
    """Return near copies of which the whole, or nine tenths, look alike, in a time that suits millions of pictures.

    A picture is compared only with those that lie near it in the space of descriptions, and crops to less than 90 % and
    shifts are not looked for. The answer is kept in the cache.
    """
    digests, rows = np.unique(prints.digests, axis=0, return_index=True)
    key = cache.hash_of("closest copies 1", digests.tobytes())
    if stored := cache.load("near", key) if len(prints) >= _WORTH_CACHING else None:
        return _renumbered(NearCopies(*(stored[name] for name in _FIELDS)), rows)  # type: ignore[arg-type]
    worth = np.flatnonzero(_worth(prints.thumbnails, rows))
    found = _renumbered(_closest(prints.thumbnails, rows[worth]), worth)
    if len(prints) >= _WORTH_CACHING:
        cache.store("near", key, {name: getattr(found, name) for name in _FIELDS})
    return _renumbered(found, rows)


def _closest(all_thumbnails: NDArray[np.uint8], rows: NDArray[np.intp]) -> NearCopies:
    """Return the closest copies among some rows of thumbnails, numbered by their place in `rows`."""
    blocks = range(0, len(rows), _COLUMNS)
    thumbnails = on_disk_if_large((len(rows), SIDE, SIDE))
    halves = np.empty((len(rows), SIDE // 2, SIDE // 2), np.int8)
    framed = np.empty(len(rows), bool)
    for start in blocks:
        part = slice(start, start + _COLUMNS)
        thumbnails[part], framed[part] = _without_frames(all_thumbnails[rows[part]])
        halves[part] = halved(evened(thumbnails[part]))
    with _one_thread_of_blas():
        pairs = _verified(thumbnails, halves, np.arange(len(rows)), _candidates_in_cells(thumbnails))
    return replace(pairs, framed=framed[pairs.first] != framed[pairs.second])


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


def _worth(thumbnails: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Say which of these rows show anything."""
    parts = [textured(thumbnails[rows[at : at + _COLUMNS]]) for at in range(0, len(rows), _COLUMNS)]
    return np.concatenate([np.zeros(0, bool), *parts])


def near_copies_if_quick(prints: Fingerprints, seconds: float = 60.0) -> NearCopies | None:
    """Return near copies where the cache has them or the search takes about so many seconds at most; else None."""
    return _near_copies(prints, None, seconds)


def _near_copies(prints: Fingerprints, progress: Progress | None, seconds: float) -> NearCopies | None:
    digests, rows = np.unique(prints.digests, axis=0, return_index=True)
    key = cache.hash_of("near copies 4", digests.tobytes())
    stored = cache.load("near", key) if len(prints) >= _WORTH_CACHING else None
    if stored:
        found = NearCopies(*(stored[name] for name in _FIELDS))  # type: ignore[arg-type]
    elif estimated_s(len(rows)) > seconds:
        return None
    else:
        worth = np.flatnonzero(textured(prints.thumbnails[rows]))
        inner, framed = _without_frames(prints.thumbnails[rows[worth]])
        found = _all_pairs(inner, progress)
        found = replace(found, framed=framed[found.first] != framed[found.second])
        found = _renumbered(found, worth)
        if len(prints) >= _WORTH_CACHING:
            cache.store("near", key, {name: getattr(found, name) for name in _FIELDS})
    return _renumbered(found, rows)


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
    _, kinds = np.unique(prints.digests, axis=0, return_inverse=True)
    first: dict[int, int] = {}
    same = [(first.setdefault(kind, row), row) for row, kind in enumerate(kinds.reshape(-1).tolist())]
    near = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return components(len(prints), [*same, *near])


def components(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the connected components of a graph, (count,) int64: the smallest member of each node's component.

    >>> components(5, [(3, 1), (4, 3)]).tolist()
    [0, 1, 2, 1, 1]
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in pairs:
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
    pairs = _verified(thumbnails, halves, rows, _candidates(thumbnails, progress))
    while True:
        groups = components(len(thumbnails), zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        members = np.bincount(groups, minlength=len(groups))
        standing = np.flatnonzero(members > NEIGHBOURS)
        more = _verified(thumbnails, halves, standing, _candidates(thumbnails[standing], None))
        known = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        new = [pair not in known for pair in zip(more.first.tolist(), more.second.tolist(), strict=True)]
        if not any(new):
            return pairs
        more = more.take(np.flatnonzero(new))
        pairs = NearCopies(*(np.concatenate([getattr(pairs, name), getattr(more, name)]) for name in _FIELDS))


@dataclass(frozen=True, eq=False)
class _Hypothesis:
    """One way in which a picture may lie on another.

    window: row of `_described`'s answer for the query. centre: it is compared with the centre of the other picture, not
    with the whole. order, signs: (d,) what turning by quarters and mirroring do to the description. map: from the other
    picture to the query.
    """

    window: int
    centre: bool
    order: NDArray[np.intp]
    signs: Floats
    map: Map


@once
def _waves() -> tuple[Floats, list[tuple[int, int]], NDArray[np.intp]]:
    """Return the cosine waves of all one-dimensional windows and how descriptions are put together from them.

    waves: (windows * 8, 48); pairs: the vertical and horizontal window of each square one; kept: (2, d) the vertical
    and horizontal wave of each number of a description.
    """
    spans = [
        (share, (1 - share) * place / max(1, steps - 1))
        for share, steps in _WINDOWS.items()
        for place in range(steps)
    ]
    x = np.arange(SIDE)
    rows = []
    for share, start in spans:
        low, width = start * SIDE, share * SIDE
        cover = np.clip(np.minimum(x + 1, low + width) - np.maximum(x, low), 0, 1)
        within = np.clip((x + 0.5 - low) / width, 0, 1)
        rows.append(np.cos(np.pi * np.arange(_WAVES)[:, None] * within) * cover)
        rows[-1][0] *= math.sqrt(0.5)
    pairs = [(i, j) for i, one in enumerate(spans) for j, other in enumerate(spans) if one[0] == other[0]]
    kept = [(i, j) for i in range(_WAVES) for j in range(_WAVES) if 0 < i + j <= _HIGHEST]
    return np.concatenate(rows).astype(np.float32), pairs, np.array(kept).T


@once
def _hypotheses() -> tuple[_Hypothesis, ...]:
    _, pairs, kept = _waves()
    windows = [(share, (1 - share) * i / max(1, n - 1), (1 - share) * j / max(1, n - 1))
               for share, n in _WINDOWS.items() for i in range(n) for j in range(n)]  # fmt: skip
    maps = [
        np.array(
            [[share, 0, SIDE * left + share / 2 - 0.5], [0, share, SIDE * top + share / 2 - 0.5], [0, 0, 1]]
        )
        for share, top, left in windows
    ]
    turned = [np.vstack([_turn(angle), [0, 0, 1]]) for angle in _TURNS]
    centre = _centre()
    down, across = kept.tolist()
    places = {pair: place for place, pair in enumerate(zip(down, across, strict=True))}
    plain, swapped = (
        np.array([places[pair] for pair in zip(*both, strict=True)])
        for both in ((down, across), (across, down))
    )
    found = []
    # The eight ways in which a square lies on itself: mirrored upside down, sideways, and with its axes exchanged.
    for order, upside, sideways in product((plain, swapped), (0, 1), (0, 1)):
        signs = np.where((upside * kept[0] + sideways * kept[1]) % 2, -1, 1).astype(np.float32)
        flip = np.linalg.matrix_power(FLIP, sideways) @ np.linalg.matrix_power(_SWAP @ FLIP @ _SWAP, upside)
        if order is swapped or upside:
            axes = _SWAP if order is swapped else np.eye(3)
            found.append(_Hypothesis(0, False, order, signs[order], flip @ axes))
            continue
        found += [_Hypothesis(k, False, order, signs, one @ flip) for k, one in enumerate([*maps, *turned])]
        found += [
            _Hypothesis(k, True, order, signs, maps[k] @ flip @ np.linalg.inv(maps[centre]))
            for k, (share, _, _) in enumerate(windows)
            if share == _SHIFTED and k != centre
        ]
    assert len(windows) == len(pairs)
    return tuple(found)


def _turn(angle: float) -> Map:
    return np.asarray(cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), angle, 1.0))


def _centre() -> int:
    """Return the place of the window in the middle among those of share `_SHIFTED`."""
    before = sum(steps**2 for share, steps in _WINDOWS.items() if share > _SHIFTED)
    return before + _WINDOWS[_SHIFTED] ** 2 // 2


def _described(evened: Floats) -> Floats:
    """Return the unit descriptions of all windows of thumbnails, then of the turned whole: (n, windows, d)."""
    waves, pairs, (down, across) = _waves()
    count, per = len(evened), _WAVES
    cosines = (waves @ evened @ waves.T).reshape(count, len(waves) // per, per, len(waves) // per, per)
    parts = [cosines[:, i, :, j][:, down, across] for i, j in pairs]
    for angle in _TURNS:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = [cv2.warpAffine(one, _turn(angle), (SIDE, SIDE), flags=flags) for one in evened]
        parts.append((waves[:per] @ np.stack(turned) @ waves[:per].T)[:, down, across])
    described = np.stack(parts, axis=1)
    return np.asarray(described / (np.linalg.norm(described, axis=2, keepdims=True) + 1e-3), np.float32)


def _candidates(
    thumbnails: NDArray[np.uint8], progress: Progress | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (query, other, hypothesis) for the likeliest partners of the next pictures."""
    starts = range(0, len(thumbnails), _QUERIES)
    wholes, centres = [], []
    for start in starts:
        described = _described(evened(thumbnails[start : start + _QUERIES]))
        wholes.append(described[:, 0])
        centres.append(described[:, _centre()])
    if not wholes:
        return
    whole, centre = np.concatenate(wholes), np.concatenate(centres)
    for start in starts:
        described = _described(evened(thumbnails[start : start + _QUERIES]))
        queries = np.stack([described[:, way.window][:, way.order] * way.signs for way in _hypotheses()])
        query, other = _nearest(queries, whole, centre, start)
        scores = np.stack(
            [
                np.einsum("nd,nd->n", queries[place, query], (centre if way.centre else whole)[other])
                for place, way in enumerate(_hypotheses())
            ]
        )
        yield query + start, other, scores.argmax(axis=0)
        if progress:
            progress(min(start + _QUERIES, len(thumbnails)), len(thumbnails))


def _candidates_in_cells(
    thumbnails: NDArray[np.uint8],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the same as `_candidates`, but look only into the cells that lie nearest to a query.

    The wholes are sorted into about sqrt(n) cells by spherical k-means, an inverted file (Sivic and Zisserman 2003; as
    IVFFlat of faiss has it), so that the work grows with n^1.5.
    """
    count = len(thumbnails)
    if not count:
        return
    parts = [
        _described_whole(evened(thumbnails[start : start + _COLUMNS])) for start in range(0, count, _COLUMNS)
    ]
    whole = np.concatenate(parts)
    centres = _cells(whole)
    cell = np.concatenate(
        [(whole[at : at + _COLUMNS] @ centres.T).argmax(axis=1) for at in range(0, count, _COLUMNS)]
    )
    order = np.argsort(cell, kind="stable")
    ends = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    inside = whole[order]  # those of a cell side by side
    windows = [share for share, steps in _WINDOWS.items() for _ in range(steps**2)]
    windows += [1.0] * len(_TURNS)
    hypotheses = _hypotheses()
    ways = [
        place for place, way in enumerate(hypotheses) if not way.centre and windows[way.window] >= _CELL_SHARE
    ]
    for start in range(0, count, _CELL_QUERIES):
        described = _described(evened(thumbnails[start : start + _CELL_QUERIES]))
        queries = np.concatenate(
            [
                described[:, hypotheses[way].window][:, hypotheses[way].order] * hypotheses[way].signs
                for way in ways
            ]
        )
        near = np.argpartition(-(queries @ centres.T), min(_CELL_PROBES, len(centres)) - 1, axis=1)
        near = near[:, :_CELL_PROBES]
        asked = near.reshape(-1)
        who = np.repeat(np.arange(len(queries)), near.shape[1])
        by_cell = np.argsort(asked, kind="stable")
        bounds = np.searchsorted(asked[by_cell], np.arange(len(centres) + 1))
        found: list[tuple[NDArray[np.intp], NDArray[np.intp], Floats]] = []
        for one in np.flatnonzero(np.diff(bounds)).tolist():
            these = who[by_cell[bounds[one] : bounds[one + 1]]]
            scores = queries[these] @ inside[ends[one] : ends[one + 1]].T
            row, column = np.nonzero(scores > _CELL_LIKELY)
            found.append((these[row], order[ends[one] + column], scores[row, column]))
        asker, other, score = (np.concatenate([part[place] for part in found]) for place in range(3))
        way, query = np.divmod(asker, len(described))
        keep = other != query + start
        query, other, way, score = query[keep], other[keep], way[keep], score[keep]
        best = np.lexsort((-score, other, query))  # of each pair its best way
        query, other, way, score = query[best], other[best], way[best], score[best]
        first = np.ones(len(query), bool)
        first[1:] = (np.diff(query) != 0) | (np.diff(other) != 0)
        query, other, way, score = query[first], other[first], way[first], score[first]
        likely = np.lexsort((other, -score, query))
        query, other, way = query[likely], other[likely], way[likely]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        query, other, way = (part[rank < NEIGHBOURS] for part in (query, other, way))
        yield query + start, other, np.array(ways)[way]


def _described_whole(evened: Floats) -> Floats:
    """Return what `_described` says of the whole alone: (n, d)."""
    waves, _, (down, across) = _waves()
    described = (waves[:_WAVES] @ evened @ waves[:_WAVES].T)[:, down, across]
    return np.asarray(described / (np.linalg.norm(described, axis=1, keepdims=True) + 1e-3), np.float32)


def _cells(whole: Floats) -> Floats:
    """Return the unit centres of about sqrt(n) cells."""
    rng = np.random.default_rng(0)
    count = max(1, math.isqrt(len(whole)))
    sample = whole[np.sort(rng.permutation(len(whole))[:_CELL_SAMPLE])]
    centres = sample[rng.permutation(len(sample))[:count]]
    for _ in range(_CELL_ROUNDS):
        cell = np.concatenate(
            [
                (sample[at : at + _COLUMNS] @ centres.T).argmax(axis=1)
                for at in range(0, len(sample), _COLUMNS)
            ]
        )
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        norm = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norm > 0, sums / np.maximum(norm, 1e-6), centres)
    return np.asarray(centres, np.float32)


def _nearest(
    queries: Floats, whole: Floats, centre: Floats, start: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (query, other) of at most `NEIGHBOURS` others a query that are likely the same picture.

    queries: (hypotheses, q, d); query i is picture start + i and not compared with itself. In blocks, keeping of each
    only what may be among the nearest, so that memory does not grow with the number of pictures that are alike.
    """
    count = queries.shape[1]
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], Floats]] = []
    for left in range(0, len(whole), _COLUMNS):
        targets = [part[left : left + _COLUMNS].T for part in (whole, centre)]
        best = np.full((count, targets[0].shape[1]), -1.0, np.float32)
        product = np.empty_like(best)
        for query, way in zip(queries, _hypotheses(), strict=True):
            np.matmul(query, targets[way.centre], out=product)
            np.maximum(best, product, out=best)
        own = np.arange(count) + start - left
        inside = (own >= 0) & (own < best.shape[1])
        best[np.flatnonzero(inside), own[inside]] = -1.0
        least = np.full(count, -1.0, np.float32)
        if best.shape[1] > NEIGHBOURS:
            least = np.partition(best, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS]
        rows, columns = np.nonzero((best > _LIKELY) & (best >= least[:, None]))
        found.append((rows, columns + left, best[rows, columns]))
    rows, others, scores = (np.concatenate([part[place] for part in found]) for place in range(3))
    order = np.lexsort((others, -scores, rows))
    rows, others = rows[order], others[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return rows[rank < NEIGHBOURS], others[rank < NEIGHBOURS]


def _verified(
    thumbnails: NDArray[np.uint8],
    halves: NDArray[np.int8],
    rows: NDArray[np.intp],
    candidates: Iterable[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]],
) -> NearCopies:
    """Return the candidates that are near copies. rows: what the numbers of the candidates mean."""
    found: dict[tuple[int, int], tuple[Map, float, bool]] = {}
    seen: set[tuple[int, int]] = set()

    def checked(job: tuple[int, int, int]) -> tuple[Map, float, bool] | None:
        query, other, way = job
        there = coarsely_aligned(halves[other], halves[query], _hypotheses()[way].map)
        return None if there is None else same_shot(thumbnails[other], thumbnails[query], there)

    with ThreadPoolExecutor(workers()) as pool:
        for queries, others, ways in candidates:
            jobs = []
            for query, other, way in zip(
                rows[queries].tolist(), rows[others].tolist(), ways.tolist(), strict=True
            ):
                pair = (min(query, other), max(query, other))
                # From the far side the same pair comes with another hypothesis, which may be the better one: so a pair
                # is tried twice at most, and only once where it was found.
                if pair not in found:
                    jobs.append((query, other, way))
                seen.add(pair)
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
