"""Which new box belongs to which track: the pairing with the smallest total cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def closeness(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Distance-IoU of every pair: (n, 4) and (m, 4) boxes (x, y, width, height) give (n, m).

    Intersection over union, less the squared distance of the centres over the squared diagonal of the smallest
    box round both (Zheng et al. 2020, arXiv:1911.08287): 1 for the same box, towards -1 for boxes far apart.
    Unlike IoU alone it still tells near from far where boxes do not touch.
    """
    a, b = first[:, None, :], second[None, :, :]
    a_end, b_end = a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]
    inner = np.clip(np.minimum(a_end, b_end) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - inner
    outer = ((np.maximum(a_end, b_end) - np.minimum(a[..., :2], b[..., :2])) ** 2).sum(axis=-1)
    apart = (((a[..., :2] + a_end) / 2 - (b[..., :2] + b_end) / 2) ** 2).sum(axis=-1)
    result: NDArray[np.float64] = inner / union - apart / outer
    return result


def pairs(gain: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Return (row, column) pairs, each row and column at most once, with the largest total gain above `least`.

    gain: (n, m), finite. Pairs with a gain of `least` or below stay apart: leaving both alone is worth as much.
    """
    worth = np.maximum(gain - least, 0.0)
    chosen = _assignment(-worth)
    return [(row, column) for row, column in chosen if worth[row, column] > 0]


def _assignment(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Solve the assignment problem (Kuhn 1955, doi:10.1002/nav.3800020109) by shortest augmenting paths.

    After Jonker & Volgenant 1987 (doi:10.1007/BF02278710): O(n²m) for n rows and m columns. One potential a row
    and a column keep every reduced cost at zero or above; each row joins along the cheapest path to a free column.
    """
    if cost.shape[0] > cost.shape[1]:
        return [(row, column) for column, row in _assignment(cost.T)]
    rows, columns = cost.shape
    row_potential, column_potential = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # row of each column; the last column is where a new row starts
    for row in range(rows):
        owner[columns], column = row, columns
        shortest = np.full(columns, np.inf)
        previous = np.full(columns, -1)
        done = np.zeros(columns + 1, bool)
        while owner[column] >= 0:
            done[column] = True
            here = owner[column]
            reduced = cost[here] - row_potential[here] - column_potential[:columns]
            better = ~done[:columns] & (reduced < shortest)
            shortest[better], previous[better] = reduced[better], column
            following = int(np.where(done[:columns], np.inf, shortest).argmin())
            step = shortest[following]
            row_potential[owner[done]] += step
            column_potential[done] -= step
            shortest[~done[:columns]] -= step
            column = following
        while column != columns:  # hand each column of the path to the row before it
            owner[column] = owner[previous[column]]
            column = int(previous[column])
    return [(int(owner[column]), column) for column in range(columns) if owner[column] >= 0]
