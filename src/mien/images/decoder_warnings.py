"""JPEG files through libjpeg, whose warnings come back as values: what is damaged, and what is only written oddly.

libjpeg answers nearly everything, and says in a warning where it had to guess: then part of the picture is grey or
noise. OpenCV prints these warnings, Pillow drops them, TurboJPEG (through simplejpeg) returns them. Some of them mean
no harm: cameras write bytes behind a picture's data, or leave its end out. Such a file is tried again without what is
odd, and counts as whole when nothing is missing or left over then.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mien.images.headers import Header

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
