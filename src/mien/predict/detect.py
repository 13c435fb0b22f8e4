"""Face finders by name. Another finder is one more entry of `_MAKERS` that keeps to `Detector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError
from mien.files import cache_folder
from mien.predict.crop import align, crop
from mien.predict.found_face import Detector, FoundFace
from mien.predict.haar import HaarDetector
from mien.predict.yunet import FILE, WHERE, YuNetDetector

__all__ = ["DETECTORS", "Detector", "FoundFace", "WholePicture", "align", "crop", "detector"]


class WholePicture:
    """No search: every picture is one face. For pictures that are face crops already."""

    name = "whole"
    note = ""

    def __init__(self) -> None:
        self.facts: Mapping[str, str] = {"name": self.name}

    def find(self, image: NDArray[np.uint8]) -> tuple[FoundFace, ...]:
        """See Detector.find; only an empty picture has no face."""
        height, width = image.shape[:2]
        return (FoundFace((0.0, 0.0, float(width), float(height))),) if height and width else ()


def detector(name: str = "auto", file: Path | None = None) -> Detector:
    """Return a face finder.

    name: 'auto' (yunet where its file is, otherwise haar), 'yunet', 'haar' or 'whole'.
    file: a YuNet file; None: the newest one in the user's cache folder. Raises ConfigError on another name or
    a file for a finder that takes none, ModelError when the file is missing or damaged, MissingExtra for haar
    under OpenCV 5.
    """
    if name not in _MAKERS:
        raise ConfigError(f"there is no face finder {name!r}; known: {', '.join(DETECTORS)}")
    return _MAKERS[name](file)


def _auto(file: Path | None) -> Detector:
    if file is not None or _cached() is not None:
        return _yunet(file)
    return HaarDetector(
        "no YuNet file found, so faces are found with OpenCV's Haar cascade, which misses most faces that "
        f"are tilted, turned away, covered or small; for better, save {FILE} from {WHERE} in {_folder()}"
    )


def _yunet(file: Path | None) -> Detector:
    if found := file or _cached():
        return YuNetDetector(found)
    raise ModelError(
        f"the face finder 'yunet' needs its file, and {_folder()} has none; save {FILE} from {WHERE} there, "
        "name the file, or use the face finder haar"
    )


def _haar(file: Path | None) -> Detector:
    _no_file("haar", file)
    return HaarDetector()


def _whole(file: Path | None) -> Detector:
    _no_file("whole", file)
    return WholePicture()


def _no_file(name: str, file: Path | None) -> None:
    if file is not None:
        raise ConfigError(f"the face finder {name!r} takes no file, got {file}; leave it out or use yunet")


def _folder() -> Path:
    return cache_folder() / "face-finders"


def _cached() -> Path | None:
    return max(_folder().glob("face_detection_yunet_*.onnx"), key=_age, default=None)


def _age(path: Path) -> tuple[int, str]:
    """Order YuNet's files by the year in their names: 2023mar comes before 2026may."""
    stamp = path.stem.removeprefix("face_detection_yunet_")
    return int(stamp[:4]) if stamp[:4].isdigit() else 0, stamp


_MAKERS: dict[str, Callable[[Path | None], Detector]] = {
    "auto": _auto,
    "yunet": _yunet,
    "haar": _haar,
    "whole": _whole,
}
DETECTORS = tuple(_MAKERS)
