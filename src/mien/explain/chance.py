"""Is a map any good? What happens to the answer when its hottest part is covered, against random parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.covering import Answers, hottest, probability_covered

FIFTH = 0.2
RANDOM_MAPS, RANDOM_CURVES = 50, 10
_ENOUGH = 0.95  # share of the random parts that must be beaten, as in a test at 5 %
_LEAST = 0.001  # a fall of the probability below which everything is rounding
_SHARES = np.linspace(0, 1, 11)  # of the pixels, along a deletion or insertion curve
_GRAIN = (
    6  # points a side between which a random map is smooth: patches about as large as those of a real map
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """How a map does against random maps, on the face that it is of.

    fall: how much lower the probability is when the hottest fifth of the pixels is covered. random_fall: the same
    for a random fifth, mean of 50 smooth random maps. beaten: share of those random fifths whose fall is smaller.
    deletion: mean probability while the pixels are covered one after the other, the hottest first (lower is
    better). insertion: the same while they are uncovered from a plain face (higher is better); both after
    Petsiuk et al. 2018, arXiv:1806.07421, section 4. random_curve: mean of ten random maps, for which the two are
    alike.
    """

    fall: float
    random_fall: float
    beaten: float
    deletion: float
    insertion: float
    random_curve: float

    @property
    def holds(self) -> bool:
        """Whether the map does clearly better than chance."""
        return self.fall > _LEAST and self.beaten >= _ENOUGH

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def check_map(
    answers: Answers, face: NDArray[np.uint8], values: NDArray[np.float32], target: int, seed: int = 0
) -> Check:
    """Compare a map with random ones.

    face: (size, size, channels) uint8, prepared for the network. values: (size, size), higher is hotter. seed: of the
    random maps and of the order of equal values; the same seed gives the same figures.
    """
    rng = np.random.default_rng(seed)
    deleted = hottest(values, _SHARES, rng)
    random = [hottest(_random_map(values.shape[0], rng), _SHARES, rng) for _ in range(RANDOM_MAPS)]
    fifth = int(np.flatnonzero(np.isclose(_SHARES, FIFTH))[0])
    asked = [deleted, ~deleted, *random[:RANDOM_CURVES], np.stack([masks[fifth] for masks in random])]
    told = probability_covered(answers, face, np.concatenate(asked), target)
    curves = told[:-RANDOM_MAPS].reshape(-1, len(_SHARES))
    falls = curves[0, 0] - told[-RANDOM_MAPS:]
    fall = float(curves[0, 0] - curves[0, fifth])
    return Check(
        fall=fall,
        random_fall=float(falls.mean()),
        beaten=float((falls < fall).mean()),
        deletion=_area(curves[0]),
        insertion=_area(curves[1][::-1]),
        random_curve=float(np.mean([_area(curve) for curve in curves[2:]])),
    )


def _random_map(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    coarse = rng.random((_GRAIN, _GRAIN))
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def _area(curve: NDArray[np.float64]) -> float:
    """Area under a curve over shares from 0 to 1, by the trapezium rule."""
    return float((curve[0] / 2 + curve[1:-1].sum() + curve[-1] / 2) / (len(curve) - 1))
