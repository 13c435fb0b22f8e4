"""Files by name, local or in a bucket: through Arrow's file systems, otherwise through fsspec's.

`Storage` reads what a run is about; `Target` is the folder that it writes to.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from mien.errors import ConfigError, DataError, ImageError, MienError, MissingExtra, OutputError, need
from mien.files import whole_file
from mien.images.decode import read_bytes
from mien.locks import lock_file, locked

WHAT = "mien batch"
_CHUNK_BYTES = 1 << 20  # of a video that are asked for at a time
_CONTACT_S, _CONTACT_RETRY_S = 60.0, 10  # for the first answer of a bucket; of that, trying again
_LOCK, _RENEW_S, _STALE_S = ".lock", 30.0, 120.0
_SETTLE_S = 1.0  # longer than another run needs from finding no lock to having written its own
_HERE = "mien-batch-"
# Names of C++ types as the compiler has them, and where its programmers may look.
_LIBRARY_WORDS = r"\bN(?:\d+[A-Za-z_]+)+E: | See Azure::Core::Diagnostics::Logger for details \(\S*"


def is_address(name: str) -> bool:
    """Say whether a name is an address (`s3://…`) and not a path of this machine."""
    return "://" in name


class Storage:
    """Opens files by name and keeps one connection to each place. Pickles without its connections.

    root: where relative paths start. queries: place (`s3://bucket`) to what its address ended in (`?region=…`).
    """

    def __init__(self, root: Path, queries: Mapping[str, str] | None = None) -> None:
        self.root, self.queries = root, dict(queries or {})
        self._open: dict[str, tuple[Any, str]] = {}

    def __reduce__(self) -> tuple[type[Storage], tuple[Path, dict[str, str]]]:
        return Storage, (self.root, self.queries)

    def learn(self, address: str) -> str:
        """Remember the options of an address; return it without them."""
        address, mark, query = address.partition("?")
        if mark:
            self.queries[_split(address)[0]] = f"?{query}"
        return address

    def read(self, name: str, shown: str) -> bytes:
        """Return a file's content; ImageError, with `shown` for its name, where it cannot be read."""
        if not is_address(name):
            return read_bytes(self.root / name, shown)
        try:
            with _faults():
                system, path = self.place(name)
                with system.open_input_stream(path) as stream:
                    return cast(bytes, stream.read())
        except (OSError, DataError) as error:
            raise ImageError(f"{shown} cannot be opened: {reason(error)}") from error

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read anywhere in it; OSError or DataError where that cannot be done."""
        if not is_address(name):
            return (self.root / name).open("rb")
        with _faults():
            system, path = self.place(name)
            return cast(IO[bytes], system.open_input_file(path))

    @contextmanager
    def video(self, address: str, shown: str) -> Iterator[IO[bytes]]:
        """Open a video in a bucket, of which the parts that are asked for are fetched; ImageError."""
        try:
            with self.open(address) as file:
                yield cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, file), _CHUNK_BYTES))
        except (OSError, DataError) as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError(f"{shown} cannot be opened: {reason(error)}") from error

    def walk(self, address: str) -> Iterator[str]:
        """Yield the files at an address and below it, sorted folder by folder; DataError where it cannot be listed."""
        fs = need("pyarrow.fs", "ray", WHAT)
        start = _split(address)[0]
        try:
            info = self.contact(address)
            if info.type == fs.FileType.File:
                yield address
                return
            system, path = self.place(address)
            root = self._open[start][1]
            waiting = [path]
            while waiting:
                with _faults():
                    found = system.get_file_info(fs.FileSelector(waiting.pop() or "/", allow_not_found=True))
                found.sort(key=lambda one: one.path)
                yield from (
                    f"{start}/{one.path[len(root) :].lstrip('/')}"
                    for one in found
                    if one.type == fs.FileType.File
                )
                waiting += [one.path for one in reversed(found) if one.type == fs.FileType.Directory]
        except OSError as error:
            raise DataError(
                f"cannot list {address}: {reason(error)}; check its name and that this machine may read it"
            ) from error

    def contact(self, address: str) -> Any:
        """Ask once what lies at an address: Arrow's FileInfo. OSError or DataError where nobody answers soon.

        Who has no credentials for Google's storage is otherwise told so after a quarter of an hour, through which no
        signal comes; later requests may well be tried again for as long.
        """
        start = _split(address)[0]
        query = self.queries.get(start, "")
        if start.startswith(("gs:", "gcs:")) and "retry_limit_seconds" not in query:
            query += f"{'&' if query else '?'}retry_limit_seconds={_CONTACT_RETRY_S}"
        hasty = Storage(self.root, {**self.queries, start: query})
        answer: Future[Any] = Future()

        def ask() -> None:
            try:
                with _faults():
                    system, path = hasty.place(address)
                    answer.set_result(system.get_file_info([path or "/"])[0])
            except Exception as error:  # it is raised where it is waited for
                answer.set_exception(error)

        # Not in a pool, for whose threads Python waits at its end.
        threading.Thread(target=ask, name="mien-batch-contact", daemon=True).start()
        try:
            return answer.result(_CONTACT_S)
        except TimeoutError as error:
            raise DataError(f"{start} does not answer within {_CONTACT_S:.0f} s") from error

    def place(self, name: str) -> tuple[Any, str]:
        """Return the file system that an address belongs to, and the path that it has there."""
        start, rest = _split(name)
        if start not in self._open:
            self._open[start] = _connect(start, self.queries.get(start, ""))
        system, root = self._open[start]
        return system, f"{root.rstrip('/')}/{rest}" if rest else root


class Target:
    """The folder of a run, local or in a bucket. A file appears in it whole or not at all.

    to: a path, or an address as of a source. OutputError where it cannot be written to.
    """

    def __init__(self, to: str | Path) -> None:
        word = str(to).removeprefix("file://")
        self._storage = Storage(Path.cwd())
        self.is_address = is_address(word)
        self.word = self._storage.learn(word).rstrip("/") if self.is_address else word

    def __str__(self) -> str:
        return self.word

    def path(self, name: str = "") -> str:
        """Return what a file in it is called."""
        return f"{self.word}/{name}" if name else self.word

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody else write there inside the block; ConfigError where somebody does."""
        if not self.is_address:
            with locked(Path(self.word), "being written"):
                yield
            return
        with self._held_bucket():
            yield

    def write(self, name: str, content: bytes) -> None:
        if not self.is_address:
            with whole_file(Path(self.word, name)) as path:
                path.write_bytes(content)
            return
        try:
            with _faults():
                system, place = self._storage.place(self.path(name))
                if system.type_name not in ("s3", "gcs"):  # which have no folders
                    system.create_dir(place.rpartition("/")[0], recursive=True)
                # An object appears when its stream is closed, so nothing may fail between.
                with system.open_output_stream(place) as stream:
                    stream.write(content)
        except (OSError, DataError) as error:
            raise self._cannot("write", name, error) from error

    def read(self, name: str) -> bytes:
        """Return a file's content; FileNotFoundError where there is none."""
        if not self.is_address:
            return Path(self.word, name).read_bytes()
        try:
            with self.open(name) as stream:
                return stream.read()
        except FileNotFoundError:
            raise
        except (OSError, DataError) as error:
            raise self._cannot("read", name, error) from error

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read anywhere in it."""
        return self._storage.open(self.path(name) if self.is_address else str(Path.cwd() / self.word / name))

    def names(self, below: str = "") -> list[str]:
        """Return the names of the files in it, or in a folder of it, sorted; none where it is not there."""
        if not self.is_address:
            folder = Path(self.word, below)
            return sorted(one.name for one in folder.iterdir() if one.is_file()) if folder.is_dir() else []
        return self._listed(below, files=True)

    def contents(self) -> list[str]:
        """Return the names of the files and folders in it."""
        if not self.is_address:
            return sorted(one.name for one in Path(self.word).iterdir())
        return self._listed("", files=False)

    def remove(self, name: str) -> None:
        if not self.is_address:
            Path(self.word, name).unlink(missing_ok=True)
            return
        with suppress(OSError), _faults():
            system, place = self._storage.place(self.path(name))
            system.delete_file(place)

    def remove_folder(self, name: str) -> None:
        """Remove a folder of files, and the one above it where that is empty then."""
        if self.is_address:
            with suppress(OSError), _faults():
                system, place = self._storage.place(self.path(name))
                system.delete_dir(place)
            return
        shutil.rmtree(Path(self.word, name), ignore_errors=True)
        with suppress(OSError):
            Path(self.word, name).parent.rmdir()

    def _listed(self, below: str, *, files: bool) -> list[str]:
        fs = need("pyarrow.fs", "ray", WHAT)
        try:
            with _faults():
                system, place = self._storage.place(self.path(below))
                found = system.get_file_info(fs.FileSelector(place, allow_not_found=True))
        except (OSError, DataError) as error:
            raise self._cannot("read", below, error) from error
        return sorted(one.base_name for one in found if not files or one.type == fs.FileType.File)

    @contextmanager
    def _held_bucket(self) -> Iterator[None]:
        """A bucket has no locks: an object says who writes, and is renewed as long as that lives."""
        # Locked for as long as this process lives, which tells others on this machine that it does.
        with tempfile.NamedTemporaryFile(prefix=_HERE, suffix=".lock") as here:
            lock_file(here)
            with self._announced(
                {"process": os.getpid(), "machine": platform.node(), "here": Path(here.name).name}
            ):
                yield

    @contextmanager
    def _announced(self, mine: Mapping[str, Any]) -> Iterator[None]:
        """Have an object say who writes for the length of the block."""

        def renew() -> None:
            self.write(_LOCK, json.dumps({**mine, "at_s": time.time()}).encode())

        def keep() -> None:
            while not ended.wait(_RENEW_S):
                with suppress(OutputError):  # the next time
                    renew()

        try:
            self._storage.contact(self.path(_LOCK))
        except (OSError, DataError) as error:
            raise self._cannot("read", _LOCK, error) from error
        self._check_free(mine)
        renew()
        time.sleep(_SETTLE_S)  # of two that found it free, the later one's word stands
        self._check_free(mine)
        ended = threading.Event()
        thread = threading.Thread(target=keep, name="mien-batch-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.remove(_LOCK)

    def _check_free(self, mine: Mapping[str, Any]) -> None:
        try:
            other = _writer(self.read(_LOCK))
        except FileNotFoundError:
            return
        if mine.items() <= other.items():  # our own, at the second look
            return
        age_s = self._lock_age_s()
        if age_s is None and "at_s" in other:
            age_s = time.time() - other["at_s"]
        if age_s is not None and age_s > _STALE_S:
            return
        if other.get("machine") == mine["machine"] and _was_killed(other["here"]):
            return
        who = f"process {other['process']} on {other['machine']}" if other else f"{_LOCK} does not say which"
        seen = "" if age_s is None else f", seen {max(age_s, 0):.0f} s ago"
        if age_s is None:
            todo = f"remove {self.path(_LOCK)} if there is none"
        else:
            todo = "wait for it (two minutes if it was killed)"
        raise ConfigError(
            f"{self.word} is being written by another process ({who}{seen}); {todo}, or name another --to"
        )

    def _lock_age_s(self) -> float | None:
        """Return how long ago the lock was renewed; None where the storage tells no times, as some do.

        By the clock of the storage, of which an object that is written now is asked: those of two machines differ.
        """
        now = f"{_LOCK}-{uuid.uuid4().hex[:8]}"
        self.write(now, b"now")
        try:
            with _faults():
                system, place = self._storage.place(self.path())
                lock, this = system.get_file_info([f"{place}/{_LOCK}", f"{place}/{now}"])
        except OSError as error:
            raise self._cannot("read", _LOCK, error) from error
        finally:
            self.remove(now)
        return (this.mtime - lock.mtime).total_seconds() if this.mtime and lock.mtime else None

    def _cannot(self, doing: str, name: str, error: Exception) -> OutputError:
        return OutputError(
            f"cannot {doing} {self.path(name)}: {reason(error)}; check that the bucket is there and that this machine "
            "may write to it, or name another place with --to"
        )


def _writer(lock: bytes) -> dict[str, Any]:
    """Return what a lock in a bucket says of who writes; nothing where it is cut, or not one of ours."""
    kinds = {"process": int, "machine": str, "here": str, "at_s": int | float}
    try:
        said = json.loads(lock)
        return said if all(isinstance(said[name], kind) for name, kind in kinds.items()) else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _was_killed(lock: str) -> bool:
    """Say whether a lock file among this machine's temporary files was left behind by a process that is gone."""
    if not re.fullmatch(rf"{_HERE}\w+\.lock", lock):  # the bucket is not ours alone
        return False
    path = Path(tempfile.gettempdir(), lock)
    try:
        with path.open("r+b") as stream:
            killed = lock_file(stream)
        if killed:
            path.unlink()
    except OSError:  # there is none, or it is another user's
        return False
    return killed


