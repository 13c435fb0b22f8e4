"""What a picture file says of itself before it is decoded: size, rotation, and where its parts lie.

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
from mien.images.kinds import HEAD_BYTES, brands, content_kind

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
_MOST_PLAIN_PNM_BYTES = 8_000_000  # numbers as text, which Pillow reads in Python
_ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 274, 322, 323  # TIFF tags
_MOST_TILE_PIXELS = 1 << 22
# Pictures of the claimed size in an AVIF: colours, transparency, a thumbnail, the tiles' margins.
_MOST_CODED = 4
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
        raise ImageError(f"{name} is a video, not a picture; it is for mien video, or for Video on the page")
    if kind == "JPEG XL":
        raise ImageError(
            f"{name} is a JPEG XL picture, for which there is no decoder here; save it as JPEG or PNG first "
            "(ImageMagick: magick IN.jxl OUT.png)"
        )
    if kind == "BigTIFF":
        raise ImageError(
            f"{name} is a BigTIFF picture, for which there is no decoder here; save it as TIFF or PNG first "
            "(ImageMagick: magick IN.tif OUT.png)"
        )
    if not is_picture:
        raise ImageError(
            # Without the b of Python's bytes, which says nothing to who does not write Python.
            f"{name} is not a picture (it begins with {str(data[:12])[1:]}{_as_left_behind(data)}); we read {READ}"
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
        raise ImageError(undecodable(name, kind)) from error
    return image


def undecodable(name: str, kind: str, reason: str = "") -> str:
    """Say that a file of this kind cannot be decoded, and what to do. reason: what its decoder says, if it says it."""
    article = "an" if kind.startswith("A") else "a"
    why = f" ({reason})" if reason else ""
    return (
        f"{name} is {article} {kind} file that cannot be decoded: it is cut short, damaged or of a rare kind{why}; "
        "get the file again or save it as PNG"
    )


def _heif(data: bytes, name: str) -> str:
    """Return AVIF, or raise ImageError: of the pictures in boxes (ISO/IEC 23008-12), Pillow reads that."""
    from PIL import features

    if b"avif" in brands(data) or b"avis" in brands(data):
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
    missing: dict[int, set[int]] = {}  # of each component, coefficients not given to the last bit so far
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
