"""The doors: a path or bytes in, an upright grey or RGB array out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images.headers import Header, read_header
from mien.images.noise import damage_heard

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
# 200 megapixels: above any camera, below what fills a small machine (600 MB decoded).
MAX_PIXELS = 200_000_000
_NOT_ALPHA = ("JPEG", "TIFF")  # OpenCV mixes CMYK itself; its fourth channel of a TIFF may be ink


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode one picture file; see decode_image. Raises ImageError also when the file cannot be opened."""
    return decode_image(read_bytes(path, str(path)), str(path))


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of a picture file. Not by cv2.imread: on Windows it fails on non-ASCII names."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{name} cannot be opened: {error.strerror or error}") from error


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode one picture.

    name: what to call it in messages. Returns (height, width) uint8 where the file is grey, otherwise
    (height, width, 3) uint8, RGB. The rotation that Exif asks for is applied; transparent pictures are laid
    over white; 16 bits a channel are scaled to 8; CMYK is mixed to RGB; of an animation the first frame is
    taken. Raises ImageError, in one line, for whatever is no picture, too large, cut short or damaged: a JPEG
    for which libjpeg complains counts as damaged, because part of it then is grey or noise.
    """
    with damage_heard() as heard:
        picture = decode_known(data, name)
    if damage := list(filter(is_damage, heard)):
        raise ImageError(f"{name} is damaged ({damage[0]}); get the file again, or open it and save it anew")
    return picture


def is_damage(line: str) -> bool:
    """Say whether a line that a decoder printed means a picture with grey or noise in it; warnings do not."""
    return line.startswith("Corrupt JPEG")


def decode_known(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode like decode_image, but without listening for damage, so that threads need not wait.

    For pictures that were examined before, or within a `damage_heard` block around many.
    """
    header = read_header(data, name)
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {header.width}x{header.height} pixels, more than {MAX_PIXELS // 1_000_000} "
            f"megapixels; make it smaller first"
        )
    if len(data) < header.least_bytes:  # found out here and not after seconds of filling memory with nothing
        raise ImageError(
            f"{name} is cut short or made up: {len(data):,} bytes cannot hold {header.width}x{header.height} pixels; "
            "get the file again or delete it"
        )
    colour = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    flags = colour if header.kind in _NOT_ALPHA else cv2.IMREAD_UNCHANGED
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        stored = None
    if stored is None:
        raise ImageError(
            f"{name} is a {header.kind} file that cannot be decoded: it is cut short, damaged or of a rare "
            f"kind; get the file again or save it as PNG"
        )
    return _finished(np.asarray(stored), header, name)


def _finished(stored: NDArray[np.generic], header: Header, name: str) -> NDArray[np.uint8]:
    if stored.dtype == np.uint16:  # 65535 becomes 255: scaled, not clipped
        stored = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if stored.dtype != np.uint8:
        raise ImageError(f"{name} holds {stored.dtype} values; save it with 8 or 16 bits a channel")
    pixels: NDArray[np.uint8] = stored  # type: ignore[assignment]
    if pixels.ndim == 3:
        pixels = _rgb(pixels, header.kind)
    return np.ascontiguousarray(upright(pixels, header.orientation))


def _rgb(pixels: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """Turn OpenCV's BGR or BGRA into RGB, transparent parts over white, as a page would show them.

    A grey picture with transparency comes from OpenCV as BGRA with equal colours: it becomes grey again.
    """
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    if pixels.shape[2] == 3:
        return np.asarray(
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8
        )  # many times faster than a turned view
    over = over_white(pixels)
    if kind == "PNG" and (over == over[:, :, :1]).all():
        return over[:, :, 0]
    return over[:, :, ::-1]


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (height, width, 4), the last one alpha, over white: (height, width, 3), colours in the same order."""
    colours, alpha = pixels[:, :, :3].astype(np.uint16), pixels[:, :, 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the orientation 1-8 of Exif (CIPA DC-008, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
