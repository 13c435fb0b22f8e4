"""Which pictures may be copies of each other: descriptions that survive what is done to copies, and two searches.

A thumbnail, its local contrast evened out, is described by the lowest cosine waves (a DCT) of a window. The whole of
every picture is compared with 30 windows of every other (all of it, and parts of 90, 80 and 70 % of its sides), plain
and mirrored, with two slightly turned versions, and with the whole turned by quarters. A crop so meets the window that
it was cut from.

`exhaustive` compares all with all; `in_cells` looks only where a copy is likely to lie, which suits millions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.alignment import FLIP, Floats, Map, evened
from mien.data.dataset import Progress
from mien.data.pictures import SIDE, on_disk_if_large

NEIGHBOURS = 8  # candidates of a picture that are verified, at most
LIKELY = 0.66  # cosine from which a pair is a candidate; of crops to 70 % one in a hundred is below

# Windows by the share of the picture's sides: how many positions each way.
_WINDOWS = {1.0: 1, 0.9: 2, 0.8: 3, 0.7: 4}
_SHIFTED = 0.8  # windows of this share meet each other's centre as well: that finds shifts
_TURNS = (8.0, -8.0)  # degrees
_SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float64)  # exchanges the axes
_WAVES, _HIGHEST = 8, 10  # waves each way, and the largest sum of both that is kept
_QUERIES, _COLUMNS = 128, 2048  # pictures compared at once, both ways: bounds the memory, fits the caches

# Of the search in cells.
_CELL_LIKELY, _CELL_SHARE = 0.74, 0.9  # cosine of a candidate, least share of its windows
_CELL_SIZE = 256  # pictures of a cell, about
_CELL_PROBES, _GROUP_PROBES = 6, 4  # cells, and groups of cells, that are looked into
_CELL_SAMPLE, _CELL_ROUNDS = 16, 6  # pictures a cell that the cells are made from, in how many rounds
_CELL_QUERIES = 4096  # pictures at once


@dataclass(frozen=True, eq=False)
class Hypothesis:
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
def hypotheses() -> tuple[Hypothesis, ...]:
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
            found.append(Hypothesis(0, False, order, signs[order], flip @ axes))
            continue
        found += [Hypothesis(k, False, order, signs, one @ flip) for k, one in enumerate([*maps, *turned])]
        found += [
            Hypothesis(k, True, order, signs, maps[k] @ flip @ np.linalg.inv(maps[centre]))
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


def _described(evened: Floats, only: Sequence[int] | None = None) -> Floats:
    """Return the unit descriptions of all windows of thumbnails, then of the turned whole: (n, windows, d).

    only: the places of some of them.
    """
    waves, pairs, (down, across) = _waves()
    count, per = len(evened), _WAVES
    cosines = (waves @ evened @ waves.T).reshape(count, len(waves) // per, per, len(waves) // per, per)
    wanted = range(len(pairs) + len(_TURNS)) if only is None else only
    parts = [
        cosines[:, i, :, j][:, down, across]
        for i, j in (pairs[place] for place in wanted if place < len(pairs))
    ]
    for angle in (_TURNS[place - len(pairs)] for place in wanted if place >= len(pairs)):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = [cv2.warpAffine(one, _turn(angle), (SIDE, SIDE), flags=flags) for one in evened]
        parts.append((waves[:per] @ np.stack(turned) @ waves[:per].T)[:, down, across])
    described = np.stack(parts, axis=1)
    return np.asarray(described / (np.linalg.norm(described, axis=2, keepdims=True) + 1e-3), np.float32)


def exhaustive(
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
        queries = np.stack([described[:, way.window][:, way.order] * way.signs for way in hypotheses()])
        query, other = _nearest(queries, whole, centre, start)
        scores = np.stack(
            [
                np.einsum("nd,nd->n", queries[place, query], (centre if way.centre else whole)[other])
                for place, way in enumerate(hypotheses())
            ]
        )
        yield query + start, other, scores.argmax(axis=0)
        if progress:
            progress(min(start + _QUERIES, len(thumbnails)), len(thumbnails))


def in_cells(
    described: NDArray[np.float16],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the same as `exhaustive`, but look only into the cells that lie nearest to a query.

    described: (n, windows, d), as `described_closely` gives it. The wholes are sorted into cells of some hundred by
    spherical k-means in two steps, an inverted file (Sivic and Zisserman 2003; as IVFFlat of faiss has it), so that the
    time grows little faster than their number.
    """
    if not len(described):
        return
    cells = _Cells.of(described)
    ways = [
        place for place, way in enumerate(hypotheses()) if way.window in _close_windows() and not way.centre
    ]
    for start in range(0, len(described), _CELL_QUERIES):
        views = dict(
            zip(_close_windows(), described[start : start + _CELL_QUERIES].swapaxes(0, 1), strict=True)
        )
        chosen = [hypotheses()[way] for way in ways]
        queries = np.stack([views[way.window][:, way.order] * way.signs for way in chosen], axis=1)
        query, other, way = cells.near(queries, start)
        yield query + start, other, np.array(ways)[way]


