"""The doors: a path, bytes or a Pillow image in, an upright grey or RGB array out.

JPEG files go through libjpeg, which answers nearly everything, and says in a warning where it had to guess: then part
of the picture is grey or noise. OpenCV prints these warnings, Pillow drops them, TurboJPEG (through simplejpeg) returns
them as values. Some of them mean no harm: cameras write bytes behind a picture's data, or leave its end out. Such a
file is tried again without what is odd, and counts as whole when nothing is missing or left over then.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images.headers import Header, check_size, open_with_pillow, read_header, undecodable

_EXIF_ORIENTATION, _PHOTOMETRIC = 274, 262  # tags of TIFF
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
END = b"\xff\xd9"
_RESTART = rb"(\xff[\xd0-\xd7])"
_INTERVAL = re.compile(rb"\xff\xdd\x00\x04([\s\S]{2})")  # blocks between restart markers
_WIDEST = 65_500
_MOST_COPIED = 200_000_000  # bytes; each interval is decoded with the header of all
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd([0-9])?")
# Warnings of libjpeg about headers. All its others are of data that is missing, left over or not what it should be.
_HARMLESS = (
    "Warning: unknown JFIF",
    "Unknown Adobe color",
    "Invalid SOS parameters",
    "Inconsistent progression",
)
_MOST_PADDING = 8
# What programs put behind a picture: other pictures, videos, Samsung's and Adobe's blocks. Where the end marker is
# missing they look like picture data.
_TRAILERS = re.compile(
    rb"\xff[\xd8\xe0-\xfe]|....ftyp|SEFH|MotionPhoto_Data|<\?xpacket|<x:xmpmeta|<\?xml|II\*\0|MM\0\*|Exif\0\0|PK\x03\x04",
    re.DOTALL,
)
_MOST_TRIALS = 4
_LEAST_TEXT = 16  # bytes behind the picture's data that can be told from data
_NO_END = "its end marker is missing"


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
    except ValueError as error:  # a zero byte in the name
        raise ImageError(f"{name!r} cannot be opened: {error}") from error


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
        raise ImageError(undecodable(name, header.kind, _on_one_line(error))) from error
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
        levels = np.asarray(image)
        over = _from_16_bits(_black_is_zero(levels, image), name)
        over[levels == image.info.get("transparency", -1)] = 255
        return over
    if image.mode == "F":
        raise ImageError(f"{name} holds float32 values, of any size; scale it to 0-255 and make it 8 bits")
    grey = image.mode in ("L", "1", "LA", "La")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        over = over_white(np.asarray(image.convert("RGBA"), np.uint8))
        return over[:, :, 0] if grey else over
    return np.asarray(image.convert("L" if grey else "RGB"), np.uint8)


def _black_is_zero(levels: NDArray[np.generic], image: PillowImage) -> NDArray[np.generic]:
    """Turn the levels of a TIFF round whose zero is white (TIFF 6.0, page 37): of 16 bits Pillow leaves that to us."""
    white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return np.bitwise_not(levels) if white_is_zero and levels.dtype == np.uint16 else levels


def _from_16_bits(levels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    lowest, highest = (int(levels.min()), int(levels.max())) if levels.size else (0, 0)
    if levels.dtype.itemsize > 2 and 0 <= lowest <= highest <= 255:  # NumPy's int32, saved as it was
        return levels.astype(np.uint8)
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


class UnknownKind(ValueError):
    """A JPEG that TurboJPEG does not decode (rare subsampling), or that is none."""


class Damaged(ValueError):
    """A JPEG of which part is missing or noise; says what libjpeg had to say."""


def decode_jpeg(data: bytes, header: Header) -> tuple[NDArray[np.uint8], str]:
    """Return the stored pixels, (height, width) or (height, width, 3) uint8 RGB, and a warning ('' where all is well).

    Raises Damaged, or UnknownKind. Only what lies up to the end marker is decoded.
    """
    whole = data[: header.end] + (b"" if header.has_end else END)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(whole, strict=False)
    except (ValueError, KeyError) as error:
        raise UnknownKind(str(error)) from error
    if (width, height) != (header.width, header.height):  # the limit of pixels must hold for what is decoded
        raise Damaged(f"it claims {header.width}x{header.height} and {width}x{height} pixels")
    if not header.complete:  # libjpeg takes what there is, and shows a coarse picture
        raise Damaged("premature end: its last scans are missing")
    said = ""
    try:
        return _decoded(whole, header), "" if header.has_end else _NO_END
    except Damaged as error:
        said = str(error)
    for candidate, warning in _repaired(data, whole, header, said):
        try:
            _decoded(candidate, header, smaller=8)  # three times faster, with the same warnings
            return _decoded(candidate, header), warning
        except Damaged:
            continue
    raise Damaged(said)


def _decoded(data: bytes, header: Header, smaller: int = 1) -> NDArray[np.uint8]:
    least = {"min_height": 1, "min_width": 1, "min_factor": smaller} if smaller > 1 else {}
    colours = "GRAY" if header.channels == 1 else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, strict=True, **least)
    except ValueError as error:
        if not str(error).startswith(_HARMLESS):
            raise Damaged(str(error)) from error
        try:
            pixels = simplejpeg.decode_jpeg(data, colours, strict=False, **least)
        except ValueError as worse:
            raise Damaged(str(worse)) from worse
    return np.asarray(pixels[:, :, 0] if header.channels == 1 else pixels, np.uint8)


def _repaired(data: bytes, whole: bytes, header: Header, said: str) -> Iterator[tuple[bytes, str]]:
    """Yield what the file would be without what may be odd in it, and what to say of it; likeliest first."""
    found = _LEFT_OVER.search(said)
    before_restart = found is not None and found[2] is not None and found[2] not in "89"
    if before_restart and found is not None:  # as some webcams write, to fill words
        start = header.scan_start
        for padding in range(1, min(int(found[1]), _MOST_PADDING) + 1):
            without = re.sub(rb"[\s\S]{%d}" % padding + _RESTART, rb"\1", whole[start:])
            yield whole[:start] + without, "padding lies before its restart markers"
            yield whole[:start] + without[: -len(END) - padding] + END, "padding lies before its markers"
        if header.scan_start == header.last_scan and (shorter := _without_zeros(whole, header)):
            yield shorter, "padding lies before its restart markers"
    yield from _without_trailer(data, header, int(found[1]) if found else 0)


def _without_zeros(data: bytes, header: Header) -> bytes | None:
    """Take away the zeros before the markers of a JPEG of one scan, as many as lie there; None where that is not all.

    The last byte of an interval's data can be zero as well. So each interval is decoded by itself, as a JPEG of one row
    of blocks, without its zeros, or with one of them.
    """
    found = _INTERVAL.search(data[: header.scan_start])
    components = [data[header.frame + 9 + 3 * number] for number in range(header.channels)]
    if found is None or not components:
        return None
    across, down = (
        (8, 8)
        if len(components) == 1
        else (
            8 * max(sampling >> 4 for sampling in components),
            8 * max(sampling & 15 for sampling in components),
        )
    )
    blocks = int.from_bytes(found[1], "big")
    left = -(-header.width // max(across, 8)) * -(-header.height // max(down, 8))
    intervals = re.split(_RESTART, data[header.scan_start : -len(END)])
    if len(intervals) * header.scan_start > _MOST_COPIED:
        return None
    for place in range(0, len(intervals), 2):
        count = min(blocks, left)
        if count < 1 or count * across > _WIDEST:
            return None
        left -= count
        bare = re.sub(rb"(?<!\xff)\0+\Z", b"", intervals[place])
        size = struct.pack(">HH", down, count * across)
        head = data[: header.frame + 3] + size + data[header.frame + 7 : header.scan_start]
        for interval in (bare, bare + b"\0"):
            with suppress(Damaged):
                _decoded(head + interval + END, header, smaller=8)
                intervals[place] = interval
                break
        else:
            return None
    return data[: header.scan_start] + b"".join(intervals) + END


def _without_trailer(data: bytes, header: Header, left_over: int) -> Iterator[tuple[bytes, str]]:
    """Yield the picture without what may lie between its data and its end marker, or behind its data where none is."""
    start = header.last_scan
    end = header.end - len(END) if header.has_end else header.end
    bare = data[:end].rstrip(b"\0")
    for shorter in (bare, bare.rstrip(b"\xff"), bare + b"\0"):
        if start < len(shorter) < end:
            yield shorter + END, "bytes of padding lie behind the picture's data"
    if header.has_end:
        return
    warning = "its end marker is missing before what lies behind it"
    for found in islice(_TRAILERS.finditer(data, start), _MOST_TRIALS):
        yield data[: found.start()].rstrip(b"\0") + END, warning
    if left_over >= _LEAST_TEXT and _is_text_like(data[end - left_over : end][:4096]):
        for cut in range(end - left_over - 2, end - left_over + 3):
            yield data[:cut] + END, warning


def _is_text_like(block: bytes) -> bool:
    """Say whether letters and zeros prevail, as in a program's notes; of compressed data they are 38 %."""
    return sum(32 <= byte < 127 or byte in b"\0\t\n\r" for byte in block) > 0.7 * len(block)
