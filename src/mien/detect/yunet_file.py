"""Where YuNet's file comes from: named, $MIEN_YUNET, or the folder for caches; fetched only when that is asked for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mien.errors import ModelError
from mien.files import cache_folder, whole_file

WHERE = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
VARIABLE = "MIEN_YUNET"
_TIMEOUT_S = 30.0
_LARGEST_BYTES = 4_000_000  # far above YuNet; keeps a page that was sent in its place from filling the memory


@dataclass(frozen=True)
class Published:
    """A file as OpenCV Zoo publishes it. sha256: as in the Git LFS pointer of its repository."""

    name: str
    sha256: str
    address: str


# Pinned to a commit. The files lie in Git LFS, which is why the address is not that of the page.
_ZOO = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/47534e27c9851bb1128ccc0102f1145e27f23f98"
    "/models/face_detection_yunet/"
)
_2026 = "face_detection_yunet_2026may.onnx"
_2023 = "face_detection_yunet_2023mar.onnx"
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
        path = Path(chosen).expanduser()
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
    from http.client import (
        HTTPException,
    )  # with urllib.request a tenth of a second that only a download needs
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
