"""mien's own face detector: one small network and a folder for it, no download.

How it was made, and why it looks twice: docs/how-to/train-a-detector.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import (
    Detection,
    ImagePyramid,
    Rows,
    align,
    detection_of_row,
    iou,
    largest_first,
    place_of_aligned,
    resized,
    scaled,
    squeeze_channel,
    too_thin,
    weighted_nms,
)
from mien.errors import ConfigError, ModelError
from mien.model.session import open_session
from mien.settings import from_mapping, to_mapping

FORMAT = 1
NETWORK_FILE, METADATA_FILE, CARD_FILE = "detector.onnx", "detector.json", "CARD.md"
SHIPPED = Path(__file__).parent.parent / "models" / "mien-detector"
STRIDES = (8, 16, 32)  # pixels a cell of each level
OUTPUTS = tuple(f"stride{stride}" for stride in STRIDES)
INPUT = "faces"
# A cell of a level with stride s has its centre at ((column + 0.5) s, (row + 0.5) s). Its values are: the logit of the
# score; how far the face's centre lies from the cell's, in strides (x, y); the logarithms of width and height in
# strides; how far each of five landmarks lies from the cell's centre, in sides of the face, sqrt(width * height). In
# sides, because a face's shape is then nearly the same numbers at every size.
VALUES = 15

_MULTIPLE = STRIDES[-1]  # of which the network takes sides
_PADDING = 128  # level beyond the picture: zero for the network's first convolution
# What decides on a doubtful box: the square around it, this many of its sides wide, turned level, at this size.
_AGAIN_SIDES, _AGAIN_PX = 2.5, 160
_AGAIN_SAME = 0.3  # intersection over union from which it is the same face
# A face that fills more than this share of the picture's longer side has no surroundings to be looked at in.
_FILLS = 0.5
_BORDER, _LOWEST = 0.15, 0.05  # of `face_score`: border in sides of the picture, lowest score
_AGAIN_MOST = 64  # boxes, the surest first: bounds the time of a picture full of doubtful ones
# In a portrait, a sure face of at least this share of the picture's longer side, what is smaller than this share of the
# face needs this score: badges, buttons and helmets are more common there than faces in the background. On the
# validation photographs this drops six false positives and five faces.
_PORTRAIT, _MUCH_SMALLER, _BESIDE = 0.15, 0.55, 0.6
# Of the logarithms; keeps a network that went wrong from answering with infinities.
_SMALLEST, _LARGEST = -4.0, 5.0


@dataclass(frozen=True, kw_only=True)
class DetectorMetadata:
    """What `detector.json` says.

    threshold: score from which a box is a face. low_threshold, high_threshold: a box whose score lies between both is
    scored again, by itself, and gets the geometric mean of both scores; one below is dropped at once.
    nms_iou: intersection over union from which two boxes are one face.
    small_size, min_size, detect_size, max_size: of the `ImagePyramid`.
    sha256: of detector.onnx. training, scores: for the record.
    Raises ConfigError for a number out of range.
    """

    format: int = FORMAT
    name: str = "mien-detector"
    sha256: str = ""
    threshold: float = 0.5
    high_threshold: float = 0.65
    low_threshold: float = 0.3
    nms_iou: float = 0.4
    small_size: int = 160
    min_size: int = 320
    detect_size: int = 640
    max_size: int = 1280
    created: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("threshold", "high_threshold", "low_threshold", "nms_iou"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} of a face detector must lie between 0 and 1, got {getattr(self, name)}"
                )
        sizes = (self.small_size, self.min_size, self.detect_size, self.max_size)
        if sizes != tuple(sorted(sizes)) or sizes[0] < 32 or sizes[-1] > 4096:
            raise ConfigError(
                "a face detector's sizes must keep 32 <= small_size <= min_size <= detect_size <= max_size <= 4096, "
                f"got {', '.join(map(str, sizes))}"
            )

    @property
    def pyramid(self) -> ImagePyramid:
        """The sizes at which a picture is searched."""
        return ImagePyramid(self.small_size, self.min_size, self.detect_size, self.max_size)

    def to_json(self) -> str:
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class DetectorFiles:
    """A face detector on disk, checked: its network's bytes are those that its metadata speak of."""

    path: Path
    network: bytes
    metadata: DetectorMetadata
    sha256: str


