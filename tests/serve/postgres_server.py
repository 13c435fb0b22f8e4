"""A PostgreSQL server of one's own, for tests: Debian's package, no settings of the machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "a/secret@of:postgres"  # with what an address must not hold as it is
ADDRESS = "postgresql://mien:a%2Fsecret%40of%3Apostgres@127.0.0.1:{}/postgres"
_STARTS_S = 120.0


def programs() -> Path | None:
    """Return the folder with initdb and postgres, or None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    return Path(initdb).resolve().parent if initdb else None


class Postgres:
    """Started and stopped at will, always on the same port."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self._folder, self._user = folder, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        words = "--auth=scram-sha-256 --username=mien --no-sync --no-locale --encoding=UTF8 --pwfile=password data"
        self._begin("initdb", *words.split(), stdout=subprocess.DEVNULL).wait(_STARTS_S)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return ADDRESS.format(self.port)

    def start(self) -> None:
        # /dev/shm may be read-only; and nothing here must outlive the machine.
        shared = "-c dynamic_shared_memory_type=mmap -c fsync=off -c shared_buffers=16MB"
        self.process = self._begin(
            "postgres",
            "-D",
            "data",
            "-k",
            str(self._folder),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            *shared.split(),
        )
        ends = time.monotonic() + _STARTS_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < ends, (self._folder / "log").read_text()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: at once, after telling clients. SIGQUIT: as in a crash."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(_STARTS_S)
            self.process = None

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address).close()
        except psycopg.OperationalError:
            return False
        return True

    def _begin(self, program: str, *words: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        folder = programs()
        assert folder is not None
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(folder / program), *words],
                cwd=self._folder,
                user=self._user,
                stdout=stdout or log,
                stderr=log,
            )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server; it will not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="mien-postgres-"))
    server = None
    try:
        server = Postgres(folder, "nobody" if os.geteuid() == 0 else None)
        server.start()
        yield server
    finally:
        if server:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(folder)
