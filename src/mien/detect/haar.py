"""The face detector that comes with OpenCV 4: a Haar cascade, for frontal, upright faces; no download."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box, Detection, largest_first
from mien.detect.pyramid import resized, squeeze_channel, too_thin
from mien.errors import MissingExtra

_FILE = "haarcascade_frontalface_alt2.xml"
_LARGEST_PX, _SMALLEST_PX = 640, 160  # longer side of the picture that is searched
# Of detectMultiScale; chosen on photographs with labelled faces: one neighbour more loses 2 to 5 points of recall for
# half a false positive in a hundred photographs.
_STEP, _NEIGHBOURS, _FACE_PX = 1.1, 3, 24
# The cascade's square runs from brows to lower lip, our box from hairline to chin. Medians against YuNet on
# web-faces: its longer side is 1.21 times the square's, its centre lies 0.03 of that side lower.
_SIDE, _LOWER = 1.21, 0.03


class HaarDetector:
    """`haarcascade_frontalface_alt2` (Lienhart & Maydt 2002). It gives neither scores nor landmarks.

    Raises MissingExtra under OpenCV 5, which has no cascades any more.
    """

    name = "haar"

    def __init__(self) -> None:
        self._path = _cascade_file()
        self._threads = threading.local()  # a CascadeClassifier keeps the picture it works on
        self.metadata: Mapping[str, str] = {"name": self.name, "file": _FILE, "opencv": cv2.__version__}

    def __reduce__(self) -> tuple[type[HaarDetector], tuple[()]]:
        return HaarDetector, ()

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect."""
        if too_thin(image):
            return ()
        image = squeeze_channel(image)
        longest = max(image.shape[:2])
        small, scale = resized(image, min(max(longest, _SMALLEST_PX), _LARGEST_PX))
        grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        cascade, smallest = self._cascade(), (_FACE_PX, _FACE_PX)
        squares = cascade.detectMultiScale(grey, _STEP, _NEIGHBOURS, minSize=smallest)
        return largest_first([_face(square, scale) for square in squares])

    def _cascade(self) -> cv2.CascadeClassifier:
        cascade = getattr(self._threads, "cascade", None)
        if cascade is None:
            cascade = self._threads.cascade = cv2.CascadeClassifier(str(self._path))
        return cascade


def _cascade_file() -> Path:
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / _FILE
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise MissingExtra(
            f"the face detector 'haar' needs OpenCV 4 and its cascade files, this is {cv2.__version__}; "
            'install it with: pip install "opencv-python-headless>=4.10,<5", or use the face detector yunet'
        )
    return path


def _face(square: NDArray[np.int32], scale: float) -> Detection:
    x, y, width, height = (float(value) / scale for value in square)
    side = _SIDE * width
    return Detection(Box(x + (width - side) / 2, y + (height - side) / 2 + _LOWER * side, side, side))