def read_detector(path: Path) -> DetectorFiles:
    """Read a detector's folder, or its detector.onnx with detector.json beside it.

    Raises ModelError where one of both is missing, damaged or belongs to another.
    """
    file = path / NETWORK_FILE if path.is_dir() else path
    metadata = _metadata(file.with_name(METADATA_FILE))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the face detector {file}: {error.strerror}; name a folder with "
            f"{NETWORK_FILE} and {METADATA_FILE}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != metadata.sha256:
        raise ModelError(
            f"{file} has SHA-256 {digest[:12]}…, {METADATA_FILE} beside it says {metadata.sha256[:12]}…: one of "
            "both was changed; copy both again, or train one with mien train-detector"
        )
    return DetectorFiles(file, content, metadata, digest)


def _metadata(file: Path) -> DetectorMetadata:
    try:
        values: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise ModelError(
            f"cannot read {file} ({reason}); a face detector is a folder with {NETWORK_FILE} and {METADATA_FILE}, "
            "as mien train-detector writes it"
        ) from error
    if (version := values.get("format")) != FORMAT:
        raise ModelError(
            f"{file} is of format {version!r}, this mien reads {FORMAT}; use the mien that wrote it"
        )
    try:
        return from_mapping(DetectorMetadata, values, str(file))
    except ConfigError as error:
        raise ModelError(str(error)) from error


