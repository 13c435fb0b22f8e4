"""Looking for faces in some frames of a video, and where they are in the frames between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mien.predict.found_face import Detector, FoundFace
from mien.predict.looks import resized
from mien.video.reading import Frame
from mien.video.tracking import BoxTracker, Track


@dataclass(frozen=True)
class Place:
    """Where the face of a track is in one frame. interpolated: between two looks."""

    track: Track
    found: FoundFace
    interpolated: bool = False


@dataclass(frozen=True)
class Look:
    """frames: one that was searched, and those after it up to the next look. places: the faces in the first."""

    frames: list[Frame]
    places: tuple[Place, ...] = field(default=())

    def places_in(self, frame: Frame, following: Look | None) -> tuple[Place, ...]:
        """Return the places in one of the frames. following: the next look; None after the last one.

        Between two looks a face moves in a straight line. One that only one of them has is left out: nobody knows when
        it came or went.
        """
        begin = self.frames[0]
        if frame is begin:
            return self.places
        if following is None:
            return ()
        share = (frame.time_s - begin.time_s) / (following.frames[0].time_s - begin.time_s)
        ends = {place.track: place.found for place in following.places}
        return tuple(
            Place(place.track, _between(place.found, ends[place.track], share), interpolated=True)
            for place in self.places
            if place.track in ends
        )


def looks(
    frames: Iterable[Frame], every: int, finder: Detector, search_px: int, tracker: BoxTracker
) -> Iterator[Look]:
    """Search every `every`-th frame and the last one, and follow the faces; yields each look when it is complete.

    A track may get its number later than its look is yielded: see TrackerSettings.birth_looks.
    """

    def look(frame: Frame) -> Look:
        found = find(frame.image, finder, search_px)
        tracks = tracker.update(frame.time_s, [face.box for face in found])
        return Look([frame], tuple(map(Place, tracks, found)))

    current: Look | None = None
    for frame in frames:
        if current is not None and len(current.frames) < every:
            current.frames.append(frame)
            continue
        if current is not None:
            yield current
        current = look(frame)
    if current is not None and len(current.frames) > 1:
        last = current.frames.pop()
        yield current
        current = look(last)
    if current is not None:
        yield current


def find(image: NDArray[np.uint8], finder: Detector, search_px: int) -> tuple[FoundFace, ...]:
    """Find faces in a picture shrunk to `search_px` on its longer side; boxes are in pixels of the picture itself."""
    if max(image.shape[:2]) <= search_px:
        return finder.find(image)
    small, scale = resized(image, search_px)
    return tuple(_scaled(face, 1 / scale) for face in finder.find(small))


def _scaled(face: FoundFace, scale: float) -> FoundFace:
    return _made(np.array(face.box) * scale, face.score, _points(face, scale))


def _between(first: FoundFace, second: FoundFace, share: float) -> FoundFace:
    """Return the face `share` of the way from one place to another; as sure as the less sure of both."""
    score = None if first.score is None or second.score is None else min(first.score, second.score)
    begin, end = _points(first), _points(second)
    points = None if begin is None or end is None else (1 - share) * begin + share * end
    return _made((1 - share) * np.array(first.box) + share * np.array(second.box), score, points)


def _points(face: FoundFace, scale: float = 1.0) -> NDArray[np.float64] | None:
    return None if face.landmarks is None else np.array(face.landmarks, np.float64) * scale


def _made(box: NDArray[np.float64], score: float | None, points: NDArray[np.float64] | None) -> FoundFace:
    x, y, width, height = box.tolist()
    if points is None:
        return FoundFace((x, y, width, height), score)
    a, b, c, d, e = ((px, py) for px, py in points.tolist())
    return FoundFace((x, y, width, height), score, (a, b, c, d, e))
