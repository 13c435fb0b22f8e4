"""What a result was made of, written into its picture file, so that inputs of one name do not share one result.

A copy of a/x.jpg and one of b/x.jpg, written into one folder, are both called x.jpg. The second is called x-2.jpg; but
whoever gives a command again wants its results in the place of the older ones, so they must be known. A folder of
results says it in one of its files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

_KEYWORD = b"mien\0"
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_BEHIND_IHDR = 33  # bytes: signature and first chunk of a PNG
_TAIL = 4096  # bytes at a file's end in which a mark is looked for


def mark_for(*what: object) -> str:
    """Return a mark that says what a picture was made of, names no folder, and is the same for the same things."""
    said = json.dumps([str(one) for one in what])
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def marked(encoded: bytes, mark: str) -> bytes:
    """Return the bytes of a picture file with a mark: a text in a PNG, a comment in a JPEG, else behind the picture.

    mark: ASCII, below 4,000 letters; '': none. Where a decoder finds what it expects nothing changes.
    """
    if not mark:
        return encoded
    text = _KEYWORD + mark.encode("ascii")
    if encoded.startswith(_PNG):
        chunk = b"tEXt" + text
        whole = struct.pack(">I", len(text)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return encoded[:_BEHIND_IHDR] + whole + encoded[_BEHIND_IHDR:]
    if encoded.startswith(_JPEG):
        place = _behind_jfif(encoded)
        return encoded[:place] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + encoded[place:]
    return encoded + b"\n" + text


def mark_of(path: Path) -> str:
    """Return the mark of a picture file that `marked` made; '' where there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(_TAIL)
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = file.read()
        found = _text(head, tail)
    except (OSError, struct.error):  # struct: a file that is cut off
        return ""
    return found.removeprefix(_KEYWORD).decode("ascii", "replace") if found.startswith(_KEYWORD) else ""


def _text(head: bytes, tail: bytes) -> bytes:
    if head.startswith(_PNG):
        text, begin = head[_BEHIND_IHDR:], b"tEXt" + _KEYWORD
        return text[8 : 8 + struct.unpack_from(">I", text)[0]] if text[4:].startswith(begin) else b""
    if head.startswith(_JPEG):
        text, begin = head[_behind_jfif(head) :], b"\xff\xfe"
        return text[4 : 2 + struct.unpack_from(">H", text, 2)[0]] if text.startswith(begin) else b""
    return _KEYWORD + tail.rpartition(b"\n" + _KEYWORD)[2] if b"\n" + _KEYWORD in tail else b""


def free_place(
    path: Path, mark: str, taken: Collection[str] = (), *, known: Callable[[Path], str] = mark_of
) -> Path:
    """Return a path, or the first with a number behind its name (x-2.jpg), that holds no result of anything else.

    mark: of what is to be written; its own older result is replaced; '': nothing is. taken: paths, case-folded, that
    others will have. known: gives the mark of what lies at a path, '' where there is none.
    """
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(
        place
        for place in itertools.chain([path], numbered)
        if str(place).casefold() not in taken
        and (not os.path.lexists(place) or (mark and known(place) == mark))
    )


def taken_note(wanted: Path, place: Path) -> str:
    """Return what to say where `free_place` gave another place than the one that was wanted, else ''."""
    return f"{wanted} is not known to be of this input, and stays; writing {place}" if place != wanted else ""


def _behind_jfif(encoded: bytes) -> int:
    """Return where a JPEG's segments go on behind the first, which must be JFIF's own where there is one."""
    return 4 + struct.unpack_from(">H", encoded, 4)[0] if encoded[2:4] == b"\xff\xe0" else 2
