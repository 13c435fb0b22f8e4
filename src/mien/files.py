"""Outputs that are written whole or not at all: temporary name first, then rename."""

from __future__ import annotations

import csv
import ctypes
import errno
import os
import re
import shlex
import shutil
import sys
import unicodedata
import uuid
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeVar

from mien.errors import DataError, OutputError

if TYPE_CHECKING:
    from _csv import Writer

    from _typeshed import SupportsWrite
    from numpy.typing import NDArray

# What reading a damaged .npz raises; zipfile answers an unknown compression with NotImplementedError.
DAMAGED_ARRAYS = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError)

LOCK_FILE = ".lock"  # of `locked`, while somebody works in the folder
FORMULA = ("=", "+", "-", "@", "\t", "\r", "|")  # how a spreadsheet's formulas begin
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?%?", re.IGNORECASE)

_Path = TypeVar("_Path", bound=Path | str)

# Where a path begins within a word, as in --to=/home/ann or /a:/b.
_PATH_BEGINS = re.compile(r"(?<=[=,:;])(?=/(?!/)|[A-Za-z]:[\\/])")

# Of one letter is a drive; a folder may have any other name that is followed by a colon, as in web:/data/web.
_ADDRESS = re.compile(r"(https?|ftp|s3|gcs?|gs|abfss?|hf|file|rtsps?):/", re.IGNORECASE)

# In names of files and folders, on one system or another.
FORBIDDEN_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def plain_name(path: Path) -> str:
    """Return what results about a file or folder are named after: its name up to the first dot, 'data' for none.

    >>> plain_name(Path("sets/fer2013.csv.xz"))
    'fer2013'
    """
    if len(parts := separate_paths(path)) > 1:
        return "+".join(map(plain_name, parts))
    # Not by Path.resolve: it fails on a link that leads to itself.
    return Path(os.path.realpath(path)).name.split(".")[0] or "data"


def given_path(given: Any) -> Path:
    """Return a path that a caller gave; DataError for what is none, or for an address.

    An empty word is none either: as a path it would be the current folder.
    """
    if not isinstance(given, str | os.PathLike) or not isinstance(os.fspath(given), str):
        raise DataError(f"a path must be a str or Path, got {type(given).__name__}")
    if not os.fspath(given).strip():
        raise DataError(f"a path must not be empty, got {given!r}; the current folder is '.'")
    if note := address_note(os.fspath(given)):
        raise DataError(note)
    return Path(given)


def given_paths(given: Any) -> list[Path]:
    """Return one path or several that a caller gave, as `given_path` does."""
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes | os.PathLike | Mapping)
    return [given_path(one) for one in given] if several else [given_path(given)]


def address_note(name: str | Path) -> str:
    """Return what to say of an address that is taken for a path, also once Path has made one slash of two; else ''."""
    if not _ADDRESS.match(str(name)) or os.path.lexists(name):
        return ""
    shown = plain_text(re.sub(":/(?!/)", "://", str(name), count=1))
    return f"{shown} is an address, and mien fetches nothing; save what is there and name the file"


def joined_paths(paths: Sequence[Path | str]) -> Path:
    """Write several paths as one, as the system writes lists of folders (A:B; A;B on Windows); one stays itself."""
    if not paths:
        raise DataError("no path is given; name one")
    return Path(os.pathsep.join(map(str, each_once(paths))))


def each_once(paths: Sequence[_Path]) -> list[_Path]:
    """Leave out what an earlier path names already: pictures that are there twice would count twice."""
    first: dict[str, _Path] = {}
    for path in paths:
        first.setdefault(os.path.realpath(str(path)), path)
    return list(first.values())


def separate_paths(path: Path) -> list[Path]:
    """Undo joined_paths: the paths that one stands for; itself where something of that very name exists.

    >>> [part.name for part in separate_paths(joined_paths(["no/lab", "no/web"]))]
    ['lab', 'web']
    """
    words = str(path).split(os.pathsep)
    if len(words) < 2 or os.path.lexists(path):
        return [path]
    return [Path(word) for word in words if word]


