"""How a video is analysed: the one home of its settings. Imports nothing heavy, because the command line reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mien.errors import ConfigError
from mien.settings import setting

HALF_LIFE_S = 0.25
_LOOKS_PER_S = 15.0  # between two looks that are 1/15 s apart, a face hardly leaves the straight line
_SMALLEST_PX = 64


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """When a face counts as one, and when it is gone.

    birth_looks: in how many looks in a row a face must be found; fewer are taken for a false alarm. gap_s: seconds
    for which a face may be out of sight and still be the same one. Raises ConfigError.
    """

    birth_looks: int = 3
    gap_s: float = 1.0

    def __post_init__(self) -> None:
        if self.birth_looks < 1:
            raise ConfigError(f"birth_looks must be 1 or more, got {self.birth_looks}")
        if not (math.isfinite(self.gap_s) and self.gap_s >= 0):
            raise ConfigError(f"gap_s must be 0 seconds or more, got {self.gap_s}")


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """What can be chosen about the analysis of a video. Raises ConfigError."""

    every: int | None = setting(
        None, "look for faces in every Nth frame and interpolate between them; none: about 15 times a second"
    )
    search_px: int = setting(640, "longer side in pixels to which a frame is shrunk for finding faces")
    smoothing: bool = setting(True, "average each face's probabilities over time")
    half_life_s: float = setting(HALF_LIFE_S, "seconds after which a frame counts half in that average")
    birth_looks: int = setting(
        TrackerSettings.birth_looks, "looks in a row in which a face must be found; fewer are false alarms"
    )
    gap_s: float = setting(
        TrackerSettings.gap_s, "seconds out of sight after which a face counts as a new one"
    )

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ConfigError(f"every must be 1 frame or more, got {self.every}")
        if self.search_px < _SMALLEST_PX:
            raise ConfigError(f"search_px must be {_SMALLEST_PX} pixels or more, got {self.search_px}")
        if not (math.isfinite(self.half_life_s) and self.half_life_s > 0):
            raise ConfigError(
                f"half_life_s must be above 0 seconds, got {self.half_life_s}; --no-smoothing switches it off"
            )
        self.tracker()  # has the other checks

    def tracker(self) -> TrackerSettings:
        return TrackerSettings(birth_looks=self.birth_looks, gap_s=self.gap_s)

    def frames_a_look(self, fps: float) -> int:
        """Return how many frames lie from one look to the next."""
        return self.every or max(1, round(fps / _LOOKS_PER_S))
