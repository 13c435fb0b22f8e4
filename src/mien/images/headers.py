"""What a picture file says of itself before it is decoded: kind, size, rotation, and where its parts lie.

Of JPEG, PNG and WebP read by hand, the rest by Pillow. Before decoding, because a few bytes can claim gigabytes of
pixels; and as the decoder reads it, because a limit that looks at another size than the decoder is none.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mien.errors import ImageError
from mien.images.avif import as_still, coded_pixels

if TYPE_CHECKING:
    from PIL import Image

READ = "JPEG, PNG, GIF, WebP, AVIF, JPEG 2000, BMP, TIFF, PNM, PSD, QOI and Sun raster"
# 200 megapixels: above any camera, below what fills a small machine (600 MB decoded).
MAX_PIXELS = 200_000_000
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC, _PROGRESSIVE = range(0xC9, 0xD0), (0xC2, 0xC6, 0xCA, 0xCE)
_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # JPEG markers without a length
_START, _END, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
# Inside the compressed data of a JPEG: 0xFF followed by neither a stuffed zero, a restart marker nor a fill
# byte.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
# Parts of a JPEG, PNG, WebP or GIF: far above what any program writes; without a limit, a file that is nothing but
# empty parts keeps Python busy for minutes.
_MOST_PARTS = 100_000
# Scans of a JPEG; each costs a pass over all pixels. libjpeg writes ten, mozjpeg's search a few more.
_MOST_SCANS = 32
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_MOST_PLAIN_PNM_BYTES = 8_000_000  # numbers as text, which Pillow reads in Python
_ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 274, 322, 323  # TIFF tags
_MOST_TILE_PIXELS = 1 << 22
_MOST_CODED = (
    4  # pictures of the claimed size in an AVIF: colours, transparency, a thumbnail, the tiles' margins
)
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
_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))
_PILLOW = {
    "GIF": ("GifImagePlugin", "GifImageFile"), "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"), "PNM": ("PpmImagePlugin", "PpmImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"), "JPEG 2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"), "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "JPEG": ("JpegImagePlugin", "JpegImageFile"), "PSD": ("PsdImagePlugin", "PsdImageFile"),
    "QOI": ("QoiImagePlugin", "QoiImageFile"), "Sun raster": ("SunImagePlugin", "SunImageFile"),
}  # fmt: skip
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the rest may be megabytes of compressed text
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEFLATE_MOST = 1032  # to one byte: 258 bytes in two bits (RFC 1951)


@dataclass(frozen=True)
class Header:
    """width and height in pixels as the decoder will store them; orientation 1-8 as Exif counts them (1: upright).

    least_bytes: a file that is smaller cannot hold so many pixels; 0 where we cannot say. end: where the picture ends
    in the file, behind its end marker. has_end: whether it has one. channels, frame, scan_start, last_scan: of a
    JPEG; how many components, where its frame header begins, and the data of its first and last scan. complete: whether
    its scans give every coefficient to the last bit. parts: of a PNG; start and end of each part
    that decoding needs.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    least_bytes: int = 0
    end: int = 0
    has_end: bool = True
    channels: int = 3
    frame: int = 0
    scan_start: int = 0
    last_scan: int = 0
    complete: bool = True
    parts: tuple[tuple[int, int], ...] = ()


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
        is_picture = not _brands(head).isdisjoint(_PICTURE_BRANDS)
        return ("HEIF" if is_picture else "video"), is_picture
    for kind, at, magic in _OTHERS:
        if head[at : at + len(magic)] == magic:
            return kind, False
    return ("text" if _is_text(head) else ""), False


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of a file of boxes (ISO/IEC 14496-12), which may be a picture or a video."""
    (size,) = struct.unpack_from(">I", head)
    return {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head), HEAD_BYTES) - 3, 4))}


def _is_text(head: bytes) -> bool:
    try:
        head[:-3].decode()  # a letter may be cut at the end
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def read_header(data: bytes, name: str) -> Header:
    """Read the header of a picture file, as its decoder will.

    name: what to call the file in messages. Raises ImageError when the bytes are no picture of a kind that we read,
    or claim what no program writes. A file that lacks its end, or is too large, passes: see check_size.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); get the file again")
    try:
        header = _by_kind(data, name)
    except (struct.error, IndexError) as error:
        raise ImageError(f"{name} is cut short: its header ends early; get the file again") from error
    if header.width < 1 or header.height < 1:
        raise ImageError(f"{name} is damaged: it claims {header.width}x{header.height} pixels; get it again")
    return header


