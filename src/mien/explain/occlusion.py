"""Occluding parts of a face: maps by RISE, and whether a map is true to the network.

RISE covers a random half of the face many times over and sees with which places the probability goes. A map, from
whatever method, holds when masking its top pixels costs more than masking those of random maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Prepared faces (n, size, size, channels), uint8 or float32 levels in [0, 255], to (n, labels) probabilities.
Answers = Callable[[NDArray[np.uint8 | np.float32]], NDArray[np.float32]]
Mask = NDArray[np.bool_]
_BATCH = 64  # occluded faces held at once
# Five cells rather than the paper's seven need fewer masks for a steady map; those of two seeds have a correlation of
# .88. How these maps do beside sliding windows (Zeiler & Fergus 2014, arXiv:1311.2901): docs/how-to/explain.md.
MASKS, CELLS = 500, 5
_MASK_BATCH = 50  # masks held at once
TOP_SHARE = 0.2
RANDOM_MAPS, RANDOM_CURVES = 50, 10
_ENOUGH = 0.95  # share of the random parts that must be beaten, as in a test at 5 %
_LEAST = 0.001  # a drop of the probability below which everything is rounding
_SHARES = np.linspace(0, 1, 11)  # of the pixels, along a deletion or insertion curve
# Points a side between which a random map is smooth: patches about as large as those of a real map.
_GRAIN = 6


def rise(answers: Answers, face: NDArray[np.uint8], target: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return how much of the probability of a label hangs on each place of a face: (size, size) float32.

    Petsiuk, Das & Saenko 2018, arXiv:1806.07421, section 3, with the masks of their section 3.2. They average
    the answers weighted by the masks; this is the slope of the answer on the mask, which has a sign and a unit:
    0.2 says that the probability is 0.2 higher with the place seen than with it covered, whatever else is covered.
    Negative: what is seen there speaks against the label. (For masks with hard edges this is the Banzhaf value of
    a cell.)
    face: (size, size, channels) uint8, prepared for the network. target: place of the label. The same seed gives the
    same map.
    """
    rng = np.random.default_rng(seed)
    shape = face.shape[:2]
    total, squares, weighted = (np.zeros(shape) for _ in range(3))
    told = []
    for _ in range(0, MASKS, _MASK_BATCH):
        seen = soft_masks(_MASK_BATCH, face.shape[0], rng)
        told.append(probability_occluded(answers, face, 1 - seen, target))
        total += seen.sum(axis=0)
        squares += (seen**2).sum(axis=0)
        weighted += np.tensordot(told[-1], seen, axes=1)
    covariance = weighted / MASKS - np.mean(told) * total / MASKS
    variance = squares / MASKS - (total / MASKS) ** 2
    return (covariance / variance).astype(np.float32)


def soft_masks(count: int, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return random masks, (count, size, size): 1 where the face is seen, 0 where it is covered, half of each.

    A grid of cells, each seen or not, is enlarged bilinearly and shifted by up to a cell.
    """
    cell = -(-size // CELLS)
    side = (CELLS + 1) * cell
    masks = np.empty((count, size, size), np.float32)
    for mask in masks:
        coarse = (rng.random((CELLS + 1, CELLS + 1)) < 0.5).astype(np.float32)
        top, left = rng.integers(0, cell, 2)
        wide = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
        mask[:] = wide[top : top + size, left : left + size]
    return masks


def probability_occluded(
    answers: Answers, face: NDArray[np.uint8], hidden: Mask | NDArray[np.float32], target: int
) -> NDArray[np.float64]:
    """Return the probability of one label for a face of which parts are occluded: (n,) float64.

    face: (size, size, channels) uint8, prepared for the network. hidden: (n, size, size), True where the face is
    covered, or the share from 0 to 1 to which it is. target: place of the label. What is covered gets the mean level
    of the whole face: black or white would be a feature of its own, such as an open mouth.
    """
    plain = face.mean(axis=(0, 1), dtype=np.float32)
    change = plain - face
    parts = []
    for start in range(0, len(hidden), _BATCH):
        batch = face + hidden[start : start + _BATCH, :, :, None] * change
        parts.append(answers(batch)[:, target].astype(np.float64))
    return np.concatenate(parts) if parts else np.empty(0)


def top_k_mask(values: NDArray[np.floating], shares: NDArray[np.floating], rng: np.random.Generator) -> Mask:
    """Return the pixels with the highest values of a map, for each share of all: (len(shares), size, size).

    Equal values are ranked at random: otherwise a flat map would have its highest at the upper border.
    """
    order = np.lexsort((rng.random(values.size), -values.ravel()))
    rank = np.empty(values.size, np.int64)
    rank[order] = np.arange(values.size)
    counts = np.round(np.asarray(shares) * values.size)
    return (rank < counts[:, None]).reshape(-1, *values.shape)


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How a map does against random maps, on the face that it is of.

    drop: how much lower the probability is when the top 20 % of its pixels are masked. random_drop: the same
    for 50 smooth random maps, on average. beaten: share of those random maps whose drop is smaller.
    deletion: mean probability while the pixels are masked one after the other, the highest first (lower is
    better). insertion: the same while they are put back into a plain face (higher is better); both after
    Petsiuk et al. 2018, arXiv:1806.07421, section 4. random_curve: mean of ten random maps, for which the two are
    alike.
    """

    drop: float
    random_drop: float
    beaten: float
    deletion: float
    insertion: float
    random_curve: float

    @property
    def holds(self) -> bool:
        """Whether the map does clearly better than chance."""
        return self.drop > _LEAST and self.beaten >= _ENOUGH

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def measure_faithfulness(
    answers: Answers, face: NDArray[np.uint8], values: NDArray[np.float32], target: int, seed: int = 0
) -> Faithfulness:
    """Compare a map with random ones.

    face: (size, size, channels) uint8, prepared for the network. values: (size, size). seed: of the
    random maps and of the order of equal values; the same seed gives the same figures.
    """
    rng = np.random.default_rng(seed)
    deleted = top_k_mask(values, _SHARES, rng)
    random = [top_k_mask(_random_map(values.shape[0], rng), _SHARES, rng) for _ in range(RANDOM_MAPS)]
    top = int(np.flatnonzero(np.isclose(_SHARES, TOP_SHARE))[0])
    asked = [deleted, ~deleted, *random[:RANDOM_CURVES], np.stack([masks[top] for masks in random])]
    told = probability_occluded(answers, face, np.concatenate(asked), target)
    curves = told[:-RANDOM_MAPS].reshape(-1, len(_SHARES))
    falls = curves[0, 0] - told[-RANDOM_MAPS:]
    drop = float(curves[0, 0] - curves[0, top])
    return Faithfulness(
        drop=drop,
        random_drop=float(falls.mean()),
        beaten=float((falls < drop).mean()),
        deletion=_area(curves[0]),
        insertion=_area(curves[1]),
        random_curve=float(np.mean([_area(curve) for curve in curves[2:]])),
    )


def _random_map(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    coarse = rng.random((_GRAIN, _GRAIN))
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def _area(curve: NDArray[np.float64]) -> float:
    """Area under a curve over shares from 0 to 1, by the trapezium rule."""
    return float((curve[0] / 2 + curve[1:-1].sum() + curve[-1] / 2) / (len(curve) - 1))
