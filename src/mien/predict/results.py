"""What an analysis returns: one `Face` for each face that was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from mien.detect.base import Box, Detection, Point
from mien.errors import DataError

_SUM_TOLERANCE = 1e-4  # far above the rounding of a float32 softmax, far below what anyone would notice


def percent(share: float) -> str:
    """Write 0.934 as `93%`, for people. What is short of certain never reads as certain, nor a trace as nothing."""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face in a picture, and the expression that people would see in it.

    emotion: the label with the highest probability. probability: that probability, calibrated, 0 to 1.
    probabilities: label to probability, in the network's order; they sum to one. head: the answer of the network
    that they come from. uncertain: whether the probability is below the head's threshold, so that the emotion had
    better not be relied on; the probabilities stay what they are. box, score, landmarks: see `Detection`.
    Raises DataError on values that contradict each other.
    """

    emotion: str
    probability: float
    probabilities: Mapping[str, float] = field(hash=False)
    head: str
    box: Box
    score: float | None = None
    landmarks: tuple[Point, Point, Point, Point, Point] | None = None
    uncertain: bool = False

    def __post_init__(self) -> None:
        shares = MappingProxyType(dict(self.probabilities))
        object.__setattr__(self, "probabilities", shares)
        if not all(0 <= share <= 1 for share in shares.values()):
            raise DataError(f"probabilities must be from 0 to 1, got {dict(shares)}")
        if abs(math.fsum(shares.values()) - 1) > _SUM_TOLERANCE:
            raise DataError(
                f"probabilities must sum to one, got {math.fsum(shares.values())} of {dict(shares)}"
            )
        if shares.get(self.emotion) != self.probability or self.probability != max(shares.values()):
            raise DataError(
                f"the emotion must be the likeliest of {dict(shares)}, got {self.emotion!r} at {self.probability}"
            )
        Detection(self.box, self.score, self.landmarks)  # has the checks

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the values: a read-only mapping cannot be pickled."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return partial(Face, **{**values, "probabilities": dict(self.probabilities)}), ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes."""
        return {
            "emotion": self.emotion,
            "probability": self.probability,
            "uncertain": self.uncertain,
            "probabilities": dict(self.probabilities),
            "head": self.head,
            "box": list(self.box),
            "score": self.score,
            "landmarks": None if self.landmarks is None else [list(point) for point in self.landmarks],
        }
