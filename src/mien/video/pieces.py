"""A video cut into pieces that many processes look at, with the answers of one process, by construction.

What costs time depends on single frames: decoding, finding faces, naming expressions. What depends on all that came
before (times, cuts, tracking, smoothing) costs little. So:

    outline(path)              where the file can be cut
    look(path, …, piece)       of each piece by itself: times, possible cuts, faces in keyframes
    wanted(outline, looks, …)  all pieces in order: which faces are to be named in which frames
    name(path, …, piece)       of each piece by itself: what the network says of those
    answers(outline, …)        all pieces in order: the frames of `analyze_frames`, without their images

The pieces overlap by three frames, which both sides must have decoded alike; `NotAlike` where they have not, and where
something is missing: then the video is one piece. What goes from step to step is plain lists and numbers, for JSON.
`stream` is as for `open_video`.
"""

from __future__ import annotations

import bisect
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection
from mien.errors import MienError
from mien.predict.analyzer import Analyzer
from mien.predict.results import COVERED
from mien.video.analyze import (
    Smoothed,
    TrackedBox,
    VideoFrame,
    VideoSettings,
    decided,
    detect_in_frame,
    keyframes,
    scenes,
)
from mien.video.reader import Clock, Frame, Video, missing, open_video, opened
from mien.video.tracking import decided_cuts, possible_cuts

PIECE_S = 20.0  # the shortest: each costs a start at a keyframe of the file and three frames twice
_BACK_S = (0.0, 5.0, 30.0, math.inf)  # how far before a piece is looked for its beginning
_OVERLAP = 3  # frames: whether one begins a shot, the two before it and the next one decide
_BYTES = 1 << 25  # of frames whose faces go to the network in one call
_NO_IMAGE = np.empty((0, 0, 3), np.uint8)
Plain = Mapping[str, Any]  # what JSON takes


class NotAlike(MienError):
    """The pieces do not fit: the file decodes otherwise from a place in the middle than from its beginning."""


@dataclass(frozen=True)
class Outline:
    """What a file says of itself. begins_s, firsts: time by the file, and number, of the first frame of each piece."""

    fps: float
    size_px: tuple[int, int]
    length_s: float | None
    begins_s: tuple[float, ...]
    firsts: tuple[int, ...]

    def whole(self) -> Outline:
        """Return the same in one piece."""
        return Outline(self.fps, self.size_px, self.length_s, self.begins_s[:1], self.firsts[:1])

    def end_s(self, piece: int) -> float:
        """Return where the next piece begins, by the file's time; infinity after the last one."""
        return self.begins_s[piece + 1] if piece + 1 < len(self.begins_s) else math.inf


def outline(path: Path, piece_s: float = PIECE_S, stream: IO[bytes] | None = None) -> Outline:
    """Read where a decoder can begin in a file, without decoding it; ImageError for what is no video.

    piece_s: the shortest piece in seconds. A file whose times do not grow, or that has none, is one piece.
    """
    with open_video(path, stream) as video:
        about = (video.fps, video.size_px, video.length_s)
    stamps: list[float] = []
    entries: list[tuple[float, float]] = []  # of keyframes of the file: time, and the latest one before
    latest = -math.inf
    with opened(path, stream, packets=True) as packets:
        while packets.isOpened() and packets.grab():
            stamp_s = packets.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                entries.append((stamp_s, latest))
            stamps.append(stamp_s)
            latest = max(latest, stamp_s)
    begins, firsts = [min(stamps, default=0.0)], [0]
    if len(set(stamps)) == len(stamps):
        stamps.sort()
        for stamp_s, before_s in entries:
            first = bisect.bisect_left(stamps, stamp_s)
            if before_s < stamp_s >= begins[-1] + piece_s and first > firsts[-1] + _OVERLAP:
                begins.append(stamp_s)
                firsts.append(first)
    return Outline(*about, tuple(begins), tuple(firsts))


