"""Decoded data sets on disk, so that only the first read is slow.

What is stored is named by the SHA-256 of the content that it was made from; a second, tiny record remembers
which file (path, size, time of change) had which SHA-256, so that an unchanged file need not be read to find
its entry. Nothing here can make a command fail: an entry that is missing, damaged or cannot be written is
made again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError
from mien.files import cache_folder, whole_file

FORMAT = 1  # part of every name: a newer mien does not stumble over what an older one stored
Arrays = Mapping[str, NDArray[np.generic]]
# What reading a damaged entry raises; zipfile answers an unknown compression with NotImplementedError.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


def entry(kind: str, key: str) -> Path:
    """Return the file of one entry. kind: what it holds. key: a hexadecimal hash."""
    return cache_folder() / "data" / f"{kind}-{FORMAT}-{key[:40]}.npz"


def load(kind: str, key: str) -> dict[str, NDArray[np.generic]] | None:
    """Return the arrays of an entry, or None when none is whole (zip checks every member's CRC)."""
    try:
        with entry(kind, key).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _DAMAGE:
        return None


def store(kind: str, key: str, arrays: Arrays) -> None:
    """Keep arrays under a key, whole or not at all. A full disk costs time later, not this run."""
    with suppress(OutputError), whole_file(entry(kind, key)) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


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
