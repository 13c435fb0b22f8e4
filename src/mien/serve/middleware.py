"""The one layer around the application: what holds for every request, whatever its address."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from mien.serve.auth import Key, authorize
from mien.serve.config import ServeConfig
from mien.serve.metrics import REQUEST_HEADER, Metrics, identify
from mien.serve.problems import ApiError, Busy, response_of
from mien.terminal import counted

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ALWAYS = ("/healthz", "/readyz", "/metrics")  # or nobody could see that the server is full
_READING_S = 60.0  # that a client may take for each piece of an answer
_SLOW_S, _SLOW_BYTES_S = 1.0, 16_000  # a body that is older and slower makes room where none is left
_LINGER_S, _LINGER_BYTES = 2.0, 64_000_000  # what is still coming then is not going to end
_GIVES_WAY = ApiError("the request came too slowly while others waited; send it faster, or later", 408)


class Served(Protocol):
    """What the layer asks of the service behind an application; fields: `mien.serve.service.Service`."""

    config: ServeConfig
    keys: tuple[Key, ...]
    metrics: Metrics
    draining: bool
    connections: Collection[object]
    max_connections: int


class Middleware:
    """Authorizes, limits how many requests there are at once, completes the headers, counts."""

    def __init__(self, app: ASGIApp, service: Served) -> None:
        self._app, self._service, self._config = app, service, service.config
        self._headers = dict(_HEADERS)
        if self._config.allow_origin:
            del self._headers["Cross-Origin-Resource-Policy"]
        self._running: set[_Exchange] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        exchange = _Exchange(scope, receive, send, self._complete)
        begun = time.perf_counter()
        exchange.id = identify(Headers(scope=scope).get(REQUEST_HEADER))
        try:
            authorize(scope, self._config, self._service.keys)
            if path not in _ALWAYS:
                self._make_room()
                self._running.add(exchange)
            if method == "HEAD":  # answered as GET is (RFC 9110, section 9.3.2); uvicorn sends no body
                scope = {**scope, "method": "GET"}
            with suppress(TimeoutError):  # uvicorn closes a connection whose answer is incomplete
                await self._app(scope, exchange.receive, exchange.send)
        except ApiError as error:
            await response_of(error)(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.gives_way or exchange.started:
                raise
            exchange.task.uncancel()
            await response_of(_GIVES_WAY)(scope, exchange.receive, exchange.send)
        finally:
            self._running.discard(exchange)
            self._service.metrics.request(path, method, exchange.status, time.perf_counter() - begun)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "websocket.http.response.start":
                self._complete(message, scope["path"])
            await send(message)

        try:
            authorize(scope, self._config, self._service.keys)
        except ApiError as error:
            await WebSocket(scope, receive, sending).send_denial_response(response_of(error))
        else:
            await self._app(scope, receive, sending)

    def _make_room(self) -> None:
        """Let the slowest of the bodies that are still coming give way where no more requests may be answered."""
        if (open_now := len(self._service.connections)) > self._service.max_connections:
            raise Busy(f"{counted(open_now, 'connection is', 'connections are')} open already")
        if len(self._running) < self._config.max_requests:
            return
        now = time.monotonic()
        slowest = min(self._running, key=lambda exchange: exchange.bytes_per_s(now))
        if slowest.bytes_per_s(now) >= _SLOW_BYTES_S:
            raise Busy(f"{counted(len(self._running), 'request is', 'requests are')} being answered already")
        self._running.remove(slowest)
        slowest.give_way()

    def _complete(self, message: Message, path: str) -> None:
        """Add the headers that every answer carries."""
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        if self._service.draining:  # so that the next request of this client goes elsewhere
            headers["Connection"] = "close"
        # What is about people's faces stays in no cache; the page's own files are asked for anew each time.
        headers.setdefault("Cache-Control", "no-store" if path.startswith("/v1/") else "no-cache")


class _Exchange:
    """One request and its answer as they pass.

    id: of the request, for logs. status: of the answer; 500 until there is one. gives_way: it was ended because its
    body came too slowly.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, complete: Callable[[Message, str], None]
    ) -> None:
        self._receive, self._send, self._complete, self._path = receive, send, complete, scope["path"]
        headers = Headers(scope=scope)
        self._all_came = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._closes = self.started = False
        self.id = ""
        self._begun, self._count = time.monotonic(), 0
        self.status, self.gives_way = 500, False
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    def bytes_per_s(self, now: float) -> float:
        """Return how fast the body comes; infinity where that does not matter (yet, or any more)."""
        age_s = now - self._begun
        if self._all_came or self.started or age_s < _SLOW_S:
            return math.inf
        return self._count / age_s

    def give_way(self) -> None:
        self.gives_way = True
        self.task.cancel()

    async def receive(self) -> Message:
        message = await self._receive()
        self._all_came = not message.get("more_body", False)
        self._count += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._complete(message, self._path)
            MutableHeaders(scope=message)[REQUEST_HEADER] = self.id
            self.started = True
            self.status = message["status"]
            self._closes = MutableHeaders(scope=message).get("connection", "").lower() == "close"
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self._closes and not self._all_came:
            await self._close_gracefully(message)
        else:
            await asyncio.wait_for(self._send(message), _READING_S)

    async def _close_gracefully(self, message: Message) -> None:
        """Send the answer to a request that was refused before all of it came, and read on before the connection ends.

        Closed at once, a connection with unread bytes is reset, and a client that sends first and reads afterwards is
        told of a broken pipe instead of the reason (RFC 9112, section 9.6).
        """
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                left = _LINGER_BYTES
                while not self._all_came and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        await self._send({"type": "http.response.body", "body": b""})
