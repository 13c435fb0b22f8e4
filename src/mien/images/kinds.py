"""What a file is: by its first bytes, and by its name where those do not tell."""

from __future__ import annotations

import re
import struct
from typing import IO

# HEIF's (ISO/IEC 23008-12) and AVIF's; the brands of videos are too many to list.
_PICTURE_BRANDS = frozenset(b"heic heix heim heis hevc hevx mif1 mif2 msf1 avif avis".split())
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
    ("BigTIFF", 0, b"II+\0"), ("BigTIFF", 0, b"MM\0+"),
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
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
# Named like pictures: they count as pictures unseen, so that a damaged one is reported with its reason and not passed
# over.
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib",
    ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".avif", ".avifs", ".jp2", ".j2k", ".jpf", ".jpx",
    ".j2c", ".jpc", ".ras", ".sr", ".heic", ".heif", ".hif", ".jxl", ".tga", ".psd", ".qoi",
)  # fmt: skip
VIDEO = "video"
# Of those kinds that are not known by their first bytes.
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".ogv", ".3gp",
)  # fmt: skip

_TRACKS_BYTES = 1 << 20  # within which a file names its tracks
_MOST_BOXES = 1000
_MATROSKA_CODEC = re.compile(rb"\x86[\x81-\xbf]([AV])_")  # CodecID, an element of up to 63 letters
_MP4_HANDLER = re.compile(rb"hdlr.{8}(soun|vide)", re.DOTALL)
_SOUND = (b"#!AMR", b"\xff\xf1", b"\xff\xf9")  # AMR and AAC, which `content_kind` does not know


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
        is_picture = not brands(head).isdisjoint(_PICTURE_BRANDS)
        return ("HEIF" if is_picture else "video"), is_picture
    for kind, at, magic in _OTHERS:
        if head[at : at + len(magic)] == magic:
            return kind, False
    return ("text" if _is_text(head) else ""), False


def brands(head: bytes) -> set[bytes]:
    """Return the brands of a file of boxes (ISO/IEC 14496-12), which may be a picture or a video."""
    (size,) = struct.unpack_from(">I", head)
    return {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head), HEAD_BYTES) - 3, 4))}


def _is_text(head: bytes) -> bool:
    try:
        head[:-3].decode()  # a letter may be cut at the end
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def is_picture_name(name: str) -> bool:
    """Say whether a file's name, or what stands for it in a table, ends as a picture's."""
    return name.strip().lower().endswith(PICTURE_SUFFIXES)


def is_sound(file: IO[bytes]) -> bool:
    """Say whether a file holds sound and no picture, as recordings of a voice do; by the tracks that it names."""
    file.seek(0)
    head = file.read(_TRACKS_BYTES)
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # Matroska, WebM: codecs are named A_OPUS, V_VP9
        codecs = set(_MATROSKA_CODEC.findall(head))
    elif head[4:8] == b"ftyp":
        codecs = set(_MP4_HANDLER.findall(_movie_box(file)))
    else:
        known = content_kind(head[:HEAD_BYTES])[0] == "audio"
        return (known or head.startswith(_SOUND) or head[8:12] == b"AIFF") and b"theora" not in head
    return bool(codecs & {b"A", b"soun"}) and not codecs & {b"V", b"vide"}


def _movie_box(file: IO[bytes]) -> bytes:
    """Return the part of an MP4 that names its tracks, which may lie at the end (ISO/IEC 14496-12, 8.2); b'': none."""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if kind == b"moov":
            return head + file.read(_TRACKS_BYTES)
        at += max(length, 8)
        if not length:  # up to the end
            break
    return b""
