"""mien's own face detector: one small network, no download. How it was made: docs/face-detector-training.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.align import align, place_of_aligned
from mien.detect.base import Detection, in_order
from mien.detect.metadata import INPUT, OUTPUTS, SHIPPED, STRIDES, VALUES, read_detector
from mien.detect.nms import Floats, decoded, merged, overlaps
from mien.detect.pyramid import plane, resized, too_thin
from mien.errors import ConfigError, ModelError
from mien.model.session import open_session

_MULTIPLE = STRIDES[-1]  # of which the network takes sides
_PADDING = 128  # level beyond the picture: zero for the network's first convolution
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time
# What decides on a doubtful box: the square around it, this many of its sides wide, turned level, at this size.
_AGAIN_SIDES, _AGAIN_PX = 2.5, 160
_AGAIN_SAME = 0.3  # intersection over union from which it is the same face
# A face that fills more than this share of the picture's longer side has no surroundings to be looked at in.
_FILLS = 0.5
# Share of the smaller box from which a doubtful box that overlaps a surer face is a part of that face: chin and collar
# of a person would otherwise count as somebody else.
_AGAIN_PART = 0.4
_AGAIN_MOST = 64  # boxes, the surest first: bounds the time of a picture full of doubtful ones
# In a portrait, a sure face of at least this share of the picture's longer side, what is smaller than this share of the
# face needs this score: badges, buttons and helmets are more common there than faces in the background. On the
# validation photographs this drops five false alarms and three faces.
_PORTRAIT, _MUCH_SMALLER, _BESIDE = 0.15, 0.55, 0.6


class MienDetector:
    """The face detector of a folder (or of its detector.onnx); None: the one that ships with mien.

    threshold: score from which a box is a face; None: the one in its metadata. twice: look again at boxes that are
    doubtful (see DetectorMetadata); False: the network's own scores. Raises ModelError when the files are missing,
    damaged or no face detector; ConfigError for a threshold outside (0, 1).
    """

    name = "mien"

    def __init__(
        self, path: Path | None = None, threshold: float | None = None, *, twice: bool = True
    ) -> None:
        files = read_detector(path or SHIPPED)
        self._settings = files.metadata
        self._threshold = files.metadata.threshold if threshold is None else threshold
        if not 0 < self._threshold < 1:
            raise ConfigError(f"the threshold of a face detector must lie between 0 and 1, got {threshold}")
        self._twice = twice
        self._least = self._settings.doubtful if twice else self._threshold
        self._session = open_session(files.network, files.path)
        self._check(files.path)
        self.metadata: Mapping[str, str] = {
            "name": self.name,
            "file": files.path.name,
            "sha256": files.sha256,
            "threshold": f"{self._threshold:g}",
        }

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect."""
        if too_thin(image):
            return ()
        settings, image = self._settings, plane(image)
        longest = max(image.shape[:2])
        first_scale = 1.0
        if longest > settings.closest_px:  # every look shrinks from here
            image, first_scale = resized(image, settings.closest_px)
            longest = settings.closest_px
        usual = min(max(longest, settings.least_px), settings.usual_px)
        found = self._look(image, usual)
        if usual >= 2 * settings.small_px:
            found = np.concatenate([found, self._look(image, settings.small_px)])
        likely = found[found[:, -1] >= (self._threshold + settings.sure) / 2]  # before any second look
        if longest > usual and _wants_closer_look(likely, usual / longest):
            found = np.concatenate([found, self._look(image, longest)])
        rows = merged(found, settings.overlap)
        if self._twice:
            rows = self._confirmed(image, rows)
        rows = rows[rows[:, -1] >= self._threshold]
        if self._twice:
            rows = _without_badges(rows, _PORTRAIT * longest, settings.sure)
        return in_order([_face(row, first_scale) for row in rows])

    def _look(self, image: NDArray[np.uint8], longest_px: int) -> Floats:
        """Return the candidates (n, VALUES) in pixels of `image`."""
        view, scale = resized(image, longest_px)
        found = self._candidates(view, self._least)
        found[:, : VALUES - 1] /= scale
        return found

    def _candidates(self, view: NDArray[np.uint8], least: float) -> Floats:
        """Return what the network sees in a picture of this size from a score on, (n, VALUES) in its pixels."""
        levels = self._session.run(list(OUTPUTS), {INPUT: _prepared(view)})
        parts = [decoded(level[0], stride, least) for level, stride in zip(levels, STRIDES, strict=True)]
        return _within(np.concatenate(parts), view.shape[1], view.shape[0])

    def _confirmed(self, image: NDArray[np.uint8], rows: Floats) -> Floats:
        """Look again at doubtful rows: their score becomes the geometric mean of both looks, or they go."""
        kept, looks = [], 0
        filling_px = _FILLS * max(image.shape[:2])
        for row in rows:
            if row[-1] >= self._settings.sure or row[2:4].max() > filling_px or looks == _AGAIN_MOST:
                kept.append(row)
                continue
            least = self._threshold**2 / row[-1]  # of the second score, for the mean to reach the threshold
            if least >= 1:
                break  # here and in all rows below
            if kept and overlaps(row[None, :4], np.stack(kept)[:, :4])[1].max() >= _AGAIN_PART:
                continue
            looks += 1
            again = self._again(image, _face(row, 1.0), float(least))
            if again is not None:
                score, points = again
                middle = (row[4:14] + points.ravel()) / 2
                kept.append(np.concatenate([row[:4], middle, [np.sqrt(row[-1] * score)]]))
        return np.array(kept, np.float32).reshape(-1, VALUES)

    def _again(self, image: NDArray[np.uint8], face: Detection, least: float) -> tuple[float, Floats] | None:
        """Return score and landmarks, (5, 2) in pixels of `image`, of a face looked at by itself.

        least: score from which it counts as seen; None for a face that is not.
        """
        part, corner, shrunk = _surroundings(image, face)
        there = _face_at(face, corner, shrunk)
        view, scale = resized(align(part, there, _AGAIN_SIDES), _AGAIN_PX)
        found = merged(self._candidates(view, least), self._settings.overlap)
        size = np.array(face.box[2:]) / max(face.box[2:]) * _AGAIN_PX / _AGAIN_SIDES
        expected = np.concatenate([(_AGAIN_PX - size) / 2, size]).astype(np.float32)[None]
        same = np.flatnonzero(overlaps(expected, found[:, :4])[0][0] >= _AGAIN_SAME)
        if not len(same):
            return None
        row = found[same[0]]  # the surest
        back = place_of_aligned(there, _AGAIN_SIDES)
        points = (row[4:14].reshape(5, 2) / scale - 0.5) @ back[:, :2].T + back[:, 2] + 0.5
        return float(row[-1]), (points / shrunk + corner).astype(np.float32)

    def _check(self, path: Path) -> None:
        """Raise ModelError for a network that is no face detector of ours."""
        inputs = {node.name: node.shape[-1] for node in self._session.get_inputs()}
        outputs = {node.name: node.shape[1] for node in self._session.get_outputs()}
        if inputs != {INPUT: 3} or any(outputs.get(name) != VALUES for name in OUTPUTS):
            raise ModelError(
                f"{path} is not a face detector of mien: it must take {INPUT!r} with 3 channels and give "
                f"{', '.join(OUTPUTS)} with {VALUES} values a cell, has {inputs} and {outputs}"
            )


