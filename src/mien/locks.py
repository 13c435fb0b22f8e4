"""One process at a time: locks that the system itself frees when their process ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mien.errors import ConfigError
from mien.files import LOCK_FILE, cannot_write

_LOOK_S = 0.05  # between two looks whether a lock is free


@contextmanager
def locked(folder: Path, doing: str, *, file: str = "", wait_s: float = 0.0) -> Iterator[None]:
    """Let nobody else work on `folder` inside the block; ConfigError where another process does already.

    doing: what is done there, for the message ("being trained"). file: name of the only file in it that is meant.
    wait_s: seconds to wait for the other process, for what takes a moment. The lock is a file `.lock` in the folder
    (`.NAME.lock` for a file) that the system itself frees when its process ends, however it ends; a file that was left
    behind is no lock.
    """
    path = folder / (f".{file}{LOCK_FILE}" if file else LOCK_FILE)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    until = time.monotonic() + wait_s
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while (stream := _lock_file(path)) is None and time.monotonic() < until:
            time.sleep(_LOOK_S)
    except OSError as error:
        raise cannot_write(folder, error) from error
    if stream is None:
        who = ""
        with suppress(OSError):  # it may have ended just now
            who = path.read_text(encoding="utf-8").strip()
        raise ConfigError(
            f"{folder / file} is {doing} by another process ({who or 'just started'}); wait for it, or name another "
            f"{'file' if file else 'place with --to'}"
        )
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is still ours: see _lock_file
        stream.close()
        with suppress(OSError):  # where nothing came of it, no folder stays either
            for place in missing:
                place.rmdir()


def _lock_file(path: Path) -> IO[str] | None:
    """Open and lock a file; None where somebody else has it locked."""
    while True:
        stream = path.open("a+", encoding="utf-8")
        try:
            if not lock_file(stream):
                stream.close()
                return None
        except OSError:
            stream.close()
            raise
        # Whoever held it may have removed the file in between: then this is a lock on nothing.
        with suppress(OSError):
            if sys.platform == "win32" or os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                stream.truncate(0)
                with suppress(OSError):  # a full disk has room for the lock, but not for who holds it
                    os.write(stream.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
                return stream
        stream.close()


def lock_file(stream: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file until it is closed or its process ends, however it ends; False where another has it locked.

    shared: several may hold it together, but nobody for himself meanwhile. Python has no such lock on Windows: there,
    it is no more than that a file which is open cannot be removed. Raises OSError where the file system has no locks.
    """
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        elif not shared:
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