class MienDetector:
    """The face detector of a folder (or of its detector.onnx); None: the one that ships with mien.

    threshold: score from which a box is a face; None: the one in its metadata. twice: look again at boxes that are
    doubtful (see DetectorMetadata); False: the network's own scores. Raises ModelError when the files are missing,
    damaged or no face detector; ConfigError for a threshold outside (0, 1).
    """

    name, searches = "mien", True

    def __init__(
        self, path: Path | None = None, threshold: float | None = None, *, twice: bool = True
    ) -> None:
        self._opened = (path and Path(path).absolute(), threshold, twice)
        files = read_detector(path or SHIPPED)
        self.path = files.path
        self._settings = files.metadata
        self._threshold = files.metadata.threshold if threshold is None else threshold
        if not 0 < self._threshold < 1:
            raise ConfigError(f"the threshold of a face detector must lie between 0 and 1, got {threshold}")
        self._twice = twice
        self._pyramid = files.metadata.pyramid
        self._least = self._settings.low_threshold if twice else self._threshold
        self._session = open_session(files.network, files.path)
        self._check(files.path)
        self.metadata: Mapping[str, str] = {
            "name": self.name,
            "file": files.path.name,
            "sha256": files.sha256,
            "threshold": f"{self._threshold:g}",
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what was opened, and open it again on arrival."""
        path, threshold, twice = self._opened
        return partial(MienDetector, path, threshold, twice=twice), ()

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect."""
        if too_thin(image):
            return ()
        settings = self._settings
        image, first_scale = self._pyramid.shrink(squeeze_channel(image))
        sure_enough = (self._threshold + settings.high_threshold) / 2  # before any second look
        found = self._pyramid.search(image, self._look, lambda rows: rows[rows[:, -1] >= sure_enough])
        rows = weighted_nms(found, settings.nms_iou)
        if self._twice:
            rows = self._confirmed(image, rows)
        rows = rows[rows[:, -1] >= self._threshold]
        if self._twice:
            rows = _suppress_small_low_scores(rows, _PORTRAIT * max(image.shape[:2]), settings.high_threshold)
        return largest_first([detection_of_row(row, first_scale) for row in rows])

    def face_score(self, image: NDArray[np.uint8]) -> float:
        """Return how sure the network is that a picture which is said to be a face shows one, 0 to 1: a single look.

        Of 400 faces of FER-2013 and 199 cut from photographs, 94 and 98 % score .25 or more; of 820 pieces of
        photographs without a face, 6 %.
        """
        down, across = (round(_BORDER * side) for side in image.shape[:2])
        border = cv2.BORDER_REPLICATE  # a face that fills its picture has no surroundings
        wide = cv2.copyMakeBorder(squeeze_channel(image), down, down, across, across, border)
        found = self._candidates(resized(np.asarray(wide, np.uint8), _AGAIN_PX)[0], _LOWEST)
        return float(found[:, -1].max(initial=0.0))

    def _look(self, image: NDArray[np.uint8], longest_px: int) -> Rows:
        """Return the candidates (n, VALUES) in pixels of `image`."""
        view, scale = resized(image, longest_px)
        found = self._candidates(view, self._least)
        found[:, : VALUES - 1] /= scale
        return found

    def _candidates(self, view: NDArray[np.uint8], least: float) -> Rows:
        """Return what the network sees in a picture of this size from a score on, (n, VALUES) in its pixels."""
        levels = self._session.run(list(OUTPUTS), {INPUT: _prepared(view)})
        parts = [decode(level[0], stride, least) for level, stride in zip(levels, STRIDES, strict=True)]
        return _within(np.concatenate(parts), view.shape[1], view.shape[0])

    def _confirmed(self, image: NDArray[np.uint8], rows: Rows) -> Rows:
        """Look again at doubtful rows: their score becomes the geometric mean of both looks, or they go."""
        kept, looks = [], 0
        filling_px = _FILLS * max(image.shape[:2])
        for row in rows:
            if (
                row[-1] >= self._settings.high_threshold
                or row[2:4].max() > filling_px
                or looks == _AGAIN_MOST
            ):
                kept.append(row)
                continue
            least = self._threshold**2 / row[-1]  # of the second score, for the mean to reach the threshold
            if least >= 1:
                break  # here and in all rows below
            looks += 1
            again = self._rescore_crop(image, detection_of_row(row, 1.0), float(least))
            if again is not None:
                score, points = again
                middle = (row[4:14] + points.ravel()) / 2
                kept.append(np.concatenate([row[:4], middle, [np.sqrt(row[-1] * score)]]))
        return np.array(kept, np.float32).reshape(-1, VALUES)

    def _rescore_crop(
        self, image: NDArray[np.uint8], face: Detection, least: float
    ) -> tuple[float, Rows] | None:
        """Return score and landmarks, (5, 2) in pixels of `image`, of a face looked at by itself.

        least: score from which it counts as seen; None for a face that is not.
        """
        part, corner, shrunk = _surroundings(image, face)
        there = scaled(face, shrunk, *(-corner * shrunk).tolist())
        view, scale = resized(align(part, there, _AGAIN_SIDES), _AGAIN_PX)
        found = weighted_nms(self._candidates(view, least), self._settings.nms_iou)
        size = np.array(face.box[2:]) / max(face.box[2:]) * _AGAIN_PX / _AGAIN_SIDES
        expected = np.concatenate([(_AGAIN_PX - size) / 2, size]).astype(np.float32)[None]
        same = np.flatnonzero(iou(expected, found[:, :4])[0][0] >= _AGAIN_SAME)
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


def _within(found: Rows, width: int, height: int) -> Rows:
    """Drop what has its centre outside the picture: in the padding, or beyond a border."""
    centre = found[:, :2] + found[:, 2:4] / 2
    return found[((centre >= 0) & (centre <= (width, height))).all(axis=1)]


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


def _suppress_small_low_scores(rows: Rows, portrait_px: float, sure: float) -> Rows:
    """Drop doubtful rows that are much smaller than the largest sure face, where that makes the picture a portrait."""
    sides, scores = rows[:, 2:4].max(axis=1, initial=0), rows[:, -1]
    largest = sides[scores >= sure].max(initial=0)
    if largest < portrait_px:
        return rows
    kept: Rows = rows[(scores >= _BESIDE) | (sides >= _MUCH_SMALLER * largest)]
    return kept


def encode(boxes: Rows, landmarks: Rows, centres: Rows, stride: int) -> Rows:
    """Return what cells should say of their faces: (n, VALUES - 1), all but the score.

    boxes: (n, 4) x, y, width, height; landmarks: (n, 5, 2); centres: (n, 2) of the cells; all in pixels.
    """
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    side = np.sqrt(boxes[:, 2:].prod(axis=1))
    points = (landmarks - centres[:, None]) / side[:, None, None]
    parts = [(middle - centres) / stride, np.log(boxes[:, 2:] / stride), points.reshape(-1, 10)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def decode(level: Rows, stride: int, threshold: float) -> Rows:
    """Return the candidates of one level as (n, VALUES): x, y, width, height, landmarks (10), score, in pixels.

    level: (VALUES, rows, columns) raw values. threshold: in (0, 1); lower scores are left out.
    """
    sure = level[0] > math.log(threshold / (1 - threshold))
    rows, columns = np.nonzero(sure)
    raw = level[:, rows, columns].T
    centres = (np.stack([columns, rows], axis=1).astype(np.float32) + 0.5) * stride
    size = np.exp(np.clip(raw[:, 3:5], _SMALLEST, _LARGEST)) * stride
    corner = centres + raw[:, 1:3] * stride - size / 2
    side = np.sqrt(size.prod(axis=1))
    points = centres[:, None] + raw[:, 5:].reshape(-1, 5, 2) * side[:, None, None]
    score = 1 / (1 + np.exp(-raw[:, 0]))
    found: Rows = np.concatenate([corner, size, points.reshape(-1, 10), score[:, None]], axis=1)
    return found[np.isfinite(found).all(axis=1)]