def look(
    path: Path,
    plan: Outline,
    piece: int,
    analyzer: Analyzer,
    settings: VideoSettings,
    *,
    stream: IO[bytes] | None = None,
) -> Plain:
    """Decode one piece; return the times of its frames, where cuts may be, and the faces in possible keyframes.

    frames: [time by the file, possible cut] of each. seam, after: a checksum of each of the first three, and
    [time, possible cut, checksum] of each of the three that follow. faces: by number within the piece.
    """
    stride, first, end_s = settings.stride_at(plan.fps, plan.size_px), plan.firsts[piece], plan.end_s(piece)
    stamps: list[float] = []
    sums: dict[int, int] = {}
    faces: dict[int, list[Any]] = {}
    begin_s = 0.0

    def read(video: Video) -> Iterator[Frame]:
        nonlocal begin_s
        for place, stamp_s in enumerate(_stamps(video, plan, piece)):
            if (image := video.image()) is None:
                return
            if not place:
                begin_s = video.begin_s()
            stamps.append(stamp_s)
            if stamp_s >= end_s or place < _OVERLAP:
                sums[place] = zlib.crc32(image.data)
            yield Frame(first + place, stamp_s, image)
            if stamp_s >= end_s and stamps[-_OVERLAP] >= end_s:
                return

    def find(frame: Frame) -> None:
        if frame.index - first not in faces:
            found = detect_in_frame(frame.image, analyzer, settings.detect_size)
            faces[frame.index - first] = [face.to_json() for face in found]

    cuts: list[int] = []
    with open_video(path, stream) as video:
        before: Frame | None = None
        for frame, cut in possible_cuts(read(video)):
            cuts.append(cut)
            if cut and before is not None:
                find(before)
                find(frame)
            elif frame.index % stride == 0 and frame.time_s < end_s:
                find(frame)
            before = frame
        if before is not None:  # the last frame of the video is a keyframe
            find(before)
    inside = sum(stamp_s < end_s for stamp_s in stamps)
    if math.isfinite(end_s) and inside != plan.firsts[piece + 1] - first:
        raise NotAlike(f"{path} has frames that cannot be decoded")
    rows = [[stamp_s, cut] for stamp_s, cut in zip(stamps, cuts, strict=True)]
    return {
        "frames": rows[:inside],
        "seam": [sums[place] for place in range(min(_OVERLAP, inside))],
        "after": [[*rows[place], sums[place]] for place in range(inside, len(rows))],
        "faces": {str(place): found for place, found in faces.items()},
        "begin_s": begin_s,
    }


def wanted(plan: Outline, looks: Sequence[Plain], settings: VideoSettings) -> list[list[Any]]:
    """Return for each piece [number within it, faces] of the frames in which somebody is followed; NotAlike."""
    found: list[list[Any]] = [[] for _ in looks]
    for frame, boxes in _followed(plan, looks, settings, Clock(1 / plan.fps)):
        if boxes:
            piece = bisect.bisect_right(plan.firsts, frame.index) - 1
            faces = [box.found.to_json() for box in boxes]
            found[piece].append([frame.index - plan.firsts[piece], faces])
    return found


