"""A folder for temporary files that only this user may open, and that goes with its server, killed or not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien.files import cannot_write
from mien.locks import lock_file

_PREFIX = "mien-serve-"
_FOLDER_LOCK = "lock"
_MAKING_S = 60.0
# Waits until nobody holds the lock any more, however they ended, and removes the folder. The modules that it may
# import are few, so that it is small: it lives as long as the server does.
_WATCH = """
import fcntl, shutil, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # comes to all processes of a service; the server decides when it ends
with open(sys.argv[1], "rb") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder in the system's place for temporary files; remove it at the end.

    A process beside this one removes it when this one, and those that hold the folder too, are killed. Folders of
    servers that were killed together with that process are removed as well. OutputError where none can be made.
    """
    place = Path(tempfile.gettempdir())
    sweep(place)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))  # mode 700
    except OSError as error:
        raise cannot_write(place, error) from error
    watcher = None
    try:
        # Locked before it has its name: a lock that can be seen and is free belongs to nobody who lives. On Windows an
        # open file is as good as locked, and cannot be renamed.
        named = folder / _FOLDER_LOCK
        unnamed = named if sys.platform == "win32" else folder / f".{_FOLDER_LOCK}"
        with unnamed.open("xb") as lock:
            lock_file(lock, shared=True)
            if unnamed != named:
                unnamed.rename(named)
            watcher = _watched(folder)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if watcher:
            watcher.wait()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Mark an existing folder as in use by this process too, for as long as the block or the process lives."""
    with (folder / _FOLDER_LOCK).open("rb") as lock:
        lock_file(lock, shared=True)
        yield


def _watched(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start the process that removes the folder when its server was killed; none on Windows, which has no such lock."""
    if sys.platform == "win32":
        return None
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(folder / _FOLDER_LOCK), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # or who reads the server's log waits for this process too
        cwd="/",
        start_new_session=True,  # Ctrl-C in a terminal is for the server
    )


def sweep(place: Path) -> None:
    """Remove folders of servers that are gone. Not told by process number: in a container it is always the same."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or one that goes at this moment
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            if not _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    lock = folder / _FOLDER_LOCK
    if not lock.exists():  # being made, unless it was left that way
        return time.time() - folder.stat().st_mtime < _MAKING_S
    if sys.platform == "win32":
        try:
            lock.unlink()  # Windows does not remove a file that is open
        except OSError:
            return True
        return False
    with lock.open("rb") as file:
        return not lock_file(file)
