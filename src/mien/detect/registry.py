"""Face detectors by name; and those that are not ours: YuNet, OpenCV's Haar cascade, and none at all (`whole`).

YuNet (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y) is a small face detector that mien does not ship. Its file is
named, lies where $MIEN_YUNET says, or in the folder for caches; it is fetched only when that is asked for.
Another detector is one more entry of `_MAKERS` that keeps to `Detector`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import (
    Box,
    Detection,
    Detector,
    ImagePyramid,
    detection_of_row,
    largest_first,
    resized,
    squeeze_channel,
    suppress_contained,
    too_thin,
)
from mien.detect.mien import METADATA_FILE, MienDetector
from mien.errors import ConfigError, MissingExtra, ModelError
from mien.files import cache_folder, expanded, whole_file

# The Haar cascade.
_CASCADE_FILE = "haarcascade_frontalface_alt2.xml"
_LARGEST_PX, _SMALLEST_PX = 640, 160  # longer side of the picture that is searched
# Of detectMultiScale; chosen on photographs with labelled faces: one neighbour more loses 2 to 5 points of recall for
# half a false positive in a hundred photographs.
_STEP, _NEIGHBOURS, _FACE_PX = 1.1, 3, 24
# The cascade's square runs from brows to lower lip, our box from hairline to chin. Medians against YuNet on
# web-faces: its longer side is 1.21 times the square's, its centre lies 0.03 of that side lower.
_SIDE, _LOWER = 1.21, 0.03

# YuNet knows faces of about 10 to 300 px (its README), so a portrait that fills 640 px is seen only in the smaller
# look, and a crowd only in the largest.
_PYRAMID = ImagePyramid(small_size=320, min_size=224, detect_size=640, max_size=1280)
_THINNEST_PX = 64  # a side of at least two cells of the coarsest stride
_SCORE, _OVERLAP, _BEFORE_NMS = 0.6, 0.3, 5000
WHERE = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
VARIABLE = "MIEN_YUNET"
_TIMEOUT_S = 30.0
_LARGEST_BYTES = 4_000_000  # far above YuNet; keeps a page that was sent in its place from filling the memory
# Pinned to a commit. The files lie in Git LFS, which is why the address is not that of the page.
_ZOO = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/47534e27c9851bb1128ccc0102f1145e27f23f98"
    "/models/face_detection_yunet/"
)
_2026 = "face_detection_yunet_2026may.onnx"
_2023 = "face_detection_yunet_2023mar.onnx"


class HaarDetector:
    """`haarcascade_frontalface_alt2` (Lienhart & Maydt 2002). It gives neither scores nor landmarks.

    Raises MissingExtra under OpenCV 5, which has no cascades any more.
    """

    name, searches = "haar", True

    def __init__(self) -> None:
        self._path = _cascade_file()
        self._threads = threading.local()  # a CascadeClassifier keeps the picture it works on
        self.metadata: Mapping[str, str] = {
            "name": self.name,
            "file": _CASCADE_FILE,
            "opencv": cv2.__version__,
        }

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
    path = Path(folder) / _CASCADE_FILE
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise MissingExtra(
            f"the face detector 'haar' needs OpenCV 4 and its cascade files, this is {cv2.__version__}; "
            'install it with: pip install "opencv-python-headless>=4.11,<5", or use the face detector yunet'
        )
    return path


def _face(square: NDArray[np.int32], scale: float) -> Detection:
    x, y, width, height = (float(value) / scale for value in square)
    side = _SIDE * width
    return Detection(Box(x + (width - side) / 2, y + (height - side) / 2 + _LOWER * side, side, side))


class WholePicture:
    """No search: every picture is one face. For pictures that are face crops already."""

    name, searches = "whole", False

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
    if name not in DETECTORS:
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


class YuNetDetector:
    """YuNet through `cv2.FaceDetectorYN`. Raises ModelError when the file is missing or is not YuNet."""

    name, searches = "yunet", True

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
        self.path = path
        self._whole_path = path.absolute()
        self._data = np.frombuffer(content, np.uint8)
        self._threads = threading.local()  # a FaceDetectorYN keeps the size of the picture it works on
        try:
            self._look(np.zeros((32, 32, 3), np.uint8), 32)
        except (cv2.error, IndexError) as error:
            raise ModelError(f"{path} is not a YuNet file that OpenCV can use; {by_hand()}") from error

    def __reduce__(self) -> tuple[type[YuNetDetector], tuple[Path]]:
        return YuNetDetector, (self._whole_path,)

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """See Detector.detect."""
        if too_thin(image):
            return ()
        image, first_scale = _PYRAMID.shrink(squeeze_channel(image))
        bgr = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR)
        return suppress_contained(
            [detection_of_row(row, first_scale) for row in _PYRAMID.search(bgr, self._look)]
        )

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


@dataclass(frozen=True)
class Published:
    """A file as OpenCV Zoo publishes it. sha256: as in the Git LFS pointer of its repository."""

    name: str
    sha256: str
    address: str


NEWEST = Published(_2026, "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0", _ZOO + _2026)
OLDER = Published(_2023, "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", _ZOO + _2023)
KNOWN = {file.sha256: file.name for file in (NEWEST, OLDER)}


def yunet_folder() -> Path:
    """Return the folder for caches in which files of face detectors lie."""
    return cache_folder() / "face-detectors"


def chosen_file(named: Path | None = None) -> Path | None:
    """Return the file that the user chose: the named one, else what $MIEN_YUNET names, else None.

    Raises ModelError where the variable names no file: a wrong setting must not be passed over in silence.
    """
    if named is not None:
        return named
    if chosen := os.environ.get(VARIABLE):
        path = expanded(chosen)
        if not path.is_file():
            raise ModelError(f"{VARIABLE} names {path}, and there is no such file; correct it or unset it")
        return path
    return None


def yunet_file(named: Path | None = None) -> Path | None:
    """Return the file to use: the chosen one, else the newest in the folder for caches, else None."""
    return chosen_file(named) or max(
        yunet_folder().glob("face_detection_yunet_*.onnx"), key=_age, default=None
    )


def by_hand() -> str:
    """Say what to do without the download."""
    return f"save {NEWEST.name} from {WHERE} in {yunet_folder()}"


def fetch_yunet(file: Published = NEWEST) -> Path:
    """Download a file into the folder for caches, unless it is there already; return where it lies.

    It is kept only when its SHA-256 is right. Raises ModelError, with what to do by hand, when it cannot be had;
    OutputError when it cannot be written.
    """
    target = yunet_folder() / file.name
    if target.is_file() and _sha256(target.read_bytes()) == file.sha256:
        return target
    content = _downloaded(file)
    if _sha256(content) != file.sha256:
        raise ModelError(
            f"what {_host(file)} sent is not {file.name}, or not all of it: {len(content):,} bytes with SHA-256 "
            f"{_sha256(content)[:12]}…, expected {file.sha256[:12]}…; nothing was kept; {by_hand()}"
        )
    with whole_file(target) as temporary:
        temporary.write_bytes(content)
    return target


def _downloaded(file: Published) -> bytes:
    # With urllib.request a tenth of a second that only a download needs.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(file.address, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read(_LARGEST_BYTES))
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise ModelError(
            f"{file.name} cannot be downloaded from {_host(file)} ({_reason(error)}); without a network: {by_hand()}, "
            f"or name your copy with --detector-file or {VARIABLE}"
        ) from error


def _reason(error: Exception) -> str:
    """Word what urllib met: its own wrapping says nothing, and some errors have no text."""
    cause = getattr(error, "reason", error)
    return str(cause).strip() or type(cause).__name__


def _host(file: Published) -> str:
    return urlsplit(file.address).netloc


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _age(path: Path) -> tuple[int, str]:
    """Order YuNet's files by the year in their names: 2023mar comes before 2026may."""
    stamp = path.stem.removeprefix("face_detection_yunet_")
    return int(stamp[:4]) if stamp[:4].isdigit() else 0, stamp
