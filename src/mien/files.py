"""Outputs that are written whole or not at all: temporary name first, then rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien.errors import OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same suffix to write to; rename it to `path` if the block succeeds.

    The folder of `path` is made if it is missing. On any exception the temporary file is removed and what stood
    at `path` stays as it was. An OSError (a full disk, a read-only folder) becomes an OutputError with one line.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like whole_file, for a folder: an older folder at `path` is replaced only when the new one is complete."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            retired = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            os.replace(path, retired)
            os.replace(temporary, path)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Word an OSError met while writing `path` so that a stranger knows what to do; an OutputError stays itself."""
    if isinstance(error, OutputError):
        return error
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; free some space or name another place, nothing was lost"
    )