def name(
    path: Path,
    plan: Outline,
    piece: int,
    faces: Sequence[Sequence[Any]],
    analyzer: Analyzer,
    *,
    stream: IO[bytes] | None = None,
) -> list[list[list[float]]]:
    """Return what the network says of each face of each frame that `wanted` names in one piece; NotAlike.

    Of each its probabilities, and behind them 1 where something seems to cover it, else 0.
    """
    answer: list[list[list[float]]] = []
    waiting = [(place, [Detection.from_json(one) for one in found]) for place, found in faces]
    together = max(1, min(16, _BYTES // max(1, 3 * plan.size_px[0] * plan.size_px[1])))
    with open_video(path, stream) as video:
        images = _images(video, plan, piece, [place for place, _ in waiting]) if waiting else iter(())
        pairs = zip(waiting, images, strict=False)
        while some := list(islice(pairs, together)):
            named = analyzer.classify_faces([image for _, image in some], [boxes for (_, boxes), _ in some])
            answer += [
                [[*face.probabilities.values(), float(COVERED in face.reasons)] for face in found]
                for found in named
            ]
    if len(answer) != len(waiting):
        raise NotAlike(f"{path} has other frames than before; was it changed meanwhile?")
    return answer


def answers(
    plan: Outline,
    looks: Sequence[Plain],
    shares: Iterator[Sequence[Sequence[float]]],
    analyzer: Analyzer,
    settings: VideoSettings,
) -> Iterator[VideoFrame]:
    """Yield the frames that `analyze_frames` yields, without images. shares: the lists of `name`, of all pieces."""
    smoothed = Smoothed(analyzer, settings)
    for frame, boxes in _followed(plan, looks, settings, Clock(1 / plan.fps)):
        rows = next(shares) if boxes else ()
        faces = [
            analyzer.face(box.found, probabilities, cover)
            for box, (*probabilities, cover) in zip(boxes, rows, strict=True)
        ]
        yield smoothed.frame(frame, boxes, faces)


def problem(path: Path, plan: Outline, looks: Sequence[Plain]) -> str:
    """Return what `Video.problem` would say; ImageError where there is no frame."""
    clock = Clock(1 / plan.fps)
    for one in looks:
        for stamp_s, _ in one["frames"]:
            clock.read(stamp_s)
    return missing(path, plan.fps, plan.length_s, clock, looks[0]["begin_s"])


def _followed(
    plan: Outline, looks: Sequence[Plain], settings: VideoSettings, clock: Clock
) -> Iterator[tuple[Frame, tuple[TrackedBox, ...]]]:
    """Yield every frame of the video in order, with the faces that are followed in it."""
    faces: dict[int, list[Any]] = {}

    def frames() -> Iterator[tuple[Frame, int]]:
        after: list[list[Any]] = []
        for place, one in enumerate(looks):
            first = plan.firsts[place]
            rows = one["frames"]
            seam = [[stamp_s, crc] for (stamp_s, _), crc in zip(rows, one["seam"], strict=False)]
            if place and ([[stamp_s, crc] for stamp_s, _, crc in after] != seam or clock.frames != first):
                raise NotAlike("the pieces of the video overlap, and are not alike there")
            faces.update((first + int(number), found) for number, found in one["faces"].items())
            for number, (stamp_s, cut) in enumerate(rows):
                # Of the first two frames of a piece, the one before it knows what is before them.
                decided_before = place and number < 2
                index = clock.frames
                frame = Frame(index, clock.read(stamp_s), _NO_IMAGE)
                yield frame, after[number][1] if decided_before else cut
            after = one["after"]

    def find(frame: Frame) -> list[Detection]:
        if (found := faces.pop(frame.index, None)) is None:
            raise NotAlike("in a keyframe of the video nobody has looked for faces")
        return [Detection.from_json(one) for one in found]

    stride = settings.stride_at(plan.fps, plan.size_px)
    for row in decided(keyframes(decided_cuts(frames()), stride, find, settings), settings, 1):
        yield from scenes(row)


def _stamps(video: Video, plan: Outline, piece: int) -> Iterator[float]:
    """Go through the frames from the first of a piece on, and yield the time that the file gives each."""
    if not piece:
        yield from video.stamps()
        return
    begin_s = plan.begins_s[piece]
    # OpenCV counts frames to find a time, and goes too far where they last differently long: then from further back.
    for back_s in _BACK_S:
        stamps = video.stamps(max(begin_s - back_s, plan.begins_s[0]))
        # What comes first may be shown before.
        found = next((stamp_s for stamp_s in stamps if stamp_s >= begin_s), None)
        if found == begin_s:
            yield begin_s
            yield from stamps
            return
    raise NotAlike(f"{video.path} cannot be read from {begin_s:.1f} s on")


def _images(video: Video, plan: Outline, piece: int, places: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a piece that have these numbers within it, which grow."""
    waiting = iter(places)
    next_place = next(waiting, None)
    for place, _ in enumerate(_stamps(video, plan, piece)):
        if place == next_place:
            if (image := video.image()) is None:
                return
            yield image
            if (next_place := next(waiting, None)) is None:
                return
