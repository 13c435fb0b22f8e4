"""The doors: a path, bytes or a Pillow image in, an upright grey or RGB array out."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images.decoder_warnings import Damaged, UnknownKind, decode_jpeg
from mien.images.headers import Header, check_size, open_with_pillow, read_header

_EXIF_ORIENTATION = 274
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


class DecoderWarning(UserWarning):
    """A picture was decoded whole although its file is written oddly."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """pixels: as of decode_image. warning: what is odd about the file, in one line with its name; '' where nothing."""

    pixels: NDArray[np.uint8]
    warning: str = ""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode one picture file; see decode_image. Raises ImageError also when the file cannot be opened."""
    return decode_image(read_bytes(path, str(path)), str(path))


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of a picture file."""
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
    of which libjpeg had to guess a part counts as damaged, because that part is grey or noise. Warns (DecoderWarning)
    of a file that is written oddly though nothing of its picture is missing.
    """
    decoded = decode(data, name)
    if decoded.warning:
        warnings.warn(decoded.warning, DecoderWarning, stacklevel=2)
    return decoded.pixels


def decode_each(files: Sequence[tuple[bytes, str]], pool: Executor) -> list[Decoded | ImageError]:
    """Decode (content, name) pairs in the threads of a pool; return the picture or what is wrong with it for each."""
    return list(pool.map(decode_or_error, files))


def decode_or_error(file: tuple[bytes, str]) -> Decoded | ImageError:
    """Like decode, with the ImageError returned."""
    try:
        return decode(*file)
    except ImageError as error:
        return error


def decode(data: bytes, name: str) -> Decoded:
    """Decode like decode_image, with the warning as a value."""
    header = read_header(data, name)
    check_size(header, data, name)
    if header.kind == "JPEG":
        return _jpeg(data, header, name)
    warning = ""
    if header.kind == "PNG":
        data, warning = _checked_png(data, header, name)
    return Decoded(_by_pillow(data, header, name), warning)


def _jpeg(data: bytes, header: Header, name: str) -> Decoded:
    try:
        pixels, oddity = decode_jpeg(data, header)
    except UnknownKind:
        return Decoded(_by_pillow(data[: header.end], header, name))
    except Damaged as error:
        what = "cut short" if not header.has_end and "remature end" in str(error) else "damaged"
        raise ImageError(
            f"{name} is {what} ({error}); get the file again, or open it and save it anew"
        ) from error
    warning = f"{name} is written oddly ({oddity}), but nothing of its picture is missing" if oddity else ""
    return Decoded(np.ascontiguousarray(upright(pixels, header.orientation)), warning)


def _checked_png(data: bytes, header: Header, name: str) -> tuple[bytes, str]:
    """Return a PNG of only the parts that make its pixels: texts and profiles may be bombs. Their sums are checked."""
    view = memoryview(data)
    for start, end in header.parts:
        stated = int.from_bytes(view[end - 4 : end], "big")
        if end <= len(data) and zlib.crc32(view[start + 4 : end - 4]) != stated:
            raise ImageError(
                f"{name} is damaged (a check sum of this PNG is wrong); get the file again, or open it and save it anew"
            )
    kept = b"".join([data[:8], *(view[start:end] for start, end in header.parts)])
    if header.has_end:
        return kept, ""
    end_part = b"\0\0\0\0IEND\xae\x42\x60\x82"
    return (
        kept + end_part,
        f"{name} is written oddly (its end is missing), but nothing of its picture is missing",
    )


def _by_pillow(data: bytes, header: Header, name: str) -> NDArray[np.uint8]:
    image = open_with_pillow(data, header.kind, name)
    if image.size != (header.width, header.height):
        raise ImageError(
            f"{name} is damaged or made up: it claims {header.width}x{header.height} and "
            f"{image.width}x{image.height} pixels; get the file again"
        )
    try:
        pixels = _pixels(image, name)
        own = (
            header.orientation
            if header.kind in ("PNG", "JPEG", "WebP")
            else image.getexif().get(_EXIF_ORIENTATION, 1)
        )
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        raise ImageError(
            f"{name} is a {header.kind} file that cannot be decoded: it is cut short, damaged or of a rare kind "
            f"({_on_one_line(error)}); get the file again or save it as PNG"
        ) from error
    return np.ascontiguousarray(upright(pixels, own))


def _on_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.isprintable() and len(text) < 100 else type(error).__name__


class PillowImage(Protocol):
    """What is used of a `PIL.Image.Image`."""

    @property
    def mode(self) -> str: ...
    @property
    def info(self) -> dict[Any, Any]: ...
    def convert(self, mode: str) -> Any: ...
    def getexif(self) -> Any: ...


def from_pillow(image: PillowImage) -> NDArray[np.uint8]:
    """Turn a Pillow image into what `decode_image` would give for its file.

    Returns (height, width) or (height, width, 3) uint8, RGB, upright, over white, 16 bits scaled to 8. Raises
    ImageError for what is no Pillow image, cannot be decoded, or holds floating-point or 32-bit values.
    """
    if not all(hasattr(image, name) for name in ("mode", "info", "convert", "getexif")):
        raise ImageError(
            f"a Pillow image is needed here, got {type(image).__name__}; there are other doors for arrays, "
            "bytes and files"
        )
    try:
        pixels = _pixels(image, "the Pillow image")
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)  # after decoding: a TIFF is turned by then
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises when it decodes late
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"the Pillow image cannot be decoded: {error}") from error
    return np.ascontiguousarray(upright(pixels, orientation))


def _pixels(image: PillowImage, name: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_16_bits(np.asarray(image), name)
    if image.mode == "F":
        raise ImageError(f"{name} holds float32 values, of any size; scale it to 0-255 and make it 8 bits")
    grey = image.mode in ("L", "1", "LA", "La")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        over = over_white(np.asarray(image.convert("RGBA"), np.uint8))
        return over[:, :, 0] if grey else over
    return np.asarray(image.convert("L" if grey else "RGB"), np.uint8)


def _from_16_bits(levels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    lowest, highest = (int(levels.min()), int(levels.max())) if levels.size else (0, 0)
    if not 0 <= lowest <= highest <= 65535:
        raise ImageError(f"{name} with levels from {lowest} to {highest} has no known scale; make it 8 bits")
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


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


def workers() -> int:
    """Return one thread for each processor that this process may use, at most 32."""
    mine = getattr(os, "sched_getaffinity", None)
    return min(32, len(mine(0)) if mine else os.cpu_count() or 1)
