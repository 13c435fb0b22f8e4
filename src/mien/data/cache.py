"""Decoded data sets on disk, so that only the first read is slow.

What is stored is named by the SHA-256 of the content that it was made from; a second, tiny record remembers
which file (path, size, time of change) had which SHA-256, so that an unchanged file need not be read to find
its entry. Large arrays are mapped, not read into memory: the system shares them between processes and takes the
memory back when it needs it. Nothing here can make a command fail: an entry that is missing, damaged or cannot be
written is made again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError
from mien.files import DAMAGED_ARRAYS, cache_folder, whole_file, write_arrays

FORMAT = 3  # part of every name: a newer mien does not stumble over what an older one stored
Arrays = Mapping[str, NDArray[np.generic]]
_MAPPED = 2**20  # bytes; smaller arrays are read


def entry(kind: str, key: str) -> Path:
    """Return the file of one entry. kind: what it holds. key: a hexadecimal hash."""
    return cache_folder() / "data" / f"{kind}-{FORMAT}-{key[:40]}.npz"


def load(kind: str, key: str) -> dict[str, NDArray[np.generic]] | None:
    """Return the arrays of an entry, or None when none is whole (every member's CRC is checked).

    Large ones cannot be written to; copy them first.
    """
    try:
        with entry(kind, key).open("rb") as file, zipfile.ZipFile(file) as stored:
            return {
                info.filename.removesuffix(".npy"): _array(file, stored, info) for info in stored.infolist()
            }
    except DAMAGED_ARRAYS:
        return None


def _array(file: IO[bytes], stored: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    if info.file_size < _MAPPED or info.compress_type != zipfile.ZIP_STORED:
        with stored.open(info) as member:
            return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
    # The local header: 30 bytes, of which the last four are the lengths of the name and of what follows it.
    file.seek(info.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2")
    start = info.header_offset + 30 + int(lengths.sum())
    whole = np.asarray(np.memmap(file, np.uint8, "r", start, (info.file_size,)))
    if zlib.crc32(whole.data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged")
    file.seek(start)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{info.filename} has an unknown form, {version}")
    shape, by_column, kind = np.lib.format.read_array_header_1_0(file)
    values = whole[file.tell() - start :].view(kind)
    return values.reshape(shape, order="F" if by_column else "C")


def store(kind: str, key: str, arrays: Arrays) -> None:
    """Keep arrays under a key, whole or not at all. A full disk costs time later, not this run."""
    with suppress(OutputError):
        write_arrays(entry(kind, key), arrays)


def kept(kind: str, key: str, arrays: Arrays) -> Arrays:
    """Store arrays and return them as `load` gives them, mapped; the arrays themselves where they cannot be stored."""
    store(kind, key, arrays)
    return load(kind, key) or arrays


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, reading it only when size or time of change are not those remembered."""
    state = path.stat()
    known = {"size": state.st_size, "changed_ns": state.st_mtime_ns}
    record = cache_folder() / "files" / f"{hash_of(str(path.resolve()))[:40]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(record.read_text(encoding="utf-8"))
        if {name: stored[name] for name in known} == known:
            return str(stored["sha256"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OutputError), whole_file(record) as temporary:
        temporary.write_text(json.dumps({**known, "sha256": found}), encoding="utf-8")
    return found


def hash_of(*parts: str | bytes) -> str:
    """Return the SHA-256 of several parts, each with its length, so that no two lists are alike."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
