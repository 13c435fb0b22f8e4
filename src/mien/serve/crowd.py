"""How many requests and connections there may be at once, and how long a client may take to read an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.serve.problems import Busy, response_of

_ALWAYS = ("/healthz", "/readyz", "/metrics")  # or nobody could see that the server is full
_READING_S = 60.0  # for each piece of an answer
_CONNECTIONS = 4  # for each request at the same time: browsers keep some open


class Crowd:
    """A layer that answers 503 to more than `most` requests at the same time, and drops who does not read.

    connections: says how many are open; 503 above four times `most`, and the connection is closed.
    """

    def __init__(self, app: ASGIApp, most: int, connections: Callable[[], int]) -> None:
        self._app, self._most, self._connections = app, most, connections
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            return await self._app(scope, receive, send)
        if refusal := self._refusal():
            return await response_of(refusal)(scope, receive, send)

        async def sending(message: Message) -> None:
            await asyncio.wait_for(send(message), _READING_S)

        self._count += 1
        try:
            await self._app(scope, receive, sending)
        except TimeoutError:
            pass  # the server closes a connection whose answer is incomplete
        finally:
            self._count -= 1

    def _refusal(self) -> Busy | None:
        if self._count >= self._most:
            return Busy(f"{self._count} requests are being answered already")
        if (open_now := self._connections()) > _CONNECTIONS * self._most:
            return Busy(f"{open_now} connections are open already")
        return None