def _split(address: str) -> tuple[str, str]:
    """Split an address into the place (`s3://bucket`) and what lies there."""
    scheme, _, rest = address.partition("://")
    place, _, path = rest.partition("/")
    return f"{scheme.lower()}://{place}", path.strip("/")


def _connect(start: str, query: str) -> tuple[Any, str]:
    """Return a file system and the path that the place has in it."""
    if start in ("s3://", "gs://", "gcs://", "abfs://", "abfss://"):
        raise DataError(f"{start} names no bucket; write {start}BUCKET/FOLDER")
    fs = need("pyarrow.fs", "ray", WHAT)
    arrow = need("pyarrow", "ray", WHAT)
    if start.startswith(("abfs:", "abfss:")) and not shutil.which("az"):
        # Azure's client would run its command line all the same, and a shell complain on stderr that there is none.
        os.environ.setdefault("AZURE_TOKEN_CREDENTIALS", "prod")
    if start.startswith("s3://") and "allow_delayed_open" not in query:
        # A small file is written by one request and not by three.
        query = f"{query or '?'}{'&' if query else ''}allow_delayed_open=true"
    try:
        return cast(
            tuple[Any, str], fs.FileSystem.from_uri(f"{start}/{query}" if start[-1] == "/" else start + query)
        )
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as unknown:
        fsspec = need("fsspec", "ray", f"reading {start}")
        try:
            system, root = fsspec.core.url_to_fs(start)
        except ImportError as error:
            known = "" if "Unrecognized" in str(unknown) else f" (Arrow itself says: {unknown})"
            raise MissingExtra(f"reading {start} needs a package more: {error}{known}") from error
        except ValueError as error:
            raise DataError(f"there is no way to read {start}: {unknown}; {error}") from error
        return fs.PyFileSystem(fs.FSSpecHandler(system)), root


@contextmanager
def _faults() -> Iterator[None]:
    """Make an OSError of what Arrow and fsspec's packages raise: each cloud has errors of its own."""
    try:
        yield
    except (OSError, MienError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def reason(error: Exception) -> str:
    """Return in one line why a file or a bucket cannot be used."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return re.sub(_LIBRARY_WORDS, "", " ".join(text.split()))[:300]
