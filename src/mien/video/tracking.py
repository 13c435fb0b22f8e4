"""Which face is which from one look to the next. Knows boxes and times alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mien.errors import DataError
from mien.predict.found_face import Box
from mien.video.matching import closeness, pairs
from mien.video.motion import Motion
from mien.video.settings import TrackerSettings

# Distance-IoU that a box needs with where its track is expected; 0 allows a step of three quarters of a face.
_LEAST = 0.0


class Track:
    """One face over time. number: from 1, in the order in which faces were confirmed; None until then."""

    def __init__(self, box: Box, time_s: float) -> None:
        self.number: int | None = None
        self.looks = 1
        self.seen_s = time_s
        self._motion = Motion(box, time_s)

    def expected(self, time_s: float) -> Box:
        return self._motion.box(time_s)

    def see(self, box: Box, time_s: float) -> None:
        self._motion.see(box, time_s)
        self.looks += 1
        self.seen_s = time_s


class BoxTracker:
    """Follows boxes by where they are, as SORT does (Bewley et al. 2016, arXiv:1602.00763).

    Each track predicts its box; the pairing with the largest total Distance-IoU wins; a box without a track starts
    one, a track without a box waits. Looks alone never decide, so two people who change places unseen swap
    numbers. Not safe to use from several threads: one tracker follows one stream.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._tracks: list[Track] = []
        self._confirmed = 0
        self._time_s = -math.inf

    def update(self, time_s: float, boxes: Sequence[Box]) -> tuple[Track, ...]:
        """Return the track of each box, in the order of the boxes.

        time_s: seconds on any clock; DataError if it is not after the one before.
        """
        if not time_s > self._time_s:
            raise DataError(f"times must grow: got {time_s} s after {self._time_s} s")
        self._time_s = time_s
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self.settings.gap_s]
        answer: list[Track | None] = [None] * len(boxes)
        for place, track in self._matches(time_s, boxes):
            track.see(boxes[place], time_s)
            answer[place] = track
        # A face that is not confirmed yet must be found in every look.
        self._tracks = [track for track in self._tracks if track.number or track.seen_s == time_s]
        tracks = [track or self._new(box, time_s) for track, box in zip(answer, boxes, strict=True)]
        for track in tracks:
            if track.number is None and track.looks >= self.settings.birth_looks:
                self._confirm(track)
        return tuple(tracks)

    def settle(self) -> None:
        """Confirm the faces that no look has spoken against: for the end of a video."""
        for track in self._tracks:
            if track.number is None:
                self._confirm(track)

    def _matches(self, time_s: float, boxes: Sequence[Box]) -> list[tuple[int, Track]]:
        if not boxes or not self._tracks:
            return []
        expected = np.array([track.expected(time_s) for track in self._tracks])
        gain = closeness(np.array(boxes, np.float64), expected)
        return [(place, self._tracks[row]) for place, row in pairs(gain, _LEAST)]

    def _new(self, box: Box, time_s: float) -> Track:
        track = Track(box, time_s)
        self._tracks.append(track)
        return track

    def _confirm(self, track: Track) -> None:
        self._confirmed += 1
        track.number = self._confirmed
