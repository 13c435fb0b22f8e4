"""Films of the two sample portraits, side by side: for a browser's fake camera and for the page's player."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import mien

SAMPLES = Path(mien.__file__).parent / "samples"
SIZE = (320, 240)  # (width, height) of a frame: small, so that a busy machine keeps up
# Middle of the face in the sample, and how much of the sample's height is shown.
_CUTS = {"grace-hopper.jpg": (265, 190), "eileen-collins.jpg": (225, 130)}
_SHOWN_PX = 420


def two_portraits(time_s: float = 0.0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return (height, width, 3) uint8, BGR: both portraits, swaying a little with time."""
    half = (size[0] // 2, size[1])
    return np.hstack([_portrait(name, time_s + place, half) for place, name in enumerate(_CUTS)])


def _portrait(name: str, time_s: float, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    scale = height / _SHOWN_PX * (1 + 0.08 * np.sin(time_s))
    x, y = _CUTS[name][0] + 14 * np.sin(1.7 * time_s), _CUTS[name][1] + 6 * np.cos(1.3 * time_s)
    shift = np.array([[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]])
    picture = cv2.imread(str(SAMPLES / name))
    return np.asarray(cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_REPLICATE))


def write_camera(path: Path, frames: int = 20, size: tuple[int, int] = SIZE) -> Path:
    """Write what Chromium takes for --use-file-for-fake-video-capture: JPEG after JPEG."""
    path.write_bytes(b"".join(_jpeg(two_portraits(place / 10, size)) for place in range(frames)))
    return path


def write_webm(path: Path, frames: int, fps: float = 10.0, size: tuple[int, int] = SIZE) -> Path:
    """Write a VP8 film, which Chromium plays without licensed decoders."""
    code = cv2.VideoWriter.fourcc(*"VP80")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
    assert writer.isOpened()
    for place in range(frames):
        writer.write(two_portraits(place / fps, size))
    writer.release()
    return path


def write_picture(path: Path) -> Path:
    path.write_bytes(_jpeg(two_portraits(size=(640, 480))))
    return path


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
