"""Videos and their results on disk: a folder a job, so that every process of the server knows of all jobs.

The folders are the queue as well: whichever process is free takes the oldest job that waits, and holds its lock for as
long as it works on it. A lock goes with its process, however that ends. So where the folder outlives the server
(`durable`), the next server, or another one on the same folder, goes on with what was not finished.

`private_folder` is the one with temporary files: only this user may look inside, and it goes with its server, killed or
not.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from mien.files import cannot_write, is_running, whole_file
from mien.serve.problems import ApiError, Busy, problem

VIDEO, ROWS, TABLE, ABOUT = "video", "rows.jsonl", "faces.csv", "about.json"
_STATE, _CANCELLED, _FETCHED, _LOCK = "state.json", "cancelled", "fetched", "lock"
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
UNFINISHED = ("receiving", "queued", "running")
_MOST_KEPT = 32  # finished jobs; the oldest go first
_BEGINNING_S = 60.0  # a folder without a state is being made, unless it is older
_LOST = "the server's process ended while it worked on the video; send it again"
_MOST_TRIES = 2  # a video that ends the process which reads it must not end all of them
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


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a job stands.

    progress: 0 to 1. begun_s, changed_s: seconds since 1970. process: number of the one that noted it. tries: how often
    somebody began to work on it.
    """

    id: str
    status: str = "receiving"
    progress: float = 0.0
    problem: dict[str, Any] | None = None
    begun_s: float = 0.0
    changed_s: float = 0.0
    process: int = 0
    tries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what clients get."""
        shown: dict[str, Any] = {"id": self.id, "status": self.status, "progress": self.progress}
        return {**shown, "problem": self.problem} if self.problem else shown


class Jobs:
    """The jobs below one folder. `folder` is there already; other processes may use it at the same time.

    most: unfinished jobs at the same time. keep_s: for which results are kept. longest_s: for which a job may be
    unfinished; what is older was forgotten. durable: whether the folder outlives the server, and jobs with it.
    """

    def __init__(
        self,
        folder: Path,
        most: int,
        keep_s: float,
        longest_s: float = math.inf,
        *,
        durable: bool = False,
    ) -> None:
        self._folder, self._most, self._keep_s, self._longest_s = folder, most, keep_s, longest_s
        self.durable = durable
        self._identity = _identity(folder)

    def check_folder(self) -> None:
        """Raise ApiError (503) where the folder is no longer the one that it was, or cannot be written to."""
        try:
            same = _identity(self._folder) == self._identity
        except OSError:
            same = False
        if not (same and os.access(self._folder, os.W_OK | os.X_OK)):
            raise ApiError("this server has lost its folder for temporary files; start it again", 503)

    def begin(self) -> State:
        """Make a job that waits for its video; Busy where too many are unfinished."""
        self.check_folder()
        self.sweep()
        if sum(state.status in UNFINISHED for state in self._all()) >= self._most:
            raise Busy(f"{self._most} videos are waiting or running already")
        state = State(id=secrets.token_urlsafe(16), begun_s=time.time())
        try:
            self.place(state.id).mkdir(mode=0o700)
        except OSError as error:
            raise cannot_write(self.place(state.id), error) from error
        return self.note(state)

    def place(self, job: str, name: str = "") -> Path:
        """Return the folder of a job, or a file in it."""
        return self._folder / job / name

    def note(self, state: State, **changes: Any) -> State:
        """Store where a job stands. A job that was removed meanwhile stays removed."""
        state = replace(state, **changes, changed_s=time.time(), process=os.getpid())
        if self.place(state.id).is_dir():
            with whole_file(self.place(state.id, _STATE)) as temporary:
                temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        return state

    def state(self, job: str) -> State:
        """Return where a job stands; ApiError (404) where there is none."""
        state = self._read(job) if _ID.fullmatch(job) else None
        if state is None or self._is_old(state):  # that is to be swept, but is nobody's any more already
            raise ApiError(
                "there is no such video; results are deleted after a while", 404, {"Connection": "keep-alive"}
            )
        return state

    @contextmanager
    def taken(self) -> Iterator[State | None]:
        """Hold the oldest job that waits and that nobody works on, as `running`, for the length of the block; or None.

        One that was begun twice by processes which ended has failed: it is what ends them.
        """
        waiting = [state for state in self._all() if state.status in ("queued", "running")]
        for state in sorted(waiting, key=lambda state: state.begun_s):
            if (held := self._locked(state.id)) is None:
                continue
            with held:
                found = self._read(state.id)  # another may have finished it before we had the lock
                if found is None or found.status not in ("queued", "running"):
                    continue
                if found.tries >= _MOST_TRIES:
                    self.note(found, status="failed", problem=problem(_LOST, 500))
                    self.place(found.id, VIDEO).unlink(missing_ok=True)
                    continue
                yield self.note(found, status="running", progress=0.0, tries=found.tries + 1)
                with suppress(OSError):
                    self.place(state.id, _LOCK).unlink(missing_ok=True)
                return
        yield None

    def _locked(self, job: str) -> IO[bytes] | None:
        """Return the open lock of a job, or None where another process has it or the job is gone."""
        try:
            file = self.place(job, _LOCK).open("ab")
        except OSError:
            return None
        try:
            lock_file(file, shared=False)
        except OSError:
            file.close()
            return None
        return file

    def put_back(self, state: State) -> None:
        """Let a job wait again that was begun and not finished."""
        self.note(state, status="queued", progress=0.0, tries=state.tries - 1)

    def give_up_waiting(self, why: dict[str, Any]) -> None:
        """Let all jobs that wait fail, for the reason given, where nobody will come to take them."""
        for state in self._all():
            if state.status == "queued":
                self.note(state, status="failed", problem=why)
                self.place(state.id, VIDEO).unlink(missing_ok=True)

    def is_cancelled(self, job: str) -> bool:
        return self.place(job, _CANCELLED).exists() or not self.place(job).is_dir()

    def unfinished_here(self) -> tuple[str, ...]:
        """Return the unfinished jobs of this process."""
        return tuple(
            state.id for state in self._all() if state.status in UNFINISHED and state.process == os.getpid()
        )

    def fetched(self, job: str) -> None:
        """Remember that somebody has had the results."""
        with suppress(OSError):
            self.place(job, _FETCHED).touch()

    def is_unfetched(self, job: str) -> bool:
        found = self._read(job)
        return found is not None and found.status == "done" and not self.place(job, _FETCHED).exists()

    def drop(self, job: str) -> None:
        """Cancel an unfinished job, or remove a finished one with its results."""
        if self.state(job).status not in UNFINISHED:
            self.remove(job)
            return
        with suppress(OSError):
            self.place(job, _CANCELLED).touch()
        for name in (VIDEO, ROWS, TABLE):
            self.place(job, name).unlink(missing_ok=True)

    def remove(self, job: str) -> None:
        """Remove all of a job. What cannot be removed now is removed by a later sweep."""
        for name in (
            VIDEO,
            ROWS,
            TABLE,
            ABOUT,
            _LOCK,
        ):  # by name first: to list a folder takes a free file descriptor
            with suppress(OSError):
                self.place(job, name).unlink(missing_ok=True)
        shutil.rmtree(self.place(job), ignore_errors=True)

    def sweep(self) -> None:
        """Remove jobs that are old, too many, or were forgotten. Raises OSError where the folder cannot be listed."""
        finished = []
        for folder in list(self._folder.iterdir()):
            if not _ID.fullmatch(folder.name):
                continue
            state = self._read(folder.name)
            if state and state.status not in UNFINISHED:
                finished.append(state)
            elif _age_s(folder) > (self._longest_s if state else _BEGINNING_S):
                self.remove(folder.name)
        finished.sort(key=lambda state: -state.changed_s)
        for place, state in enumerate(finished):
            if place >= _MOST_KEPT or self._is_old(state):
                self.remove(state.id)

    def _is_old(self, state: State) -> bool:
        return state.status not in UNFINISHED and time.time() - state.changed_s > self._keep_s

    def _all(self) -> Iterator[State]:
        with suppress(OSError):  # there is no folder, so there are no jobs
            for folder in list(self._folder.iterdir()):
                if state := self._read(folder.name):
                    yield state

    def _read(self, job: str) -> State | None:
        try:
            state = State(**json.loads(self.place(job, _STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # removed at this moment
            return None
        if self.place(job, _CANCELLED).exists():
            return replace(state, status="cancelled", problem=None)
        lost = state.status == "receiving" or (state.status == "running" and not self.durable)
        if lost and not is_running(state.process):
            return replace(state, status="failed", problem=problem(_LOST, 500))
        return state


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _age_s(folder: Path) -> float:
    """Return the seconds since something was made or removed in a folder; 0 where it is gone."""
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


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
        # Locked before it has its name: a lock that can be seen and is free belongs to nobody who lives.
        with (folder / f".{_FOLDER_LOCK}").open("xb") as lock:
            lock_file(lock, shared=True)
            (folder / f".{_FOLDER_LOCK}").rename(folder / _FOLDER_LOCK)
            watcher = _watched(folder)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if watcher:
            watcher.wait()


def kept_folder(path: Path) -> Path:
    """Return a folder that outlives the server, made where it is missing, for this user alone.

    OutputError where it cannot be written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise cannot_write(path, error) from error


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
        try:
            lock_file(file, shared=False)
        except BlockingIOError:
            return True
    return False


def lock_file(file: IO[bytes], *, shared: bool) -> None:
    """Lock an open file for as long as it is open; BlockingIOError where another has it. Windows: does nothing."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
