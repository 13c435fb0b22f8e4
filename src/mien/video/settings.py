"""How a video is analysed: the one home of its settings. Imports nothing heavy, because the command line reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mien.errors import ConfigError
from mien.settings import setting

HALF_LIFE_S = (
    0.1  # the shortest without false changes in benchmarks/smoothing.py; docs/explanation/video.md has them
)
_KEYFRAMES_PER_S = 15.0  # between two keyframes that are 1/15 s apart, a face hardly leaves the straight line
_SMALLEST_PX = 64


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """When a face counts as one, and when it is gone.

    min_hits: in how many keyframes in a row a face must be found; fewer are taken for a false alarm. max_age_s: seconds
    for which a face may be out of sight and still be the same one. Raises ConfigError.
    """

    min_hits: int = 3
    max_age_s: float = 1.0

    def __post_init__(self) -> None:
        if self.min_hits < 1:
            raise ConfigError(f"min_hits must be 1 or more, got {self.min_hits}")
        if not (math.isfinite(self.max_age_s) and self.max_age_s >= 0):
            raise ConfigError(f"max_age_s must be 0 seconds or more, got {self.max_age_s}")


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """What can be chosen about the analysis of a video. Raises ConfigError."""

    stride: int | None = setting(
        None, "look for faces in every Nth frame and interpolate between; none: about 15 times a second"
    )
    detect_size: int = setting(640, "longer side in pixels to which a frame is shrunk for finding faces")
    smoothing: bool = setting(True, "average each face's probabilities over time")
    half_life_s: float = setting(HALF_LIFE_S, "seconds after which a frame counts half in that average")
    min_hits: int = setting(
        TrackerSettings.min_hits, "detections in a row in which a face must be found; fewer are false alarms"
    )
    max_age_s: float = setting(
        TrackerSettings.max_age_s, "seconds out of sight after which a face counts as a new one"
    )

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride must be 1 frame or more, got {self.stride}")
        if self.detect_size < _SMALLEST_PX:
            raise ConfigError(f"detect_size must be {_SMALLEST_PX} pixels or more, got {self.detect_size}")
        if not (math.isfinite(self.half_life_s) and self.half_life_s > 0):
            raise ConfigError(
                f"half_life_s must be above 0 seconds, got {self.half_life_s}; --no-smoothing switches it off"
            )
        self.tracker()  # has the other checks

    def tracker(self) -> TrackerSettings:
        return TrackerSettings(min_hits=self.min_hits, max_age_s=self.max_age_s)

    def stride_at(self, fps: float) -> int:
        """Return how many frames lie from one keyframe to the next."""
        return self.stride or max(1, round(fps / _KEYFRAMES_PER_S))
