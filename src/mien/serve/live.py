"""`WS /v1/live`: JPEG frames in, followed faces out. When frames come faster than answers, the newest wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from mien.errors import ImageError, MienError
from mien.predict.results import Face
from mien.serve.auth import SUBPROTOCOL
from mien.serve.config import MEGA
from mien.serve.fair_queue import picture
from mien.serve.problems import ApiError, problem, problem_of
from mien.serve.service import Service, address_of, service_of
from mien.terminal import counted
from mien.video.analyze import VideoSettings
from mien.video.tracking import Tracker

# Close codes (RFC 6455, section 7.4.1 and IANA).
NOT_UNDERSTOOD, TOO_MANY, GOING_DOWN, IDLE = (1007, 1013, 1012, 1001)
_PATIENCE = 5  # messages in a row that are no picture
_IDLE_S = 60.0
_NAME = "the frame"

router = APIRouter()


@router.get("/v1/live", include_in_schema=False)
async def not_live() -> None:
    """Tell who comes without an upgrade, or whose proxy left it out."""
    raise ApiError(
        "this address is a WebSocket; ask with Upgrade: websocket, and have proxies pass it on",
        426,
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    )


@router.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """Answer frames until the client goes, sends nothing for a minute, or nothing but what is no picture."""
    service = service_of(socket)
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    if service.draining or service.cameras >= service.config.max_live:
        line = (
            "this server is going down"
            if service.draining
            else f"{counted(service.cameras, 'camera is', 'cameras are')} here already"
        )
        await socket.send_json({"problem": problem(f"{line}; try again later", 503)})
        await socket.close(GOING_DOWN if service.draining else TOO_MANY, line)
        return
    service.cameras += 1
    try:
        with service.metrics.cameras.track_inprogress(), suppress(WebSocketDisconnect, RuntimeError):
            await _Channel(socket, service).run()
    finally:
        service.cameras -= 1


class _Channel:
    """One camera. A task keeps the newest frame while the one before is being answered."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self._tracker = Tracker(service.analyzer.head)
        self._newest: tuple[int, float, bytes | str] | None = None
        self._news = asyncio.Event()
        self._bad = 0

    async def run(self) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            while await self._wait(listening):
                assert self._newest is not None
                (sequence, came_s, message), self._newest = self._newest, None
                await self._socket.send_json(await self._answer(sequence, came_s, message))
                if self._bad == _PATIENCE:
                    await self._socket.close(NOT_UNDERSTOOD, "send JPEG frames as binary messages")
                    return
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await listening

    async def _listen(self) -> None:
        """Count every message and keep the newest one alone; ends with the connection."""
        sequence = 0
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            sequence += 1
            data = message.get("bytes")
            self._newest = (sequence, time.monotonic(), message.get("text") or "" if data is None else data)
            self._news.set()

    async def _wait(self, listening: asyncio.Task[None]) -> bool:
        """Wait for a message; False when there will be none."""
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait((news, listening), timeout=_IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._news.is_set():
            self._news.clear()
            return True
        if not listening.done():
            await self._socket.close(IDLE, f"no frame for {_IDLE_S:g} seconds")
        return False

    async def _answer(self, sequence: int, came_s: float, message: bytes | str) -> dict[str, Any]:
        try:
            if isinstance(message, str):
                raise ImageError(f"{_NAME} came as text; send the bytes of a JPEG as a binary message")
            limit = self._service.config.max_megabytes * MEGA
            if len(message) > limit:
                raise ImageError(f"{_NAME} has more than {limit / MEGA:g} MB; make it smaller")
            frame = picture(message, _NAME, self._service.config, VideoSettings.detect_size)
            await self._service.take(self._socket, pictures=1)
            (seen,) = await self._service.answers([frame], address_of(self._socket))
            if isinstance(seen, ImageError):
                raise seen
        except MienError as error:
            self._bad += isinstance(error, ImageError)
            return {"sequence": sequence, "problem": problem_of(error)}
        self._bad = 0
        return {
            "sequence": sequence,
            "width": seen.width,
            "height": seen.height,
            "latency_ms": 1000 * (time.monotonic() - came_s),
            "faces": self._followed(came_s, seen.faces),
        }

    def _followed(self, time_s: float, faces: Sequence[Face]) -> list[dict[str, Any]]:
        return [
            {"track": tracked.track, **tracked.face.to_dict()}
            for tracked in self._tracker.update(time_s, faces)
        ]
