"""What a timeline shows of each face: its probabilities over time and small pictures of it, in bounded memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.predict.crop import crop
from mien.predict.results import Face
from mien.video.results import VideoFrame

Picture = NDArray[np.uint8]
THUMBNAIL_PX = 112
_MARGIN = 1.25  # of the box: hair and chin help people to know a face again
_THUMBNAILS = (
    48  # of one face; when there are more, every second one goes and the next ones come half as often
)
_FIRST_STEP_S = 0.25


class FaceHistory:
    """One track. times_s: (n,) float64. shares: (n, labels) float32. thumbnails: (time, picture), in order."""

    def __init__(self, number: int, labels: int) -> None:
        self.number = number
        self.thumbnails: list[tuple[float, Picture]] = []
        self._labels = labels
        self._times, self._shares = array("d"), array("f")
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

    def add(self, time_s: float, face: Face, image: Picture) -> None:
        self._times.append(time_s)
        self._shares.extend(face.probabilities.values())
        if not self.thumbnails or time_s - self.thumbnails[-1][0] >= self._step_s:
            side = (THUMBNAIL_PX, THUMBNAIL_PX)
            small = cv2.resize(crop(image, face.box, _MARGIN), side, interpolation=cv2.INTER_AREA)
            self.thumbnails.append((time_s, np.asarray(small, np.uint8)))
        if len(self.thumbnails) > _THUMBNAILS:
            del self.thumbnails[1::2]
            self._step_s *= 2

    def seen_px(
        self, edges_s: NDArray[np.float64], hold_s: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the mean probabilities in each stretch of time, and whether the face was seen in it.

        edges_s: (n + 1,) growing. Returns (n, labels) and (n,). A frame lasts until the next one, but no longer than
        `hold_s`; so short videos have no holes between their frames.
        """
        times, shares = self.times_s, self.shares
        sums = np.vstack([np.zeros((1, self._labels)), np.cumsum(shares, axis=0, dtype=np.float64)])
        first, end = np.searchsorted(times, edges_s[:-1]), np.searchsorted(times, edges_s[1:])
        count = end - first
        means = (sums[end] - sums[first]) / np.maximum(count, 1)[:, None]
        before = np.maximum(first - 1, 0)
        held = (count == 0) & (first > 0) & (edges_s[:-1] - times[before] <= hold_s)
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
