"""A request that is refused before all of it came: the client must get to see the answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S, _LINGER_BYTES = 2.0, 64_000_000  # what is still coming then is not going to end


class Lingering:
    """A layer that sends an answer which ends the connection, then reads on for a moment before it does end.

    Closed at once, a connection with unread bytes is reset, and a client that sends first and reads afterwards is told
    of a broken pipe instead of the reason (RFC 9112, section 9.6).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        closes = all_came = False

        async def receiving() -> Message:
            nonlocal all_came
            message = await receive()
            all_came = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start":
                closes = Headers(raw=message["headers"]).get("connection", "").lower() == "close"
            if message.get("more_body", False) or message["type"] != "http.response.body" or not closes:
                return await send(message)
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    left = _LINGER_BYTES
                    while not all_came and left > 0:
                        left -= len((await receiving()).get("body", b""))
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receiving, sending)
