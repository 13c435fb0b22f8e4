"""The server as a command runs it: a folder, a socket, and one process of uvicorn or several that share them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.errors import ConfigError, MienError
from mien.serve.app import build
from mien.serve.config import MEGA, ServeConfig
from mien.serve.jobs import Jobs
from mien.serve.metrics import Metrics, count_together
from mien.serve.private_folder import held, private_folder
from mien.serve.problems import ApiError, response_of
from mien.serve.service import ModelOptions, Service
from mien.video.reader import configure_ffmpeg

_LINGER_S = 10.0  # for which the results of a video that ended while going down can be fetched
_LOOK_S = 0.1
_HEAD_S = 10.0  # for the request line and headers, which are small
_KEEP_ALIVE_S = 20
_WAITING_FRAMES = 2  # of a live channel, in the socket; the newest is kept beside them
# What uvicorn logs as errors, the first with a traceback, but is a client's doing or a refusal of ours.
_NO_NEWS = ("Invalid UTF-8 sequence received", "ASGI callable returned without completing handshake")
_WATCH_S = 0.2


def run(options: ModelOptions, config: ServeConfig, ready: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    ready: called once requests are answered, with the address. Raises MienError where the options, the address or a
    folder cannot be had.
    """
    # For before requests are answered, and for when uvicorn, done, gives the signal back: the folder is to be removed.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with private_folder() as folder, listen(config) as taken:

            def tell() -> None:
                ready(address_of(config, taken))

            if config.workers > 1:
                return _Workers(options, config, folder, taken).run(tell)
            serve(options, config, folder, taken, tell)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


class Server(uvicorn.Server):
    """Goes down in peace: after SIGTERM, it takes no new work, finishes what it has begun and lets it be fetched.

    SIGINT, or a second SIGTERM, does not wait for videos.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, grace_s: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._grace_s, self._ready = service, grace_s, ready
        self._leaving: asyncio.Task[None] | None = None
        service.connections = self.server_state.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self.started and self._leaving is None:
            self._loop.call_soon_threadsafe(self._leave)
        else:
            super().handle_exit(sig, frame)

    def _leave(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        service = self._service
        service.take_no_more()
        ends = time.monotonic() + self._grace_s
        while service.video_worker.is_busy and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_S)
        ends = min(ends, time.monotonic() + _LINGER_S)
        while service.has_unfetched() and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_S)
        self.should_exit = True


def listen(config: ServeConfig) -> socket.socket:
    """Take the address and port; ConfigError where that is not possible."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, number)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error}; choose another with "
            "--port or --host"
        ) from error
    return taken


def address_of(config: ServeConfig, taken: socket.socket) -> str:
    """Return what a browser on this machine asks for."""
    host = "localhost" if config.host in ("0.0.0.0", "::") else config.host
    return f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}/"


def serve(
    options: ModelOptions, config: ServeConfig, folder: Path, taken: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until a signal comes. ready: called once requests are answered. Raises MienError from loading."""
    configure_ffmpeg()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a line for every odd form is no news
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_NO_NEWS))
    jobs = Jobs(folder, config.max_videos, 60 * config.keep_minutes)
    service = Service.open(options, config, jobs, Metrics())
    settings = uvicorn.Config(
        build(service),
        http=cast(Any, partial(_HeadTimeoutProtocol, head_s=min(_HEAD_S, config.timeout_s))),
        ws="websockets-sansio",
        ws_max_size=config.max_megabytes * MEGA,
        ws_max_queue=_WAITING_FRAMES,
        ws_per_message_deflate=False,  # frames are compressed already, and a small message must not become a large one
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(config.grace_s)),
    )
    try:
        Server(settings, service, config.grace_s, ready).run([taken])
    finally:
        service.close()


class _HeadTimeoutProtocol(H11Protocol):
    """Closes a connection whose request line and headers are not complete within `head_s` seconds."""

    def __init__(self, *, head_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._head_s = head_s
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, _: str) -> None:
        """Refuse what is no request; the application never sees it."""
        answer = response_of(
            ApiError("this is not HTTP/1.1, or its head is too long; send it as it should be", 400)
        )
        event = h11.Response(status_code=answer.status_code, headers=answer.raw_headers)
        for part in (event, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def _watch(self) -> None:
        """Begin to count while a request has no complete head; stop when it has."""
        if self.transport.get_protocol() not in (None, self) or self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._due is None:
            self._due = self.loop.call_later(self._head_s, self._too_slow)

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_slow(self) -> None:
        self._due = None
        # Between two requests uvicorn's own limit holds; what is half here is not between.
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class _Workers:
    """Starts the processes, replaces one that dies, and hands signals on."""

    def __init__(
        self, options: ModelOptions, config: ServeConfig, folder: Path, taken: socket.socket
    ) -> None:
        count_together(folder)
        self._given = (options, config, folder, taken)
        self._count = config.workers
        self._context = multiprocessing.get_context("spawn")
        self._alive: dict[SpawnProcess, Connection] = {}
        self._signal: int | None = None

    def run(self, ready: Callable[[], None]) -> int:
        before = {one: signal.signal(one, self._hear) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            if not self._serves(self._start()):
                return 2  # the process has said why
            ready()
            while len(self._alive) < self._count:
                self._start()
            while self._signal is None:
                wait([process.sentinel for process in self._alive], _WATCH_S)
                self._replace_the_dead()
        finally:
            self._end()
            for one, handler in before.items():
                signal.signal(one, handler)
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        return 0

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._signal = number

    def _start(self) -> SpawnProcess:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_worker, args=(*self._given, there), name="mien-serve")
        process.start()
        there.close()
        self._alive[process] = here
        return process

    def _serves(self, process: SpawnProcess) -> bool:
        """Wait until a process serves; False when it ended, or we were told to."""
        while process.is_alive() and self._signal is None:
            if self._alive[process].poll(_WATCH_S):
                with suppress(EOFError):
                    return bool(self._alive[process].recv())
        return False

    def _replace_the_dead(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        for process in [process for process in self._alive if not process.is_alive()]:
            self._alive.pop(process).close()
            print(
                f"mien: a process ended with code {process.exitcode}; another takes its place",
                file=sys.stderr,
            )
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            time.sleep(_WATCH_S)  # whatever ends them, it must not keep the machine busy
            self._start()

    def _end(self) -> None:
        for process in self._alive:
            if process.pid and process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, self._signal or signal.SIGTERM)
        for process in self._alive:
            process.join()


def _worker(
    options: ModelOptions, config: ServeConfig, folder: Path, taken: socket.socket, parent: Connection
) -> None:
    """Run in a process of its own; ends when the parent does, however that ends."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the parent alone, which hands it on
    signal.signal(signal.SIGTERM, _leave)

    def ready() -> None:
        parent.send(True)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    try:
        with held(folder):
            serve(options, config, folder, taken, ready)
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv()  # never comes
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)