def check_size(header: Header, data: bytes, name: str) -> None:
    """Raise ImageError for a picture of more than MAX_PIXELS, or of more than its bytes can hold."""
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {header.width}x{header.height} pixels, more than {MAX_PIXELS // 1_000_000} megapixels; make "
            "it smaller first"
        )
    if len(data) < header.least_bytes:  # found out here and not after seconds of filling memory with nothing
        raise ImageError(
            f"{name} is cut short or made up: {len(data):,} bytes cannot hold {header.width}x{header.height} pixels; "
            "get the file again"
        )


def _by_kind(data: bytes, name: str) -> Header:
    kind, is_picture = content_kind(data[:HEAD_BYTES])
    if kind == "JPEG":
        return _jpeg(data, name)
    if kind == "PNG":
        return _png(data, name)
    if kind == "WebP":
        return _webp(data, name)
    if kind == "HEIF":
        kind = _heif(data, name)
    if kind == "video":
        raise ImageError(f"{name} is a video, not a picture; for videos there is: mien video FILE")
    if kind == "JPEG XL":
        raise ImageError(
            f"{name} is a JPEG XL picture, for which there is no decoder here; save it as JPEG or PNG first "
            "(ImageMagick: magick IN.jxl OUT.png)"
        )
    if not is_picture:
        raise ImageError(
            f"{name} is not a picture (it begins with {data[:12]!r}{_as_left_behind(data)}); we read {READ}"
        )
    if kind == "GIF":
        _check_gif_blocks(data, name)
    width, height = open_with_pillow(data, kind, name).size
    if kind == "JPEG 2000":
        _check_codestream(data, (width, height), name)
    if kind == "AVIF" and (coded := coded_pixels(data)) > _MOST_CODED * width * height + _MOST_TILE_PIXELS:
        raise ImageError(
            f"{name} is made up: it claims {width}x{height} pixels and holds {coded:,}; save it as PNG"
        )
    return Header(kind, width, height, end=len(data))


def _as_left_behind(data: bytes) -> str:
    """Say what people find in the place of a picture, and what to do; '' for anything else."""
    head = data[:HEAD_BYTES]
    if head.startswith(b"version https://git-lfs"):
        return ", a pointer of Git LFS: fetch the file with git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return ", a web page: the download failed; get the file again"
    if not any(head):
        return ", zeros only: the copy failed; get the file again"
    kind, _ = content_kind(head)
    return f", a {kind}: unpack it first" if kind.endswith("archive") else ""


def open_with_pillow(data: bytes, kind: str, name: str) -> Image.Image:
    """Open a picture of a kind that Pillow decodes, so that its size is known and nothing is decoded yet.

    By the class of its kind and not by Image.open, which tries all kinds, Ghostscript among them, and has a limit of
    pixels of its own. Raises ImageError.
    """
    module, class_name = _PILLOW[kind]
    try:
        plugin = importlib.import_module(f"PIL.{module}")
        if kind == "PNM" and data[1] in b"123" and len(data) > _MOST_PLAIN_PNM_BYTES:
            raise ImageError(
                f"{name} holds its pixels as text, {len(data):,} bytes of it, more than {_MOST_PLAIN_PNM_BYTES:,}; "
                "save it as PNG"
            )
        # About odd metadata, of which we read none but the orientation; at each call, as filters may be reset.
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
        image: Image.Image = getattr(plugin, class_name)(
            io.BytesIO(as_still(data) if kind == "AVIF" else data)
        )
        tags = getattr(image, "tag_v2", {})
        tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
        if tile > max(_MOST_TILE_PIXELS, image.width * image.height):
            raise ImageError(
                f"{name} is made up: its tiles of {tile:,} pixels are larger than it; save it as PNG"
            )
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything for damaged headers
        raise ImageError(_undecodable(name, kind)) from error
    return image


