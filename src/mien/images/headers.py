"""What a picture file says of itself before it is decoded: kind, size, rotation, and whether it is whole.

Read by hand because OpenCV decodes first and asks later: a few bytes can claim gigabytes of pixels, a JPEG
that was cut short can come back half grey, and whether rotation is honoured differs between its versions and
formats.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mien.errors import ImageError

READ = "JPEG, PNG, GIF, WebP, BMP, TIFF and PGM/PPM"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # JPEG markers without a length
# Inside the compressed data of a JPEG: 0xFF followed by neither a stuffed zero, a restart marker nor a fill
# byte.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
# Parts of a JPEG, PNG or WebP: far above what any program writes; without a limit, a file that is nothing but empty
# parts keeps Python busy for minutes.
_MOST_PARTS = 100_000
_MOST_SCANS = 100  # of a JPEG; each costs a pass over all pixels, and a progressive one has about ten
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_ORIENTATION, _WIDTH, _HEIGHT = 274, 256, 257  # TIFF tags
# HEIF's (ISO/IEC 23008-12) and AVIF's; the brands of videos are too many to list.
_PICTURE_BRANDS = (
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"mif1",
    b"mif2",
    b"msf1",
    b"avif",
    b"avis",
)
HEAD_BYTES = 1024  # of a file, enough to tell its kind
# Raw photographs of cameras. Most are TIFF files, of which decoders read only the thumbnail.
RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw",
    ".rw2", ".rwl", ".sr2", ".srw", ".x3f",
)  # fmt: skip
_PICTURES = (  # kinds that are read, or refused with a reason; at an offset, these bytes
    ("JPEG", 0, b"\xff\xd8\xff"), ("PNG", 0, b"\x89PNG\r\n\x1a\n"), ("GIF", 0, b"GIF87a"), ("GIF", 0, b"GIF89a"),
    ("WebP", 8, b"WEBP"), ("TIFF", 0, b"II*\0"), ("TIFF", 0, b"MM\0*"), ("JPEG 2000", 4, b"jP  \r\n\x87\n"),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"), ("Sun raster", 0, b"\x59\xa6\x6a\x95"), ("QOI", 0, b"qoif"),
    ("PSD", 0, b"8BPS\0\1"), ("JPEG XL", 0, b"\xff\x0a"), ("JPEG XL", 4, b"JXL \r\n\x87\n"),
)  # fmt: skip
_OTHERS = (
    ("PDF", 0, b"%PDF"), ("zip archive", 0, b"PK\3\4"), ("zip archive", 0, b"PK\5\6"),
    ("gzip archive", 0, b"\x1f\x8b"), ("7z archive", 0, b"7z\xbc\xaf\x27\x1c"), ("rar archive", 0, b"Rar!"),
    ("video", 0, b"\x1a\x45\xdf\xa3"), ("video", 8, b"AVI "), ("video", 0, b"\0\0\1\xba"), ("video", 0, b"\0\0\1\xb3"),
    ("video", 0, b"FLV\1"), ("audio", 8, b"WAVE"), ("audio", 0, b"ID3"), ("audio", 0, b"OggS"), ("audio", 0, b"fLaC"),
    ("audio", 0, b"\xff\xfb"), ("HDF5", 0, b"\x89HDF\r\n\x1a\n"), ("NumPy", 0, b"\x93NUMPY"), ("Parquet", 0, b"PAR1"),
    ("icon", 0, b"\0\0\1\0"), ("camera raw", 0, b"FUJIFILMCCD-RAW"), ("xz archive", 0, b"\xfd7zXZ\0"),
    ("program", 0, b"\x7fELF"), ("program", 0, b"MZ"), ("SQLite", 0, b"SQLite format 3"),
)  # fmt: skip
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEFLATE_MOST = 1032  # to one byte: 258 bytes in two bits (RFC 1951)


@dataclass(frozen=True)
class Header:
    """width and height in pixels as stored; orientation 1-8 as Exif counts them (1: upright).

    least_bytes: a file that is smaller cannot hold so many pixels; 0 where we cannot say.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    least_bytes: int = 0


def content_kind(head: bytes) -> tuple[str, bool]:
    """Tell a file's kind by its first HEAD_BYTES; the second says whether it is a picture. Unknown is ('', False).

    Pictures that only newer programs read (HEIC, JPEG XL) count as pictures: opening one says what to do.
    """
    if not head:
        return "empty", False
    for kind, at, magic in _PICTURES:
        if head[at : at + len(magic)] == magic and (kind != "WebP" or head[:4] == b"RIFF"):
            return kind, True
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "BMP", True
    if _PNM.match(head) or head[:3] == b"P7\n":
        return "PNM", True
    if head[4:8] == b"ftyp":
        is_picture = _is_picture_brand(head)
        return ("HEIF" if is_picture else "video"), is_picture
    for kind, at, magic in _OTHERS:
        if head[at : at + len(magic)] == magic:
            return kind, False
    return ("text" if _is_text(head) else ""), False


_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))


def _is_picture_brand(head: bytes) -> bool:
    (size,) = struct.unpack_from(">I", head)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)) - 3, 4))}
    return not brands.isdisjoint(_PICTURE_BRANDS)


