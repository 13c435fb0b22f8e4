"""A video in, frames with tracked faces out: detect in keyframes, track, interpolate, recognise, smooth."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import SEARCHED_PX, Box, Detection, Detector, Landmarks, resized, scaled
from mien.detect.search import whole_upright
from mien.errors import DataError
from mien.files import given_path
from mien.predict.analyzer import Analyzer
from mien.predict.results import Face
from mien.settings import ABOVE_0, FROM_1, check_settings, setting, setting_of
from mien.video.reader import Frame, Video, open_video, prefetch
from mien.video.tracking import (
    HALF_LIFE_S,
    BoxTracker,
    Track,
    TrackedFace,
    TrackerSettings,
    TrackSmoother,
    with_cuts,
)

_KEYFRAMES_PER_S = 15.0  # between two keyframes that are 1/15 s apart, a face hardly leaves the straight line
_TIME_DIGITS = 4  # of seconds in JSON and CSV: a tenth of a millisecond
_PREFETCH, _TOGETHER = 8, 4  # frames decoded in advance; keyframes whose faces go to the network in one call
_BYTES = 1 << 25  # of frames in each of these two places: fewer of them where frames are large
_WAITING_BYTES = 1 << 30  # of frames that wait for the keyframes that say whose faces are in them


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """What can be chosen about the analysis of a video. Raises ConfigError."""

    stride: int | None = setting(
        None,
        "look for faces in every Nth frame and interpolate between, more often where a GB holds no more frames; none: "
        "about 15 times a second",
        within=FROM_1,
    )
    detect_size: int = setting(
        640, "longer side in pixels to which a frame is shrunk for finding faces", within=SEARCHED_PX
    )
    smoothing: bool = setting(
        True,
        "average each face's probabilities over time, and keep its expression until another is well ahead",
    )
    half_life_s: float = setting(
        HALF_LIFE_S, "seconds after which a frame counts half in that average", within=ABOVE_0
    )
    min_hits: int = setting_of(TrackerSettings, "min_hits")
    max_age_s: float = setting_of(TrackerSettings, "max_age_s")

    def __post_init__(self) -> None:
        check_settings(self)

    def tracker(self) -> TrackerSettings:
        return TrackerSettings(min_hits=self.min_hits, max_age_s=self.max_age_s)

    def stride_at(self, fps: float, size_px: tuple[int, int]) -> int:
        """Return how many frames of that size lie from one keyframe to the next."""
        asked = self.stride or max(1, round(fps / _KEYFRAMES_PER_S))
        waiting = 3 * max(1, size_px[0] * size_px[1]) * (_undecided(self) + 2)
        return max(1, min(asked, _WAITING_BYTES // waiting))


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


def analyze_video(
    path: str | Path, analyzer: Analyzer, settings: VideoSettings | None = None
) -> Generator[VideoFrame]:
    """Yield every frame of a video file with its faces, in order.

    Raises ImageError, before the first frame, for what is no video. A file that ends too early gives what it has; to
    be told, use `open_video` and `analyze_frames`, and read `Video.problem` afterwards.
    """
    with open_video(given_path(path)) as video:
        yield from analyze_frames(video, analyzer, settings)


def analyze_frames(
    video: Video, analyzer: Analyzer, settings: VideoSettings | None = None
) -> Generator[VideoFrame]:
    """Like analyze_video, for a video that is open. A thread decodes ahead; memory does not grow with the length."""
    settings = settings or VideoSettings()
    stride = settings.stride_at(video.fps, video.size_px)
    frame_bytes = max(1, 3 * video.size_px[0] * video.size_px[1])
    together = max(1, min(_TOGETHER, _BYTES // (frame_bytes * stride)))
    smoothed = Smoothed(analyzer, settings)
    frames = prefetch(video.frames(), max(2, min(_PREFETCH, _BYTES // frame_bytes)))

    def find(frame: Frame) -> tuple[Detection, ...]:
        return detect_in_frame(frame.image, analyzer, settings.detect_size)

    try:
        for row in decided(keyframes(with_cuts(frames), stride, find, settings), settings, together):
            found = scenes(row)
            images = [frame.image for frame, _ in found]
            named = analyzer.classify_faces(images, [[box.found for box in boxes] for _, boxes in found])
            for (frame, boxes), faces in zip(found, named, strict=True):
                yield smoothed.frame(frame, boxes, faces)
    finally:
        frames.close()


@dataclass(frozen=True)
class TrackedBox:
    """Where the face of a track is in one frame. interpolated: between two keyframes."""

    track: Track
    found: Detection
    interpolated: bool = False


@dataclass(frozen=True)
class Keyframe:
    """A frame in which faces were detected. frames: it, and those after it up to the next one. boxes: its faces."""

    frames: list[Frame]
    boxes: tuple[TrackedBox, ...] = ()

    def boxes_in(self, frame: Frame, following: Keyframe | None) -> tuple[TrackedBox, ...]:
        """Return the boxes in one of the frames. following: the next keyframe; None after the last one.

        Between two keyframes a face moves in a straight line. One that only one of them has is left out: nobody knows
        when it came or went.
        """
        begin = self.frames[0]
        if frame is begin:
            return self.boxes
        if following is None:
            return ()
        share = (frame.time_s - begin.time_s) / (following.frames[0].time_s - begin.time_s)
        ends = {box.track: box.found for box in following.boxes}
        return tuple(
            TrackedBox(box.track, _between(box.found, ends[box.track], share), interpolated=True)
            for box in self.boxes
            if box.track in ends
        )


def keyframes(
    frames: Iterable[tuple[Frame, bool]],
    stride: int,
    find: Callable[[Frame], Sequence[Detection]],
    settings: VideoSettings,
) -> Iterator[Keyframe]:
    """Find faces in every `stride`-th frame and in the first and last one of each shot, and track them within it.

    frames: each with whether it begins a new shot. find: returns the faces in a frame. Yields each keyframe when it is
    complete. A track may get its number later: see TrackerSettings.min_hits.
    """
    tracker = BoxTracker(settings.tracker())

    def keyframe(frame: Frame) -> Keyframe:
        found = find(frame)
        tracks = tracker.update(frame.time_s, [face.box for face in found])
        return Keyframe([frame], tuple(map(TrackedBox, tracks, found)))

    def complete(last: Keyframe) -> Iterator[Keyframe]:
        """End a shot: its last frame is a keyframe as well."""
        if len(last.frames) > 1:
            frame = last.frames.pop()
            yield last
            last = keyframe(frame)
        tracker.end_shot()
        yield last

    current: Keyframe | None = None
    for frame, cut in frames:
        if current is not None and cut:
            yield from complete(current)
        elif current is not None and frame.index % stride:
            current.frames.append(frame)
            continue
        elif current is not None:
            yield current
        current = keyframe(frame)
    if current is not None:
        yield from complete(current)


def detect_in_frame(image: NDArray[np.uint8], analyzer: Analyzer, detect_size: int) -> tuple[Detection, ...]:
    """Detect faces in a frame; those that `Analyzer.search` leaves out by size or score are no faces here either."""
    found = detect_resized(image, analyzer.detector, detect_size)
    return tuple(face for face in found if analyzer.search.kept(face))


def detect_resized(image: NDArray[np.uint8], detector: Detector, detect_size: int) -> tuple[Detection, ...]:
    """Detect faces in a picture shrunk to `detect_size` on its longer side; boxes are in pixels of the picture."""
    small, scale = resized(image, detect_size) if max(image.shape[:2]) > detect_size else (image, 1.0)
    found = (scaled(face, 1 / scale) for face in detector.detect(small))
    return tuple(whole_upright(image, face) if face.whole else face for face in found)


def decided(
    found: Iterable[Keyframe], settings: VideoSettings, together: int
) -> Iterator[Sequence[Keyframe | None]]:
    """Yield rows of `together` keyframes with the one that follows (None: there is none), once it is known whose faces
    are confirmed. Later keyframes say so, and where faces are until then: so many a keyframe waits for.
    """
    waiting: list[Keyframe] = []
    for keyframe in found:
        waiting.append(keyframe)
        if len(waiting) == _undecided(settings) + together:
            yield waiting[: together + 1]
            del waiting[:together]
    for start in range(0, len(waiting), together):
        yield [*waiting, None][start : start + together + 1]


def _undecided(settings: VideoSettings) -> int:
    """Return how many keyframes wait until it is known whose faces are confirmed."""
    return max(1, settings.min_hits - 1)


def scenes(row: Sequence[Keyframe | None]) -> list[tuple[Frame, tuple[TrackedBox, ...]]]:
    """Return the frames of all keyframes but the last of a row, each with its confirmed faces, the largest first."""
    return [
        (frame, _largest_first(keyframe.boxes_in(frame, following)))
        for keyframe, following in pairwise(row)
        if keyframe is not None
        for frame in keyframe.frames
    ]


class Smoothed:
    """Averages the expressions of each face over time. Frames must come in order, each once."""

    def __init__(self, analyzer: Analyzer, settings: VideoSettings) -> None:
        self._smoother = TrackSmoother(analyzer.head, settings.half_life_s if settings.smoothing else None)

    def frame(self, frame: Frame, boxes: Sequence[TrackedBox], faces: Sequence[Face]) -> VideoFrame:
        """Return what becomes of a frame. faces: what the network says of each box in it."""
        return VideoFrame(
            index=frame.index,
            time_s=frame.time_s,
            faces=tuple(self._tracked(frame, box, face) for box, face in zip(boxes, faces, strict=True)),
            image=frame.image,
        )

    def _tracked(self, frame: Frame, box: TrackedBox, face: Face) -> TrackedFace:
        assert box.track.number is not None  # the others were left out
        return TrackedFace(
            track=box.track.number,
            face=self._smoother.add(box.track, frame.time_s, face),
            raw=face.probabilities,
            interpolated=box.interpolated,
        )


def _largest_first(boxes: Sequence[TrackedBox]) -> tuple[TrackedBox, ...]:
    confirmed = (box for box in boxes if box.track.number is not None)
    return tuple(sorted(confirmed, key=lambda box: -box.found.area))


def _between(first: Detection, second: Detection, share: float) -> Detection:
    """Return the face `share` of the way from one box to another; as sure as the less sure of both."""

    def mean(begin: Sequence[Any], end: Sequence[Any]) -> NDArray[np.float64]:
        return (1 - share) * np.asarray(begin, float) + share * np.asarray(end, float)

    score = None if first.score is None or second.score is None else min(first.score, second.score)
    points = first.landmarks and second.landmarks and Landmarks.of(mean(first.landmarks, second.landmarks))
    return replace(first, box=Box(*mean(first.box, second.box).tolist()), score=score, landmarks=points)
