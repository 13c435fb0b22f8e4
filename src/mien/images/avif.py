"""How many pixels the decoder of an AVIF will make, whatever its boxes claim.

The size that a reader sees is that of a box (ispe); the decoder makes frames of the size in the AV1 data and scales
them to the box's. So a kilobyte that claims 10x10 pixels can take gigabytes. This module reads the sizes of the data.
Sources: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items), AV1 Bitstream Specification 5.3 and 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MOST_BOXES = 10_000
_MOST_ITEMS = 10_000
_MOST_UNITS = 1_000
_SEQUENCE_HEADER = 1


def as_still(data: bytes) -> bytes:
    """Return the file as one without its film, if it is an image sequence: the primary item is the picture then."""
    for kind, start, _, _ in _boxes(data, 0, len(data)):
        if kind == b"moov":
            data = data[: start + 4] + b"free" + data[start + 8 :]
    (end,) = struct.unpack_from(">I", data)
    # Libavif looks for a film where a brand says so.
    return data[:8] + data[8:end].replace(b"avis", b"avif") + data[end:]


def coded_pixels(data: bytes) -> int:
    """Return the sum of the pixels of all coded pictures in the file: colours, transparency, tiles, thumbnails.

    Raises IndexError or struct.error where its boxes or its data are damaged.
    """
    meta = next((box for box in _boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None:
        raise IndexError("no meta box")
    inside = {kind: (body, end) for kind, _, body, end in _boxes(data, meta[2] + 4, meta[3])}
    coded = _coded_items(data, *inside[b"iinf"]) if b"iinf" in inside else set()
    idat = inside.get(b"idat", (0, 0))[0]
    total = 0
    for item, places in _locations(data, *inside.get(b"iloc", (0, 0)), idat):
        if item in coded:
            content = b"".join(data[at : at + length if length else None] for at, length in places)
            sizes = [width * height for width, height in _sequence_sizes(content)]
            if not sizes:
                raise IndexError("AV1 data without a sequence header")
            total += max(sizes)
    if not total:
        raise IndexError("no AV1 pictures")
    return total


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start, start of the body and end of the boxes between two places."""
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        stop = end if length == 0 else at + length
        if stop < body or stop > end:
            stop = end
        yield kind, at, body, stop
        at = stop
    raise IndexError("too many boxes")


def _coded_items(data: bytes, body: int, end: int) -> set[int]:
    """Return the numbers of the items that are AV1 pictures."""
    found = set()
    first = body + (6 if data[body] == 0 else 8)
    for kind, _, inner, _ in _boxes(data, first, end):
        if kind == b"infe" and data[inner] >= 2:
            wide = data[inner] > 2
            number, _, what = struct.unpack_from(">IH4s" if wide else ">HH4s", data, inner + 4)
            if what == b"av01":
                found.add(number)
    return found


def _locations(data: bytes, body: int, end: int, idat: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the number of each item and where its bytes lie, (start, length; 0: to the end)."""
    if not end:
        return
    version, sizes = data[body], struct.unpack_from(">H", data, body + 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    at = body + 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > end:
            raise IndexError("the list of items ends early")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    wide = 4 if version == 2 else 2
    for _ in range(min(number(wide), _MOST_ITEMS)):
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)  # which file: this one
        base = number(base_size)
        places = []
        for _ in range(number(2)):
            number(index_size)
            start = base + number(offset_size) + (idat if method == 1 else 0)
            places.append((start, number(length_size)))
        if method > 1:
            raise IndexError("an item inside another")
        yield item, places


def _sequence_sizes(units: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of each sequence header among the units of AV1 data (5.3)."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(units):
            return
        kind, extended, sized = units[at] >> 3 & 15, units[at] >> 2 & 1, units[at] >> 1 & 1
        at += 1 + extended
        size = len(units) - at
        if sized:
            size = shift = 0
            for _ in range(8):
                byte = units[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        if kind == _SEQUENCE_HEADER:
            yield _sequence_size(_Bits(units[at : at + size]))
        at += size
    raise IndexError("too many units of AV1 data")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:256], "big"), 8 * len(data[:256])

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError("the sequence header ends early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1


def _sequence_size(bits: _Bits) -> tuple[int, int]:
    """Return the largest frame of a sequence header (AV1, 5.5.1)."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced: of one still picture
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    model = delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # a number in uvlc: as many bits behind the first one as zeros before it
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(zeros)
        model = bits.take(1)
        if model:
            delay_bits = bits.take(5) + 1
            bits.take(42)
    delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delays and bits.take(1):
            bits.take(4)
