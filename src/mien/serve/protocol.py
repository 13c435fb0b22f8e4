"""HTTP as uvicorn speaks it, with a time limit on the head of a request, and what is no HTTP answered as a problem."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.serve.problems import Refusal, response_of


class PatientProtocol(H11Protocol):
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
            Refusal("this is not HTTP/1.1, or its head is too long; send it as it should be", 400)
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
