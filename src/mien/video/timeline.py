"""The timeline: each face with its probabilities over time and small pictures of it, in bounded memory, and drawn."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import crop
from mien.images.canvas import (
    INK,
    RAIL,
    SOFT,
    WHITE,
    Colour,
    Picture,
    draw_text,
    fill,
    ink_on,
    label_colours,
    outline,
    paper,
    text_width,
    track_colour,
)
from mien.predict.results import Face
from mien.video.analyze import VideoFrame

THUMBNAIL_PX = 112
_MARGIN = 1.25  # of the box: hair and chin help people to know a face again
_THUMBNAILS = 48  # of one face: of more every second one goes, and the next ones come half as often
_FIRST_STEP_S = 0.25


class FaceHistory:
    """One track. times_s: (n,) float64. shares: (n, labels) float32. thumbnails: (time, picture), in order."""

    def __init__(self, number: int, labels: int) -> None:
        self.number = number
        self.thumbnails: list[tuple[float, Picture]] = []
        self._labels = labels
        self._times, self._shares = array("d"), array("f")
        self._named = np.zeros(labels)
        self._step_s = _FIRST_STEP_S

    @property
    def times_s(self) -> NDArray[np.float64]:
        return np.array(self._times, np.float64)

    @property
    def shares(self) -> NDArray[np.float32]:
        return np.array(self._shares, np.float32).reshape(-1, self._labels)

    @property
    def frames(self) -> int:
        return len(self._times)

    def named(self) -> NDArray[np.float64]:
        """Return for each label the share of this face's frames that are named so: (labels,)."""
        return self._named / max(1, self.frames)

    def add(self, time_s: float, face: Face, image: Picture) -> None:
        self._times.append(time_s)
        self._shares.extend(face.probabilities.values())
        self._named[list(face.probabilities).index(face.emotion)] += 1
        if not self.thumbnails or time_s - self.thumbnails[-1][0] >= self._step_s:
            side = (THUMBNAIL_PX, THUMBNAIL_PX)
            small = cv2.resize(crop(image, face.box, _MARGIN), side, interpolation=cv2.INTER_AREA)
            self.thumbnails.append((time_s, np.asarray(small, np.uint8)))
        if len(self.thumbnails) > _THUMBNAILS:
            del self.thumbnails[1::2]
            self._step_s *= 2

    def seen_px(
        self, edges_s: NDArray[np.float64], step_s: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the mean probabilities in each stretch of time, and whether the face was seen in it.

        edges_s: (n + 1,) growing. step_s: from frame to frame. Returns (n, labels) and (n,). A frame lasts until the
        face's next one, so that short videos have no holes; where that is more than three frames away, `step_s`.
        """
        times, shares = self.times_s, self.shares
        sums = np.vstack([np.zeros((1, self._labels)), np.cumsum(shares, axis=0, dtype=np.float64)])
        first, end = np.searchsorted(times, edges_s[:-1]), np.searchsorted(times, edges_s[1:])
        count = end - first
        means = (sums[end] - sums[first]) / np.maximum(count, 1)[:, None]
        before = np.maximum(first - 1, 0)
        gaps = np.append(np.diff(times), np.inf)
        lasts = np.where(gaps <= _HOLD_FRAMES * step_s, gaps, step_s)
        held = (count == 0) & (first > 0) & (edges_s[:-1] - times[before] < lasts[before])
        means[held] = shares[before[held]]
        return means.astype(np.float32), (count > 0) | held


class Timeline:
    """Collects the faces of a video. labels: of the network's answer, in order. Keeps 40 bytes a face and frame."""

    def __init__(self, labels: Sequence[str], fps: float) -> None:
        self.labels = tuple(labels)
        self.step_s = 1 / fps
        self.length_s = self.step_s
        self._faces: dict[int, FaceHistory] = {}

    def add(self, frame: VideoFrame) -> None:
        self.length_s = frame.time_s + self.step_s
        for tracked in frame.faces:
            history = self._faces.setdefault(tracked.track, FaceHistory(tracked.track, len(self.labels)))
            history.add(frame.time_s, tracked.face, frame.image)

    def faces(self) -> list[FaceHistory]:
        """Return the tracks in the order of their numbers."""
        return [self._faces[number] for number in sorted(self._faces)]


_WIDTH_PX, _LEFT_PX, _RIGHT_PX = 1600, 190, 30
_TOP_PX, _AXIS_PX, _STRIP_PX, _BAND_PX, _GAP_PX = 110, 56, 64, 96, 26
_MOST_FACES = 12  # those that are seen longest; a crowd would make a picture that nobody reads
_TITLE_PX, _TEXT_PX, _SMALL_PX = 24, 17, 14  # type
_NAMED_PX = 26  # room left and right of a name that is written into a band
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 12
_HOLD_FRAMES = 3.0  # a face between two keyframes or two slow frames is not gone


def draw_timeline(timeline: Timeline, title: str) -> Picture:
    """Return (height, 1600, 3) uint8, RGB.

    title: what the video is called. The height of a colour in a band is the probability of that expression; a band
    is empty where the face was not seen.
    """
    shown = _longest(timeline.faces())
    row = _STRIP_PX + _BAND_PX + _GAP_PX
    height = _TOP_PX + max(1, len(shown)) * row + _AXIS_PX
    canvas = paper(height, _WIDTH_PX)
    _heading(canvas, timeline, title, len(shown))
    for place, face in enumerate(shown):
        _row(canvas, timeline, face, _TOP_PX + place * row)
    if not shown:
        draw_text(canvas, "no face was followed", (_LEFT_PX, _TOP_PX + row // 2), _TEXT_PX, SOFT)
    _axis(canvas, timeline.length_s, height - _AXIS_PX)
    return canvas


def _longest(faces: list[FaceHistory]) -> list[FaceHistory]:
    kept = sorted(faces, key=lambda face: -face.frames)[:_MOST_FACES]
    return sorted(kept, key=lambda face: face.number)


def _heading(canvas: Picture, timeline: Timeline, title: str, shown: int) -> None:
    total = len(timeline.faces())
    more = f", the {shown} seen longest of {total} faces" if total > shown else ""
    draw_text(canvas, f"{title}: expressions over time{more}", (20, 30), _TITLE_PX, INK)
    left = 20
    for label, colour in zip(timeline.labels, label_colours(timeline.labels), strict=True):
        fill(canvas, (left, 60, 22, 22), colour, 6)
        draw_text(canvas, label, (left + 30, 71), _TEXT_PX, INK)
        left += 30 + text_width(label, _TEXT_PX) + 28


def _row(canvas: Picture, timeline: Timeline, face: FaceHistory, top: int) -> None:
    _portrait(canvas, face, top)
    edges_s = np.linspace(0, timeline.length_s, _WIDTH_PX - _LEFT_PX - _RIGHT_PX + 1)
    shares, seen = face.seen_px(edges_s, timeline.step_s)
    below = top + _STRIP_PX
    band = canvas[below : below + _BAND_PX, _LEFT_PX : _WIDTH_PX - _RIGHT_PX]
    band[:] = _stacked(shares, seen, label_colours(timeline.labels))
    _names(band, shares, seen, timeline)
    _strip(canvas[top : top + _STRIP_PX - 4, _LEFT_PX : _WIDTH_PX - _RIGHT_PX], face, timeline.length_s)


def _portrait(canvas: Picture, face: FaceHistory, top: int) -> None:
    """Draw the face at half of its time beside its band, with its number and how long it was seen."""
    picture = face.thumbnails[len(face.thumbnails) // 2][1]
    low = top + THUMBNAIL_PX
    canvas[top:low, 40 : 40 + THUMBNAIL_PX] = picture
    colour = track_colour(face.number)
    outline(canvas, (39, top - 1, THUMBNAIL_PX + 1, THUMBNAIL_PX + 1), WHITE, 8, radius=10)
    outline(canvas, (39, top - 1, THUMBNAIL_PX + 1, THUMBNAIL_PX + 1), colour, 3, radius=10)
    number = str(face.number)
    wide = max(26, text_width(number, _TEXT_PX) + 16)
    fill(canvas, (38, low + 6, wide, 26), colour, 7)
    draw_text(canvas, number, (38 + (wide - text_width(number, _TEXT_PX)) / 2, low + 19), _TEXT_PX, WHITE)
    times = face.times_s
    draw_text(
        canvas, f"{clock(times[0])} - {clock(times[-1])}", (38 + wide + 8, low + 19), _SMALL_PX - 1, SOFT
    )


def _stacked(shares: NDArray[np.float32], seen: NDArray[np.bool_], colours: list[Colour]) -> Picture:
    """Return the band (_BAND_PX, n, 3): in each column the colours from the bottom up, as high as their shares."""
    height = (np.arange(_BAND_PX, 0, -1) - 0.5) / _BAND_PX
    tops = np.cumsum(shares, axis=1)[:, :-1]
    label = (height[:, None, None] > tops[None]).sum(axis=2)
    band: Picture = np.array(colours, np.uint8)[label]
    band[:, ~seen] = RAIL
    return band


def _names(band: Picture, shares: NDArray[np.float32], seen: NDArray[np.bool_], timeline: Timeline) -> None:
    """Write the likeliest expression's name into its colour, where one lasts long enough to hold it."""
    colours = label_colours(timeline.labels)
    likeliest = np.where(seen, shares.argmax(axis=1), -1)
    starts = np.flatnonzero(np.diff(likeliest, prepend=-2))
    for start, end in zip(starts, [*starts[1:], len(likeliest)], strict=True):
        label = int(likeliest[start])
        wide = text_width(timeline.labels[label], _TEXT_PX) if label >= 0 else 0
        if label < 0 or end - start < wide + _NAMED_PX:
            continue
        part = shares[start:end]
        middle = part[:, :label].sum(axis=1).mean() + part[:, label].mean() / 2
        height = min(max(_BAND_PX * (1 - float(middle)), 11.0), _BAND_PX - 11.0)
        place = (int(start + end - wide) // 2, height)
        draw_text(band, timeline.labels[label], place, _TEXT_PX, ink_on(colours[label]))


def _strip(strip: Picture, face: FaceHistory, length_s: float) -> None:
    """Put pictures of the face at their times, as many as fit side by side; the last one may be moved inward."""
    side = strip.shape[0]
    free = 0
    for time_s, picture in face.thumbnails:
        left = min(round(time_s / length_s * strip.shape[1]), strip.shape[1] - side)
        if left >= free:
            strip[:, left : left + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            free = left + side + 2


def _axis(canvas: Picture, length_s: float, top: int) -> None:
    wide = _WIDTH_PX - _LEFT_PX - _RIGHT_PX
    canvas[top, _LEFT_PX : _LEFT_PX + wide] = SOFT
    step_s = next((step for step in _STEPS_S if length_s / step <= _MOST_TICKS), length_s)
    for number in range(math.floor(length_s / step_s) + 1):
        x = _LEFT_PX + round(number * step_s / length_s * wide)
        canvas[top : top + 8, x] = SOFT
        text = clock(number * step_s, tenths=step_s < 1)
        left = min(x - text_width(text, _SMALL_PX) // 2, _WIDTH_PX - text_width(text, _SMALL_PX) - 2)
        draw_text(canvas, text, (left, top + 22), _SMALL_PX, SOFT)


def clock(seconds: float, *, tenths: bool = True) -> str:
    """Return a time as players show it.

    >>> clock(3.14), clock(75, tenths=False), clock(3661.5)
    ('0:03.1', '1:15', '1:01:01.5')
    """
    counted = round(seconds * 10) if tenths else round(seconds) * 10
    hours, minutes, rest = counted // 36000, counted // 600 % 60, counted % 600
    text = f"{rest // 10:02}.{rest % 10}" if tenths else f"{rest // 10:02}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"