def without_folders(value: Any) -> Any:
    """Return settings with the last part alone of each absolute path, lists of paths included.

    Model folders and reports are passed on, and a path says whose machine they were made on. A relative path stays.

    >>> without_folders({"teacher": ["/home/ann/runs/first", "runs/second"], "epochs": 3})
    {'teacher': ['first', 'runs/second'], 'epochs': 3}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str | Path):
        return value
    return "".join(map(_last_part, _PATH_BEGINS.split(str(value))))


def _last_part(word: str) -> str:
    # A path is private on whichever system it is read.
    for path in (PurePosixPath(word), PureWindowsPath(word)):
        if path.is_absolute():
            return path.name or word
    return word


def command_without_folders(command: str) -> str:
    """Return a command as `without_folders` has its words.

    >>> command_without_folders("mien train '/home/ann/my faces' --to=/home/ann/run --network slim")
    "mien train 'my faces' --to=run --network slim"
    """
    try:
        words = shlex.split(command)
    except ValueError:  # written by hand, with a quote that does not match
        return command
    told = [str(without_folders(word)) for word in words]
    return command if told == words else shlex.join(told)


def path_word(path: Path | str) -> str:
    """Return a path as a word of a command that never is taken for an option.

    >>> path_word("-y")
    './-y'
    """
    word = str(path)
    return f"./{word}" if word.startswith("-") else word


def shell_word(path: Path | str) -> str:
    """Return a path as one types it in a command: quoted where it must be, and never taken for an option.

    >>> print(shell_word("my faces"), shell_word("-y"))
    'my faces' ./-y
    """
    return shlex.quote(path_word(path))


def plain_text(text: str) -> str:
    """Return text that can be printed on one line: no control characters, one form of each accented letter.

    What a name on disk or a cell of a table may hold (escape sequences, line breaks, marks that turn the direction of
    writing, bytes that are no text) reaches terminals, reports and cards.

    >>> plain_text("happy\\x1b[31m\\n")
    'happy\\ufffd[31m\\ufffd'
    >>> plain_text("\\udcff") == "\\ufffd" and set(plain_text("\\ud800")) == {"\\ufffd"}
    True
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which JSON can spell, is no letter either
        data = text.encode("utf-8", "surrogatepass")
    text = data.decode("utf-8", "replace")
    if text.isprintable() and text.isascii():
        return text
    return "".join(map(_printable, unicodedata.normalize("NFC", text)))


def _printable(letter: str) -> str:
    if letter.isprintable() or letter in "\u200c\u200d":  # the joiners that Persian, Hindi and emoji need
        return letter
    return " " if unicodedata.category(letter) == "Zs" else "\ufffd"


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is, in a table, too: no HTML, no links, columns or line breaks of its own.

    >>> markdown_text("<b>happy</b> | sad")
    '&lt;b>happy&lt;/b> \\\\| sad'
    """
    text = plain_text(text.replace("\n", " ")).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", "\\|").replace("](", "]\\(")


def file_name(name: str) -> str:
    """Return a name that a file can have on every system.

    >>> file_name("a/b: c?"), file_name("..")
    ('a_b_ c_', '_')
    """
    return FORBIDDEN_IN_NAMES.sub("_", name)[:100].strip(" .") or "_"


def clipped(text: str, most: int = 120) -> str:
    """Return text fit for a message: printable, and not longer than a line or two."""
    text = plain_text(text)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} letters)"


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which 2.jpg comes before 10.jpg.

    >>> sorted(["b10", "b9", "a"], key=natural)
    ['a', 'b9', 'b10']
    """
    parts: list[tuple[int, int, str]] = []
    run = ""
    for letter in name:
        if run and (letter.isdecimal() != run[-1].isdecimal()):
            parts.append(_part(run))
            run = ""
        run += letter
    return (*parts, _part(run))


