"""Following faces in a live stream, where every frame is analysed on its own and nothing is known of the next."""

from __future__ import annotations

from collections.abc import Sequence

from mien.predict.heads import Head
from mien.predict.results import Face
from mien.video.results import TrackedFace
from mien.video.settings import HALF_LIFE_S, TrackerSettings
from mien.video.smoothing import TrackSmoothing
from mien.video.tracking import BoxTracker


class Tracker:
    """Gives faces numbers that they keep, and smooths their probabilities over time. One tracker a stream.

    head: the head that the faces come from (`analyzer.head`). half_life_s: see Smoother; None: no smoothing.
    Not safe to use from several threads.
    """

    def __init__(
        self,
        head: Head,
        settings: TrackerSettings | None = None,
        *,
        half_life_s: float | None = HALF_LIFE_S,
    ) -> None:
        self._tracker = BoxTracker(settings)
        self._smoothing = TrackSmoothing(head, half_life_s)

    def update(self, time_s: float, faces: Sequence[Face]) -> tuple[TrackedFace, ...]:
        """Take in the faces of one frame and return those that are followed, in the same order.

        time_s: seconds on any clock, growing (`time.monotonic()` will do); otherwise DataError. A face is
        returned from its third look in a row on (`TrackerSettings.birth_looks`); smoothing starts with the first.
        """
        tracks = self._tracker.update(time_s, [face.box for face in faces])
        smoothed = [
            self._smoothing.add(track, time_s, face) for track, face in zip(tracks, faces, strict=True)
        ]
        return tuple(
            TrackedFace(track=track.number, face=smooth, raw=face.probabilities)
            for track, smooth, face in zip(tracks, smoothed, faces, strict=True)
            if track.number is not None
        )
