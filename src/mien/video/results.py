"""What the analysis of a video returns: frames with their faces, each face with the number that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.predict.results import Face, Probabilities, rounded

_TIME_DIGITS = 4  # of seconds in JSON and CSV: a tenth of a millisecond


@dataclass(frozen=True, kw_only=True, repr=False)
class TrackedFace:
    """A face at one time of a video.

    track: its number, from 1, the same as long as the face is followed. face: the expression, smoothed over time
    unless that is switched off. raw: label to probability as the network gave it for this frame alone, in the same
    order. interpolated: whether the box lies between two keyframes. Raises DataError.
    """

    track: int
    face: Face
    raw: Mapping[str, float] = field(hash=False)
    interpolated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", Probabilities(self.raw))
        if self.track < 1:
            raise DataError(f"the number of a track must be from 1, got {self.track}")
        if list(self.raw) != list(self.face.probabilities):
            raise DataError(f"raw must have the labels {list(self.face.probabilities)}, got {list(self.raw)}")

    def __repr__(self) -> str:
        return f"TrackedFace({self.track}, {self.face!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes; numbers are rounded as those of a `Face`."""
        return {
            "track": self.track,
            **self.face.to_dict(),
            "raw_probabilities": rounded(self.raw),
            "interpolated": self.interpolated,
        }


@dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """One frame of a video and its faces.

    index: from 0. time_s: when the frame is shown, seconds after the first one, by the timestamps of the file.
    faces: the largest first. image: (height, width, 3) uint8, RGB, upright. Raises DataError.
    """

    index: int
    time_s: float
    faces: tuple[TrackedFace, ...]
    image: NDArray[np.uint8] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.index < 0 or not self.time_s >= 0:
            raise DataError(f"index and time must be 0 or more, got {self.index} and {self.time_s} s")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes; the image is left out."""
        return {
            "frame": self.index,
            "time_s": round(self.time_s, _TIME_DIGITS),
            "faces": [face.to_dict() for face in self.faces],
        }