def described_closely(evened: Floats) -> NDArray[np.float16]:
    """Return what `in_cells` compares of evened thumbnails: (n, windows, d), the whole first."""
    return np.asarray(_described(evened, _close_windows()), np.float16)


def room_for(count: int) -> NDArray[np.float16]:
    """Return an array to be filled with what `described_closely` says of so many pictures."""
    return on_disk_if_large((count, len(_close_windows()), len(_waves()[2][0])), np.float16)


@once
def _close_windows() -> list[int]:
    """Return the places of the windows that are nearly the whole, and of the turned whole, in `_described`'s answer."""
    shares = [share for share, steps in _WINDOWS.items() for _ in range(steps**2)]
    close = [place for place, share in enumerate(shares) if share >= _CELL_SHARE]
    return [*close, *range(len(shares), len(shares) + len(_TURNS))]


@dataclass(frozen=True, eq=False)
class _Cells:
    """The descriptions of the wholes, sorted into cells of some hundred, and the cells into groups.

    groups: (groups, d) unit vectors, the middles. centres: (cells, d), group by group. inside: (n, d), cell by cell.
    order: (n,) which picture each of those is. group_ends, ends: where each group, each cell begins, and the end.
    """

    groups: Floats
    centres: Floats
    group_ends: NDArray[np.intp]
    inside: Floats
    order: NDArray[np.intp]
    ends: NDArray[np.intp]

    @classmethod
    def of(cls, described: NDArray[np.float16]) -> _Cells:
        """Make the cells from a sample and sort all into them; the time grows little faster than their number."""
        count = len(described)
        cells = max(1, count // _CELL_SIZE)
        drawn = np.random.default_rng(0).permutation(count)[: _CELL_SAMPLE * cells]
        sample = described[np.sort(drawn), 0].astype(np.float32)
        groups = _means(sample, math.isqrt(cells))
        group = np.concatenate(
            [_top(sample[at : at + _COLUMNS] @ groups.T, 1) for at in range(0, len(sample), _COLUMNS)]
        )
        members = [sample[group[:, 0] == number] for number in range(len(groups))]
        parts = [
            _means(mine, max(1, round(len(mine) / len(sample) * cells))) for mine in members if len(mine)
        ]
        filled = groups[[len(mine) > 0 for mine in members]]
        inside = on_disk_if_large((count, groups.shape[1]), np.float32)
        found = cls(filled, np.concatenate(parts), np.cumsum([0, *map(len, parts)]), inside, drawn, drawn)
        cell = np.empty(count, np.intp)
        for start in range(0, count, _COLUMNS):
            block = described[start : start + _COLUMNS, 0].astype(np.float32)
            cell[start : start + _COLUMNS] = found._nearest(block, 1)[:, 0]
        order = np.argsort(cell, kind="stable")
        for start in range(0, count, _COLUMNS):
            inside[start : start + _COLUMNS] = described[order[start : start + _COLUMNS], 0]
        return replace(
            found, order=order, ends=np.searchsorted(cell[order], np.arange(len(found.centres) + 1))
        )

    def near(
        self, queries: Floats, start: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return (query, other, way) of at most `NEIGHBOURS` others of each picture that are likely the same one.

        queries: (q, ways, d) of the pictures from number `start`. way: by which the other is nearest.
        """
        count, ways = queries.shape[:2]
        flat = queries.reshape(count * ways, -1)
        found: list[tuple[NDArray[np.intp], NDArray[np.intp], Floats]] = []
        for asking, first, scores in _visited(
            flat, self._nearest(flat, _CELL_PROBES), self.inside, self.ends
        ):
            place = np.flatnonzero(scores > _CELL_LIKELY)
            row, column = np.divmod(place, scores.shape[1])
            found.append((asking[row], self.order[first + column], scores.reshape(-1)[place]))
        asker, other, score = (np.concatenate([part[place] for part in found]) for place in range(3))
        query, way = np.divmod(asker, ways)
        best = np.lexsort((-score, other, query))  # of each pair its best way
        best = best[other[best] != query[best] + start]
        once = np.ones(len(best), bool)
        once[1:] = (np.diff(query[best]) != 0) | (np.diff(other[best]) != 0)
        best = best[once]
        best = best[np.lexsort((other[best], -score[best], query[best]))]
        rank = np.arange(len(best)) - np.searchsorted(query[best], query[best])
        likely = best[rank < NEIGHBOURS]
        return query[likely], other[likely], way[likely]

    def _nearest(self, queries: Floats, count: int) -> NDArray[np.intp]:
        """Return the numbers of the `count` nearest cells of each query, (q, count), as far as groups show them."""
        likeness, cells = (
            np.full((len(queries), count), -2, np.float32),
            np.zeros((len(queries), count), np.intp),
        )
        groups = np.concatenate(
            [
                _top(queries[at : at + _COLUMNS] @ self.groups.T, _GROUP_PROBES)
                for at in range(0, len(queries), _COLUMNS)
            ]
        )
        for asking, first, scores in _visited(queries, groups, self.centres, self.group_ends):
            found = _top(scores.copy(), count)
            both = np.concatenate([likeness[asking], np.take_along_axis(scores, found, axis=1)], axis=1)
            numbers = np.concatenate([cells[asking], found + first], axis=1)
            best = _top(both.copy(), count)
            likeness[asking] = np.take_along_axis(both, best, axis=1)
            cells[asking] = np.take_along_axis(numbers, best, axis=1)
        return cells


def _visited(
    queries: Floats, asked: NDArray[np.intp], inside: Floats, ends: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], int, Floats]]:
    """Yield (rows of queries, first row of the cell in `inside`, their cosines) for each cell that is asked.

    asked: (q, times) numbers of cells.
    """
    by_cell = np.argsort(asked, axis=None, kind="stable")
    bounds = np.searchsorted(asked.reshape(-1)[by_cell], np.arange(len(ends)))
    for cell in np.flatnonzero(np.diff(bounds)).tolist():
        asking = by_cell[bounds[cell] : bounds[cell + 1]] // asked.shape[1]
        yield asking, int(ends[cell]), queries[asking] @ inside[ends[cell] : ends[cell + 1]].T


def _top(scores: Floats, count: int) -> NDArray[np.intp]:
    """Return the places of the `count` highest of each row, (n, count), highest first; overwrites the scores."""
    found = np.empty((len(scores), min(count, scores.shape[1])), np.intp)
    rows = np.arange(len(scores))
    # A few maxima are found several times sooner than argpartition finds them.
    for place in range(found.shape[1]):
        found[:, place] = scores.argmax(axis=1)
        scores[rows, found[:, place]] = -3
    return found


def _means(sample: Floats, count: int) -> Floats:
    """Return the unit centres of at most `count` parts of a sample, by spherical k-means."""
    centres = sample[np.random.default_rng(0).permutation(len(sample))[: max(1, count)]]
    for _ in range(_CELL_ROUNDS):
        part = np.concatenate(
            [
                (sample[at : at + _COLUMNS] @ centres.T).argmax(axis=1)
                for at in range(0, len(sample), _COLUMNS)
            ]
        )
        sums = np.zeros_like(centres)
        np.add.at(sums, part, sample)
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
        for query, way in zip(queries, hypotheses(), strict=True):
            np.matmul(query, targets[way.centre], out=product)
            np.maximum(best, product, out=best)
        own = np.arange(count) + start - left
        inside = (own >= 0) & (own < best.shape[1])
        best[np.flatnonzero(inside), own[inside]] = -1.0
        least = np.full(count, -1.0, np.float32)
        if best.shape[1] > NEIGHBOURS:
            least = np.partition(best, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS]
        rows, columns = np.nonzero((best > LIKELY) & (best >= least[:, None]))
        found.append((rows, columns + left, best[rows, columns]))
    rows, others, scores = (np.concatenate([part[place] for part in found]) for place in range(3))
    order = np.lexsort((others, -scores, rows))
    rows, others = rows[order], others[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return rows[rank < NEIGHBOURS], others[rank < NEIGHBOURS]
