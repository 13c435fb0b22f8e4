"""The SQLite file of the answers: its tables, how it is opened, and what SQLite reports, in words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mien.errors import DataError, OutputError
from mien.files import plain_text

FILE = "labels.sqlite"
_APPLICATION, _VERSION = 0x6D69656E, 1  # "mien"; PRAGMA user_version
_WAIT_S = 3.0  # for another program that is writing
_LOOK_S = 0.01  # between two looks, where SQLite does not wait by itself
_TABLES = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,  -- seq of the first row of what was said at one key
    face TEXT NOT NULL,      -- its id; empty: about classes
    who TEXT NOT NULL,
    at TEXT NOT NULL,        -- UTC, ISO 8601
    action TEXT NOT NULL,
    class TEXT,
    target TEXT              -- of a rename or merge the new class, of a duplicate the other face, of an undo the batch
);
CREATE TRIGGER IF NOT EXISTS answers_stay BEFORE UPDATE ON answers
BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
CREATE TRIGGER IF NOT EXISTS answers_remain BEFORE DELETE ON answers
BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
-- What the table's labels were when mien last wrote it; previous: until that writing is known to have succeeded.
CREATE TABLE IF NOT EXISTS written (face TEXT PRIMARY KEY, label TEXT NOT NULL, previous TEXT) WITHOUT ROWID;
"""
# Which batch was stored under a key. A file from before it has none until it is opened for writing; an older mien takes
# no notice of it.
_KEYS = (
    "CREATE TABLE IF NOT EXISTS idempotency_keys (key TEXT PRIMARY KEY, batch INTEGER NOT NULL) WITHOUT ROWID"
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for reading and writing; it is made where it is missing. Errors: see Store.open."""
    with worded(path):
        connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
        with _closed_on_error(connection):
            _check(path, connection)
            _log_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_KEYS)
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open the file for reading alone, also while others write or where nothing may be written."""
    address = path.resolve().as_uri()
    with worded(path):
        connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=_WAIT_S, check_same_thread=False)
        try:
            with _closed_on_error(connection):
                _check(path, connection)
        except sqlite3.OperationalError:
            if path.with_name(f"{FILE}-wal").exists():
                raise
            # A folder where SQLite may not put the index of its log beside the file: nobody writes there either.
            connection = sqlite3.connect(f"{address}?immutable=1", uri=True, check_same_thread=False)
            with _closed_on_error(connection):
                _check(path, connection)
    return connection


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _check(path: Path, connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; refuse one that is not ours, newer or damaged."""
    # Tables first: another process may make them, and say whose they are, at this very moment.
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if not tables and not application:
        connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
        return
    if application != _APPLICATION:
        raise DataError(f"{path} is a database of another program; move it away, and mien makes its own")
    if version > _VERSION:
        raise DataError(
            f"{path} was written by a newer mien (its version is {version}, this mien reads up to {_VERSION}); "
            "update mien, nothing was changed"
        )
    ((state,),) = connection.execute("PRAGMA quick_check(1)")
    if state != "ok":
        raise sqlite3.DatabaseError(str(state))


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch a file to write-ahead logging. SQLite, which waits for others everywhere else, does not wait here."""
    ends = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > ends:
                raise
        time.sleep(_LOOK_S)


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Turn what SQLite reports into one line that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise OutputError(
                f"{path} is held by another program; close what has it open and try again, nothing was lost"
            ) from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise OutputError(
                f"cannot write {path}: {error}; free some space or allow writing there, what was stored before is safe"
            ) from error
        raise DataError(
            f"{path} is damaged ({plain_text(str(error))}); move it away and put back a copy, or go on without: the "
            "table has the labels that were last written to it"
        ) from error