def _is_text(head: bytes) -> bool:
    try:
        head[:-3].decode()  # a letter may be cut at the end
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def read_header(data: bytes, name: str) -> Header:
    """Read the header of a picture file.

    name: what to call the file in messages. Raises ImageError when the bytes are no picture of a kind that we
    read, or a JPEG without its end.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); get the file again or delete it")
    try:
        header = _by_kind(data, name)
    except (struct.error, IndexError) as error:
        raise ImageError(
            f"{name} is cut short: its header ends early; get the file again or delete it"
        ) from error
    if header.width < 1 or header.height < 1:
        raise ImageError(f"{name} is damaged: it claims {header.width}x{header.height} pixels; get it again")
    return header


def _by_kind(data: bytes, name: str) -> Header:
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg(data, name)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(data, name)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return Header("GIF", *struct.unpack_from("<HH", data, 6))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data, name)
    if data[:2] == b"BM":
        width, height = struct.unpack_from("<ii", data, 18)
        return Header("BMP", width, abs(height))
    if data[:4] in (b"II*\0", b"MM\0*"):
        tags = _tiff_tags(data)  # not its orientation: OpenCV turns TIFF files itself, whatever the flags say
        return Header("TIFF", tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0))
    if found := _PNM.match(data[:1000]):
        return Header("PNM", int(found[1]), int(found[2]))
    if data[4:8] == b"ftyp":
        raise _boxes(data[8:12], name)
    raise ImageError(f"{name} is not a picture (it begins with {data[:12]!r}); we read {READ}")


def _boxes(brand: bytes, name: str) -> ImageError:
    """Return the error for a file of boxes (ISO/IEC 14496-12), which may be a picture or a video. brand: its first."""
    if brand not in _PICTURE_BRANDS:
        return ImageError(
            f"{name} is a video (MP4 or the like), not a picture; for videos there is: mien video FILE"
        )
    kind, ending = ("an AVIF", "avif") if brand[:3] == b"avi" else ("a HEIC", "heic")
    return ImageError(
        f"{name} is {kind} picture, which OpenCV cannot read everywhere; save it as JPEG or PNG first "
        f"(ImageMagick: magick IN.{ending} OUT.jpg)"
    )


def _jpeg(data: bytes, name: str) -> Header:
    width = height = scans = 0
    orientation = 1
    position = 2
    for _ in range(_MOST_PARTS):
        marker = _MARKER.search(data, position)
        if marker is None:
            raise ImageError(
                f"{name} is cut short: a JPEG without its end-of-image marker; get the file again or delete it"
            )
        kind, position = data[marker.end() - 1], marker.end()
        if kind == 0xD9:
            return Header("JPEG", width, height, orientation)
        if kind in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if kind in _START_OF_FRAME and not width:
            height, width = struct.unpack_from(">HH", data, position + 3)
        elif kind == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 8 : position + length])
        position += max(length, 2)
        if kind == 0xDA:  # start of scan: compressed data without a length follows
            after = _NEXT_MARKER.search(data, position)
            position = after.start() if after else len(data)
            if (scans := scans + 1) > _MOST_SCANS:
                raise ImageError(
                    f"{name} is made up: it has more than {_MOST_SCANS} scans, and no program writes so many; delete it"
                )
    raise _too_many_parts(name)


def _too_many_parts(name: str) -> ImageError:
    return ImageError(
        f"{name} is made up: it has more than {_MOST_PARTS:,} parts, and no program writes so many; delete it"
    )


def _png(data: bytes, name: str) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    raw_bytes = height * (width * bits * _PNG_CHANNELS.get(colour, 1) // 8)
    orientation = 1
    for kind, length, body in _chunks(data, 8, ">I", name, length_first=True):
        if length > len(data):  # OpenCV would ask for that much memory first
            raise ImageError(
                f"{name} is cut short: one part of it claims {length:,} bytes, the file has {len(data):,}; get the "
                "file again or delete it"
            )
        if kind == b"eXIf":
            orientation = _exif_orientation(body)
    return Header("PNG", width, height, orientation, raw_bytes // _DEFLATE_MOST)


def _webp(data: bytes, name: str) -> Header:
    width = height = 0
    orientation = 1
    for kind, _, body in _chunks(data, 12, "<I", name, length_first=False):
        if kind == b"VP8X" or (kind == b"VP8L" and not width):
            if kind == b"VP8X":
                width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
            else:
                bits = int.from_bytes(body[1:5], "little")
                width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 " and not width:
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", body, 6))
        elif kind == b"EXIF":
            orientation = _exif_orientation(body.removeprefix(b"Exif\0\0"))
    return Header("WebP", width, height, orientation)


def _chunks(
    data: bytes, position: int, number: str, name: str, *, length_first: bool
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield kind, length and body of the chunks of a PNG (length, kind, body, CRC) or RIFF file (kind, length, body).

    The body is shorter than its length where the file ends early.
    """
    parts = 0
    while position + 8 <= len(data):
        if (parts := parts + 1) > _MOST_PARTS:
            raise _too_many_parts(name)
        (length,) = struct.unpack_from(number, data, position + (0 if length_first else 4))
        kind = data[position + 4 : position + 8] if length_first else data[position : position + 4]
        yield kind, length, data[position + 8 : position + 8 + length]
        position += 8 + length + (4 if length_first else length % 2)


def _exif_orientation(block: bytes) -> int:
    """Return the orientation of an Exif block; 1 where it has none or is damaged (a picture stays usable)."""
    try:
        value = _tiff_tags(block).get(_ORIENTATION, 1)
    except (struct.error, IndexError):
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff_tags(block: bytes) -> dict[int, int]:
    """Return the whole-number tags of the first directory of a TIFF file or Exif block."""
    order = "<" if block[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, offset)
    tags = {}
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, _ = struct.unpack_from(order + "HHI", block, entry)
        if kind in (3, 4):  # SHORT, LONG
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, entry + 8)
    return tags