def _part(run: str) -> tuple[int, int, str]:
    # Python reads no number of more than 4,300 digits.
    return (0, int(run), run) if run.isdecimal() and len(run) < 1000 else (1, 0, run)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same suffix to write to; rename it to `path` if the block succeeds.

    The folder of `path` is made if it is missing. On any exception the temporary file is removed and what
    stood at `path` stays as it was. An OSError (full disk, read-only folder) becomes a one-line OutputError.
    """
    # Through a link, so that the link stays one. Not Path.resolve: it fails on a link that leads to itself.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{_short(target.stem)}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        if target.parent.exists() and not target.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{target.parent} is a file, not a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_left_behind(path: Path) -> None:
    """Remove what killed processes were writing for `whole_file(path)`. Only for whoever has the path for itself."""
    target = Path(os.path.realpath(path))
    _remove_temporary(target.parent, re.escape(_short(target.stem)))


def remove_all_left_behind(folder: Path, but: str = "") -> None:
    """Remove what killed processes were writing into a folder by `whole_file` and `whole_folder`.

    Only for whoever has the folder for itself. but: how names begin at which others may be writing; '': none do.
    """
    _remove_temporary(folder, (f"(?!{re.escape(but)})" if but else "") + ".+")


def _remove_temporary(folder: Path, of: str) -> None:
    """of: a pattern of what the temporary files and folders were to become."""
    temporary = re.compile(rf"\.{of}\.[0-9a-f]{{8}}(\..*)?")
    with suppress(OSError):  # no folder yet
        for one in folder.iterdir():
            if not temporary.fullmatch(one.name):
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one, ignore_errors=True)
            else:
                one.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like whole_file, for a folder: an older folder at `path` is replaced once the new one is complete.

    A file at `path` is an OutputError before anything is written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{_short(target.name)}.{uuid.uuid4().hex[:8]}")
    try:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file of that name is in the way")
        temporary.mkdir(parents=True)
        yield temporary
        _exchange(temporary, target)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a .npz file; None where it is missing or damaged, as by a full disk or a power cut."""
    import numpy as np

    try:
        # Opened here: np.load leaves a file open that is cut off.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except DAMAGED_ARRAYS:
        return None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a .npz file, whole or not at all."""
    import numpy as np

    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def check_replaceable(path: Path, what: str, mark: str, only: Collection[str] = ()) -> None:
    """Raise OutputError where writing a folder at `path` would lose something that is not an older such folder.

    what: the folder in words, "a report". mark: the file by which an older one is known. only: all that an older one
    may hold; left out, it may hold anything. Empty folders and locks, which a run that could write nothing leaves
    behind, are nothing to lose.
    """
    if not path.exists():
        return
    found = (
        {inside.name for inside in path.iterdir() if _holds_files(inside)}
        if path.is_dir()
        else {"a file of this name"}
    )
    other = sorted(found - set(only)) if only else sorted(found if found and mark not in found else ())
    if other:
        raise OutputError(
            f"{path} is there already and is not {what} (it has {', '.join(other[:3])}); name another place"
        )


def check_writable(path: Path) -> None:
    """Raise OutputError where nothing can be written at `path`: before the work whose result is to lie there."""
    place = Path(os.path.realpath(path))
    # access answers where Path.exists fails: in a closed folder.
    there = next(one for one in (place, *place.parents) if os.access(one, os.F_OK))
    if not there.is_dir():
        raise cannot_write(path, NotADirectoryError(errno.ENOTDIR, f"{there} is a file, not a folder"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise cannot_write(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _holds_files(path: Path) -> bool:
    """Say whether anything but locks lies at a path or below it."""
    if path.is_dir() and not path.is_symlink():
        return any(map(_holds_files, path.iterdir()))
    return path.name != LOCK_FILE


def _exchange(new: Path, target: Path) -> None:
    """Put a folder in the place of another; when that fails, the old one stands where it was."""
    if not target.exists():
        new.replace(target)
        return
    if _swapped(new, target):
        shutil.rmtree(new, ignore_errors=True)
        return
    retired = new.with_name(f"{new.name}.old")
    target.replace(retired)
    try:
        new.replace(target)
    except OSError:
        retired.replace(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _swapped(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, so that a kill between two leaves one there; False: no such step here.

    Linux has it, renameat2(2), and Python has no name for it; not every file system does it.
    """
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _short(name: str) -> str:
    """Cut a name, so that it can be made longer: file systems allow 255 bytes, and a letter may take four."""
    return name[:40]


def cache_folder() -> Path:
    """Return where caches lie: $MIEN_CACHE, or the platform's folder for caches of this user."""
    if chosen := os.environ.get("MIEN_CACHE"):
        return expanded(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mien"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "mien" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def is_utf8(path: Path) -> bool:
    """Say whether a path is UTF-8: OpenCV ends the whole process where it is given another one."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def expanded(path: str | Path) -> Path:
    """Return a path with `~` at its beginning replaced by somebody's home folder.

    A file or folder whose own name begins so (Excel's ~$faces.xlsx) is itself, and so is what names nobody's home.
    """
    path = Path(path)
    try:
        return path if os.path.lexists(path) else path.expanduser()
    except RuntimeError:
        return path


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Word an OSError met while writing `path` for a stranger; an OutputError stays itself."""
    if isinstance(error, OutputError):
        return error
    todo = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        todo = "free some space or "
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        todo = "allow writing there or "
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; {todo}name another place, nothing was lost"
    )


def spreadsheet_safe(cell: object) -> str:
    """Return a cell's text, with an apostrophe before what a spreadsheet would run as a formula; numbers stay numbers.

    A cell that begins with '=' is run by the spreadsheet that opens it (OWASP, 'CSV Injection').

    >>> spreadsheet_safe("=cmd|'/c calc'!A1"), spreadsheet_safe("-0.5"), spreadsheet_safe("happy")
    ("'=cmd|'/c calc'!A1", '-0.5', 'happy')
    """
    text = str(cell)
    # Behind apostrophes of its own as well, or one of those would be taken off again.
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) and not _NUMBER.fullmatch(text) else text


class _LineFeeds:
    """A file to which lines that end in a carriage return and a line feed go without the former."""

    def __init__(self, file: SupportsWrite[str]) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def csv_writer(file: SupportsWrite[str]) -> Writer:
    """Return a writer of CSV whose lines end in a line feed.

    Not by csv's own lineterminator: with a mere line feed, Python 3.11 puts no quotes around a cell with a carriage
    return, and every reader ends the row there.
    """
    return csv.writer(_LineFeeds(file))


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV, the header first; whole, and safe in a spreadsheet."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv_writer(file).writerows(map(spreadsheet_safe, row) for row in rows)


def without_spreadsheet_guard(cell: str) -> str:
    """Undo spreadsheet_safe.

    >>> without_spreadsheet_guard("'=1+1"), without_spreadsheet_guard("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(FORMULA) else cell
