"""One process that serves: uvicorn, its limits, and how it goes down."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn

from mien.errors import ConfigError
from mien.serve.app import build
from mien.serve.config import MEGA, ServeConfig
from mien.serve.jobs import Jobs
from mien.serve.meter import Meter
from mien.serve.network import Network
from mien.serve.protocol import PatientProtocol
from mien.serve.service import Service
from mien.video.reading import hush

_LINGER_S = 10.0  # for which the results of a video that ended while going down can be fetched
_LOOK_S = 0.1
_HEAD_S = 10.0  # for the request line and headers, which are small
_KEEP_ALIVE_S = 20
_WAITING_FRAMES = 2  # of a live channel, in the socket; the newest is kept beside them
# What uvicorn logs as errors, the first with a traceback, but is a client's doing or a refusal of ours.
_NO_NEWS = ("Invalid UTF-8 sequence received", "ASGI callable returned without completing handshake")


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
        while service.runner.is_busy and time.monotonic() < ends:
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
    network: Network, config: ServeConfig, folder: Path, taken: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until a signal comes. ready: called once requests are answered. Raises MienError from loading."""
    hush()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a line for every odd form is no news
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_NO_NEWS))
    jobs = Jobs(folder, config.max_videos, 60 * config.keep_minutes)
    service = Service.open(network, config, jobs, Meter())
    settings = uvicorn.Config(
        build(service),
        http=cast(Any, partial(PatientProtocol, head_s=min(_HEAD_S, config.timeout_s))),
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