def _undecodable(name: str, kind: str) -> str:
    return (
        f"{name} is a {kind} file that cannot be decoded: it is cut short, damaged or of a rare kind; get the file "
        "again or save it as PNG"
    )


def _heif(data: bytes, name: str) -> str:
    """Return AVIF, or raise ImageError: of the pictures in boxes (ISO/IEC 23008-12), Pillow reads that."""
    from PIL import features

    if b"avif" in _brands(data) or b"avis" in _brands(data):
        if features.check("avif"):
            return "AVIF"
        raise ImageError(
            f"{name} is an AVIF picture, which this Pillow cannot read; update it: pip install -U pillow"
        )
    raise ImageError(
        f"{name} is a HEIC picture, for which there is no free decoder everywhere; save it as JPEG or PNG first "
        "(ImageMagick: magick IN.heic OUT.jpg)"
    )


def _check_gif_blocks(data: bytes, name: str) -> None:
    """Refuse a GIF with more blocks before its first frame than any program writes: Pillow walks them one by one."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    parts = 0
    while at < len(data) and data[at] == 0x21:  # an extension
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            if (parts := parts + 1) > _MOST_PARTS:
                raise _too_many_parts(name)
        at += 1
        if (parts := parts + 1) > _MOST_PARTS:
            raise _too_many_parts(name)


def _check_codestream(data: bytes, size: tuple[int, int], name: str) -> None:
    """Refuse a JPEG 2000 whose boxes claim another size than its data has (ISO/IEC 15444-1, A.5.1), or large tiles."""
    at = _codestream(data)
    width, height, left, top, tile_width, tile_height, _, _, channels = struct.unpack_from(
        ">8IH", data, at + 8
    )
    if (width - left, height - top) != size or channels > 4 or tile_width < 1 or tile_height < 1:
        raise ImageError(
            f"{name} is damaged or made up: it claims {size[0]}x{size[1]} pixels and holds "
            f"{width - left}x{height - top} of {channels} channels; get the file again"
        )


def _codestream(data: bytes) -> int:
    if data[:2] == b"\xff\x4f":
        return 0
    at = 0
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind == b"jp2c":
            return at + head
        at += max(length, head)
    raise IndexError


def _jpeg(data: bytes, name: str) -> Header:
    progressive = False
    width = height = channels = frame = scans = scan_start = last_scan = least_bytes = 0
    orientation = 1
    position = 2
    end, has_end = len(data), False
    missing: dict[
        int, set[int]
    ] = {}  # of each component, the coefficients that no scan has given to the last bit
    for _ in range(_MOST_PARTS):
        marker = _MARKER.search(data, position)
        if marker is None:
            break
        kind, position = data[marker.end() - 1], marker.end()
        if kind == _END:
            end, has_end = position, True
            break
        if kind == _START:  # another picture: this one lacks its end
            end = marker.start()
            break
        if kind in _STANDALONE:
            continue
        if position + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, position)
        if kind in _START_OF_FRAME and not width:
            frame = position
            height, width = struct.unpack_from(">HH", data, position + 3)
            channels = data[position + 7]
            least_bytes = _least_jpeg_bytes(kind, width, height)
            missing = {number: set(range(64)) for number in data[position + 8 : position + length : 3]}
            progressive = kind in _PROGRESSIVE
        elif kind == 0xE1 and not scans and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 8 : position + length])
        elif kind == _START_OF_SCAN:
            _give(missing, data[position + 2 : position + length], progressive=progressive)
        position += max(length, 2)
        if kind == _START_OF_SCAN:  # compressed data without a length follows
            last_scan, scan_start = position, scan_start or position
            after = _NEXT_MARKER.search(data, position)
            position = after.start() if after else len(data)
            if (scans := scans + 1) > _MOST_SCANS:
                raise ImageError(
                    f"{name} is made up: it has more than {_MOST_SCANS} scans, and no program writes so many; save it "
                    "anew"
                )
    else:
        raise _too_many_parts(name)
    if not scans:
        raise ImageError(f"{name} is cut short: a JPEG without pixels; get the file again")
    complete = not any(missing.values())
    return Header(
        "JPEG",
        width,
        height,
        orientation,
        least_bytes,
        end,
        has_end,
        channels,
        frame,
        scan_start,
        last_scan,
        complete,
    )


def _give(missing: dict[int, set[int]], scan: bytes, *, progressive: bool) -> None:
    """Take away from `missing` what the scan with this header gives to its last bit (ITU T.81, B.2.3)."""
    components, spectrum = scan[1:-3:2], scan[-3:]
    if len(spectrum) < 3 or (progressive and spectrum[2] & 15):  # bits are left for a later scan
        return
    first, last = spectrum[:2] if progressive else (0, 63)
    for number in components:
        missing.get(number, set()).difference_update(range(first, last + 1))


def _least_jpeg_bytes(frame: int, width: int, height: int) -> int:
    """Return what a JPEG of one channel at least needs: two codes of one bit a block, one where it is progressive."""
    if frame in _ARITHMETIC:
        return 0
    blocks = (width + 7) // 8 * ((height + 7) // 8)
    return blocks // 8 if frame in _PROGRESSIVE else blocks // 4


def _too_many_parts(name: str) -> ImageError:
    return ImageError(
        f"{name} is made up: it has more than {_MOST_PARTS:,} parts, and no program writes so many; save it anew"
    )


def _png(data: bytes, name: str) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    raw_bytes = height * (width * bits * _PNG_CHANNELS.get(colour, 1) // 8)
    orientation = 1
    parts = []
    end, has_end = len(data), False
    for kind, start, length in _chunks(data, 8, ">I", name, length_first=True):
        if length > len(data):
            raise ImageError(
                f"{name} is cut short: one part of it claims {length:,} bytes, the file has {len(data):,}; get the "
                "file again"
            )
        if kind in _PNG_NEEDED:
            parts.append((start - 8, start + length + 4))
        if kind == b"eXIf":
            orientation = _exif_orientation(data[start : start + length])
        if kind == b"IEND":
            end, has_end = start + length + 4, True
            break
    return Header(
        "PNG", width, height, orientation, raw_bytes // _DEFLATE_MOST, end, has_end, parts=tuple(parts)
    )


def _webp(data: bytes, name: str) -> Header:
    """Read the size from the first part, as libwebp does; a VP8X anywhere else is made up."""
    width = height = 0
    orientation = 1
    for number, (kind, start, length) in enumerate(_chunks(data, 12, "<I", name, length_first=False)):
        body = data[start : start + min(length, 16)]
        if kind == b"VP8X":
            if number:
                raise ImageError(f"{name} is made up: it claims two sizes; save it anew")
            width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        elif kind == b"VP8L" and not width:
            bits = int.from_bytes(body[1:5], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 " and not width:
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", body, 6))
        elif kind == b"EXIF":
            orientation = _exif_orientation(data[start : start + length].removeprefix(b"Exif\0\0"))
    return Header("WebP", width, height, orientation, end=len(data))


def _chunks(
    data: bytes, position: int, number: str, name: str, *, length_first: bool
) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and length of the chunks of a PNG (length, kind, body, CRC) or RIFF file (kind, length, body).

    Start and length are those of the body, which may reach beyond the file where that ends early.
    """
    parts = 0
    while position + 8 <= len(data):
        if (parts := parts + 1) > _MOST_PARTS:
            raise _too_many_parts(name)
        (length,) = struct.unpack_from(number, data, position + (0 if length_first else 4))
        kind = data[position + 4 : position + 8] if length_first else data[position : position + 4]
        yield kind, position + 8, length
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
