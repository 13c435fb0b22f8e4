"""A camera in the network, as small as it can be: RTSP (RFC 2326), JPEG over RTP (RFC 2435), all in one TCP link."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import cv2
import numpy as np

_DESCRIPTION = "\r\n".join(
    [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=test",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "m=video 0 RTP/AVP 26",
        "a=control:track",
        "",
    ]
)
_PIECE = 1200  # bytes of a picture in one packet
_PACE_S = 0.04


@contextmanager
def rtsp_camera(frames: Sequence[np.ndarray]) -> Iterator[str]:
    """Serve RGB frames to one client, again and again; gives the address."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, frames, ended), daemon=True)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream"
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(listener: socket.socket, frames: Sequence[np.ndarray], ended: threading.Event) -> None:
    with suppress(OSError):
        client, _ = listener.accept()
        with client, client.makefile("rb") as asked:
            while not ended.is_set():
                method, _, number = _request(asked)
                extra, body = "", ""
                if method == "OPTIONS":
                    extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    extra, body = "Content-Type: application/sdp\r\n", _DESCRIPTION
                elif method == "SETUP":
                    extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{extra}"
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                if method == "PLAY":
                    return _play(client, frames, ended)


def _request(asked: object) -> tuple[str, str, str]:
    lines = []
    while line := asked.readline().strip():  # type: ignore[attr-defined]
        lines.append(line.decode())
    if not lines:
        raise OSError("the client has gone")
    method, address, _ = lines[0].split()
    number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
    return method, address, number


def _play(client: socket.socket, frames: Sequence[np.ndarray], ended: threading.Event) -> None:
    sequence = 0
    begin = time.monotonic()
    while not ended.is_set():
        for frame in frames:
            stamp = int((time.monotonic() - begin) * 90_000)
            tables, scan = _parts(cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes())
            for start in range(0, len(scan), _PIECE):
                piece = scan[start : start + _PIECE]
                last = start + _PIECE >= len(scan)
                jpeg = struct.pack(">I", start) + bytes([1, 255, frame.shape[1] // 8, frame.shape[0] // 8])
                if start == 0:
                    jpeg += struct.pack(">BBH", 0, 0, len(tables)) + tables
                rtp = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), sequence & 0xFFFF, stamp, 1)
                packet = rtp + jpeg + piece
                client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                sequence += 1
            if ended.wait(_PACE_S):
                return


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """Return the quantisation tables (64 bytes each) and the scan of a JPEG file that OpenCV wrote."""
    tables, place = b"", 2
    while data[place + 1] != 0xDA:
        length = struct.unpack_from(">H", data, place + 2)[0]
        if data[place + 1] == 0xDB:
            body = data[place + 4 : place + 2 + length]
            tables += b"".join(body[start + 1 : start + 65] for start in range(0, len(body), 65))
        place += 2 + length
    return tables, data[place + 2 + struct.unpack_from(">H", data, place + 2)[0] : -2]
