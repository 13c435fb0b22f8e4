"""Is a map true to the network? What masking its top pixels does to the answer, against random ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.rise import Answers, probability_occluded, top_k_mask

TOP_SHARE = 0.2
RANDOM_MAPS, RANDOM_CURVES = 50, 10
_ENOUGH = 0.95  # share of the random parts that must be beaten, as in a test at 5 %
_LEAST = 0.001  # a drop of the probability below which everything is rounding
_SHARES = np.linspace(0, 1, 11)  # of the pixels, along a deletion or insertion curve
_GRAIN = (
    6  # points a side between which a random map is smooth: patches about as large as those of a real map
)


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

    face: (size, size, channels) uint8, prepared for the network. values: (size, size), seed: of the
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
        insertion=_area(curves[1][::-1]),
        random_curve=float(np.mean([_area(curve) for curve in curves[2:]])),
    )


def _random_map(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    coarse = rng.random((_GRAIN, _GRAIN))
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def _area(curve: NDArray[np.float64]) -> float:
    """Area under a curve over shares from 0 to 1, by the trapezium rule."""
    return float((curve[0] / 2 + curve[1:-1].sum() + curve[-1] / 2) / (len(curve) - 1))