def _prepared(view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, height, width, 3) float32, padded below and on the right to what the network takes."""
    rgb = cv2.cvtColor(view, cv2.COLOR_GRAY2RGB) if view.ndim == 2 else view
    down, right = (-side % _MULTIPLE for side in rgb.shape[:2])
    if down or right:
        level = (_PADDING, _PADDING, _PADDING)
        rgb = cv2.copyMakeBorder(rgb, 0, down, 0, right, cv2.BORDER_CONSTANT, value=level)
    return rgb[None].astype(np.float32)


def _within(found: Floats, width: int, height: int) -> Floats:
    """Drop what has its centre outside the picture: in the padding, or beyond a border."""
    centre = found[:, :2] + found[:, 2:4] / 2
    return found[((centre >= 0) & (centre <= (width, height))).all(axis=1)]


def _wants_closer_look(found: Floats, scale: float) -> bool:
    """Say whether nothing was found, or something so small that more of its kind may have been missed."""
    return len(found) == 0 or bool((found[:, 2:4].max(axis=1) * scale).min() < _FEW_PX)


def _surroundings(
    image: NDArray[np.uint8], face: Detection
) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """Return the part of a picture that a second look may see, where its corner lies (x, y), and its scale.

    Hardly larger than what is looked at: turning all of a large part would cost more than the look.
    """
    x, y, width, height = face.box
    reach = _AGAIN_SIDES * max(width, height) / 2**0.5 + 2  # half of a square that can be turned
    middle = np.array([x + width / 2, y + height / 2])
    low = np.floor(np.maximum(middle - reach, 0)).astype(int)
    high = np.ceil(np.minimum(middle + reach, image.shape[1::-1])).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    longest = round(1.25 * _AGAIN_PX * max(part.shape[:2]) / (_AGAIN_SIDES * max(width, height)))
    if longest >= max(part.shape[:2]):
        return part, low.astype(np.float64), 1.0
    shrunk, scale = resized(part, longest)
    return shrunk, low.astype(np.float64), scale


def _face_at(face: Detection, corner: NDArray[np.float64], scale: float) -> Detection:
    """Return a face as it lies in a part of its picture."""
    x, y, width, height = face.box
    box = ((x - corner[0]) * scale, (y - corner[1]) * scale, width * scale, height * scale)
    landmarks = ((np.array(face.landmarks) - corner) * scale).ravel()
    return _face(np.array([*box, *landmarks, face.score], np.float32), 1.0)


def _without_badges(rows: Floats, portrait_px: float, sure: float) -> Floats:
    """Drop doubtful rows that are much smaller than the largest sure face, where that makes the picture a portrait."""
    sides, scores = rows[:, 2:4].max(axis=1, initial=0), rows[:, -1]
    largest = sides[scores >= sure].max(initial=0)
    if largest < portrait_px:
        return rows
    kept: Floats = rows[(scores >= _BESIDE) | (sides >= _MUCH_SMALLER * largest)]
    return kept


def _face(row: Floats, scale: float) -> Detection:
    values = [float(value) for value in row[:14] / scale]
    points = list(zip(values[4::2], values[5::2], strict=True))
    x, y, width, height = values[:4]
    score = min(max(float(row[14]), 0.0), 1.0)
    return Detection((x, y, width, height), score, (points[0], points[1], points[2], points[3], points[4]))
