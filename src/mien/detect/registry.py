"""Face detectors by name, with the two that need no file: OpenCV's Haar cascade, and none at all (`whole`).

Another detector is one more entry of `_MAKERS` that keeps to `Detector`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import (
    Box,
    Detection,
    Detector,
    align,
    crop,
    largest_first,
    resized,
    squeeze_channel,
    too_thin,
)
from mien.detect.mien import METADATA_FILE, MienDetector
from mien.detect.yunet import VARIABLE, YuNetDetector, by_hand, chosen_file, yunet_file, yunet_folder
from mien.errors import ConfigError, MissingExtra, ModelError

_FILE = "haarcascade_frontalface_alt2.xml"
_LARGEST_PX, _SMALLEST_PX = 640, 160  # longer side of the picture that is searched
# Of detectMultiScale; chosen on photographs with labelled faces: one neighbour more loses 2 to 5 points of recall for
# half a false positive in a hundred photographs.
_STEP, _NEIGHBOURS, _FACE_PX = 1.1, 3, 24
# The cascade's square runs from brows to lower lip, our box from hairline to chin. Medians against YuNet on
# web-faces: its longer side is 1.21 times the square's, its centre lies 0.03 of that side lower.
_SIDE, _LOWER = 1.21, 0.03
__all__ = ["DETECTORS", "Detection", "Detector", "WholePicture", "align", "crop", "open_detector"]


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


class WholePicture:
    """No search: every picture is one face. For pictures that are face crops already."""

    name = "whole"

    def __init__(self) -> None:
        self.metadata: Mapping[str, str] = {"name": self.name}

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect; only an empty picture has no face."""
        height, width = image.shape[:2]
        return (
            (Detection(Box(0.0, 0.0, float(width), float(height)), whole=True),) if height and width else ()
        )


def open_detector(name: str = "auto", file: Path | None = None) -> Detector:
    """Return a face detector.

    name: 'mien' (the one that ships, or the folder of mien train-detector that `file` names), 'yunet' (the file
    that `file` or the environment variable MIEN_YUNET names, or the newest one in the folder for caches), 'haar',
    'whole', or 'auto': what `file` or MIEN_YUNET names, and without either 'mien'. Raises ConfigError on another name
    or a file for a detector that takes none, ModelError when the file is missing or damaged, MissingExtra for haar
    under OpenCV 5.
    """
    if name not in _MAKERS:
        raise ConfigError(f"there is no face detector {name!r}; known: {', '.join(DETECTORS)}")
    return _MAKERS[name](file)


def _auto(file: Path | None) -> Detector:
    chosen = chosen_file(file)
    if chosen is None or chosen.is_dir() or chosen.with_name(METADATA_FILE).is_file():
        return MienDetector(chosen)
    return YuNetDetector(chosen)


def _yunet(file: Path | None) -> Detector:
    if found := yunet_file(file):
        return YuNetDetector(found)
    raise ModelError(
        f"the face detector 'yunet' needs its file, and {yunet_folder()} has none; fetch it with mien predict "
        f"--download-yunet, {by_hand()}, name a copy ({VARIABLE}), or use the face detector mien"
    )


def _haar(file: Path | None) -> Detector:
    _no_file("haar", file)
    return HaarDetector()


def _whole(file: Path | None) -> Detector:
    _no_file("whole", file)
    return WholePicture()


def _no_file(name: str, file: Path | None) -> None:
    if file is not None:
        raise ConfigError(f"the face detector {name!r} takes no file, got {file}; leave it out or use yunet")


_MAKERS: dict[str, Callable[[Path | None], Detector]] = {
    "auto": _auto,
    "mien": MienDetector,
    "yunet": _yunet,
    "haar": _haar,
    "whole": _whole,
}
DETECTORS = tuple(_MAKERS)
