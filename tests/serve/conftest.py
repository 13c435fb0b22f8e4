"""A real server in a process of its own, with a network whose answers are known; and what talks to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.predict.analyzer import Analyzer, load

from ..model.tiny_onnx import write_folder

STARTS_S = 60.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def line(self) -> str:
        """What a problem says, after looking at its other members."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        assert self.json["status"] == self.status
        assert "\n" not in self.json["detail"]
        return self.json["detail"]


@dataclass
class Running:
    """process: of `mien serve`. temporary: the folder in which it keeps its temporary files."""

    process: subprocess.Popen[str]
    port: int
    temporary: Path
    log: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            with suppress(BrokenPipeError, ConnectionResetError):  # it may hang up before all has come
                connection.request(method, path, body, given)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def analyze(self, data: bytes, kind: str = "application/octet-stream") -> Answer:
        return self.ask("POST", "/v1/analyze", data, Content_Type=kind)

    def send_video(self, data: bytes) -> str:
        answer = self.ask("POST", "/v1/videos", data, Content_Type="video/mp4")
        assert answer.status == 202, answer.body
        return answer.json["id"]

    def finished(self, job: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a video is neither queued nor running; return its state."""
        ends = time.monotonic() + seconds
        while (state := self.ask("GET", f"/v1/videos/{job}").json)["status"] in ("queued", "running"):
            assert time.monotonic() < ends, state
            time.sleep(0.05)
        return state

    def left_files(self) -> list[str]:
        """What lies in our folder, without its lock, and in the database there; videos and results in it by name."""
        (folder,) = self.temporary.glob("mien-serve-*")
        with closing(sqlite3.connect(folder / "jobs.sqlite")) as database:
            found = {name for (name,) in database.execute("SELECT name FROM mien_pieces")}
        files = {path.name for path in folder.rglob("*") if path.is_file() and "jobs.sqlite" not in path.name}
        return sorted(found | (files - {"lock"}))


def form(*files: tuple[str, str, bytes], closed: bool = True) -> tuple[bytes, str]:
    """Return a form of (field, file name, content), and its content type."""
    parts = [
        f'--line\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for field, name, data in files
    ]
    return b"".join(parts) + (b"--line--\r\n" if closed else b""), "multipart/form-data; boundary=line"


def png(level: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A grey picture; size: (width, height)."""
    return cv2.imencode(".png", np.full((size[1], size[0]), level, np.uint8))[1].tobytes()


def jpeg(level: int, size: tuple[int, int] = (64, 48)) -> bytes:
    return cv2.imencode(".jpg", np.full((size[1], size[0], 3), level, np.uint8))[1].tobytes()


class Relay:
    """Passes connections on to a server, and can be out of reach for a while. port: where it listens."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._up = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._up.set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *parts: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=parts, daemon=True))
        self._threads[-1].start()

    def go_away(self, seconds: float) -> None:
        """Break every connection, and each that comes within some seconds."""
        self._up.clear()
        self._break()
        back = threading.Timer(seconds, self._up.set)
        back.daemon = True
        back.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends what waits for it
        self._break()
        for thread in self._threads:
            thread.join(30)
        for one in (self._listener, *self._sockets):
            one.close()

    def _break(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if not self._up.is_set():
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [here, there]
                self._start(self._pass, here, there)
                self._start(self._pass, there, here)

    @staticmethod
    def _pass(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
        for one in (source, to):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def analyzer(model: Path) -> Analyzer:
    return load(model, detector="whole")


@pytest.fixture(scope="session")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a server with options of its own.

    temporary: a folder that another server used before. before: a line of the shell that runs first.
    """

    @contextmanager
    def started(
        *options: str, temporary: Path | None = None, before: str = "", **environment: str
    ) -> Iterator[Running]:
        place = temporary or tmp_path_factory.mktemp("temporary")
        log = tmp_path_factory.mktemp("log") / "stderr.txt"
        command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--model", str(model)]
        if before:
            command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, "--detector", "whole", *options],
                env={**clean, "TMPDIR": str(place), **environment},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        with ended(process, signal.SIGINT):
            yield Running(process, port_of(process, log), place, log)

    return started


@contextmanager
def ended(process: subprocess.Popen[str], by: signal.Signals) -> Iterator[None]:
    """End a server with the block; it has half a minute."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(by)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def port_of(process: subprocess.Popen[str], log: Path) -> int:
    ends = time.monotonic() + STARTS_S
    while "listening on http://" not in (text := log.read_text()):
        assert process.poll() is None and time.monotonic() < ends, text
        time.sleep(0.02)
    return int(text.split("listening on http://")[1].split("/")[0].rpartition(":")[2])


@pytest.fixture(scope="session")
def server(start: Start) -> Iterator[Running]:
    """One server for all tests that leave it as it was. Small limits, so that tests reach them."""
    limits = "--timeout-s 2 --max-megabytes 2 --max-megapixels 1 --max-pictures 8 --max-video-megabytes 3"
    with start(*limits.split()) as running:
        yield running
        assert running.process.poll() is None, running.log.read_text()
        assert "Traceback" not in running.log.read_text()
