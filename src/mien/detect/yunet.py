"""YuNet (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y): a small face detector; mien does not ship it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, distinct
from mien.detect.pyramid import plane, resized, too_thin
from mien.detect.yunet_file import KNOWN, by_hand
from mien.errors import ModelError

# Longer sides at which a picture is looked at. YuNet knows faces of about 10 to 300 px (its README), so a
# portrait that fills 640 px is seen only in the smaller look, and a crowd only in the largest.
_TINY_PX, _SMALL_PX, _USUAL_PX, _CLOSE_PX = 224, 320, 640, 1280
_THINNEST_PX = 64  # a side of at least two cells of the coarsest stride
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time
_SCORE, _OVERLAP, _BEFORE_NMS = 0.6, 0.3, 5000


class YuNetDetector:
    """YuNet through `cv2.FaceDetectorYN`. Raises ModelError when the file is missing or is not YuNet."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"cannot read the YuNet file {path}: {error.strerror}; name another, or {by_hand()}"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        self.metadata: Mapping[str, str] = {
            "name": self.name,
            "file": path.name,
            "sha256": digest,
            "known_as": KNOWN.get(digest, "a file that mien was not measured with"),
            "opencv": cv2.__version__,
        }
        self._data = np.frombuffer(content, np.uint8)
        self._threads = threading.local()  # a FaceDetectorYN keeps the size of the picture it works on
        try:
            self._look(np.zeros((32, 32, 3), np.uint8), 32)
        except (cv2.error, IndexError) as error:
            raise ModelError(f"{path} is not a YuNet file that OpenCV can use; {by_hand()}") from error

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect."""
        if too_thin(image):
            return ()
        image, longest = plane(image), max(image.shape[:2])
        if longest > _CLOSE_PX:  # every look shrinks from here, which is far cheaper than from 50 megapixels
            image, first_scale = resized(image, _CLOSE_PX)
        else:
            first_scale = 1.0
        bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
        longest = max(bgr.shape[:2])
        rows = [self._look(bgr, side) for side in _usual_looks(longest)]
        if longest > _USUAL_PX and _wants_closer_look(np.concatenate(rows), _USUAL_PX / longest):
            rows.append(self._look(bgr, longest))
        return distinct([_face(row, first_scale) for row in np.concatenate(rows)])

    def _look(self, bgr: NDArray[np.uint8], longest_px: int) -> NDArray[np.float32]:
        """Return (n, 15): box, five landmarks, score, in pixels of `bgr`."""
        view, scale = resized(bgr, longest_px)
        view = _not_thin(view)
        network = self._network()
        network.setInputSize((view.shape[1], view.shape[0]))
        rows: NDArray[np.float32] | None = network.detect(view)[1]
        if rows is None:
            return np.empty((0, 15), np.float32)
        rows[:, :14] /= scale
        return rows

    def _network(self) -> cv2.FaceDetectorYN:
        network = getattr(self._threads, "network", None)
        if network is None:
            nothing = np.empty(0, np.uint8)
            network = cv2.FaceDetectorYN.create(
                "onnx", self._data, nothing, (32, 32), _SCORE, _OVERLAP, _BEFORE_NMS
            )
            self._threads.network = network
        return network


def _not_thin(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add black below and on the right of a strip: where a side is at most 32 px, cv2 answers with boxes of inf."""
    down, right = (max(_THINNEST_PX - side, 0) for side in view.shape[:2])
    if not down and not right:
        return view
    padded: NDArray[np.uint8] = cv2.copyMakeBorder(view, 0, down, 0, right, cv2.BORDER_CONSTANT)
    return padded


def _usual_looks(longest: int) -> list[int]:
    """Return the sizes at which every picture of this longer side is looked at."""
    if longest <= _SMALL_PX:
        return [max(longest, _TINY_PX)]
    return [_SMALL_PX, min(longest, _USUAL_PX)]


def _wants_closer_look(rows: NDArray[np.float32], scale: float) -> bool:
    """Say whether nothing was found, or something so small that more of its kind may have been missed."""
    return len(rows) == 0 or bool((rows[:, 2:4].max(axis=1) * scale).min() < _FEW_PX)


def _face(row: NDArray[np.float32], scale: float) -> Detection:
    values = [float(value) for value in row[:14] / scale]
    points = list(zip(values[4::2], values[5::2], strict=True))
    x, y, width, height = values[:4]
    return Detection(
        (x, y, width, height),
        min(max(float(row[14]), 0.0), 1.0),
        (points[0], points[1], points[2], points[3], points[4]),
    )
