"""Face detectors by name. Another detector is one more entry of `_MAKERS` that keeps to `Detector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.detect.align import align, crop
from mien.detect.base import Box, Detection, Detector
from mien.detect.haar import HaarDetector
from mien.detect.mien import METADATA_FILE, MienDetector
from mien.detect.yunet import VARIABLE, YuNetDetector, by_hand, chosen_file, yunet_file, yunet_folder
from mien.errors import ConfigError, ModelError

__all__ = ["DETECTORS", "Detection", "Detector", "WholePicture", "align", "crop", "open_detector"]


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
