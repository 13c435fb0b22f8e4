"""A client of `mien serve` for Python programs. Needs nothing but mien; the extra `serve` is for the server alone."""

from __future__ import annotations

import asyncio
import http.client
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from mien.detect.base import Box, Landmarks
from mien.errors import ConfigError, DataError, ImageError, MienError
from mien.images.decode import read_bytes
from mien.images.listing import picture_path
from mien.predict.results import Face, Faces

T = TypeVar("T")
Sent = str | Path | bytes | bytearray | memoryview
_POLL_S = 0.25
_FACE = tuple(one.name for one in fields(Face))
_NO_ANSWER = (0, 502, 504)  # of nobody, of a proxy that reaches nobody
_RETRY_S = 1.0  # between two tries to reach a server
_FORGET_S = 5.0  # to delete a result that has been fetched: the server does it by itself in time


class ServerError(MienError):
    """The server cannot be reached, or does not do what it was asked. status: of HTTP; 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks a server that runs `mien serve`. Safe to use from several threads.

    address: as https://faces.example.org, perhaps with a path that a proxy wants. token: what the server was started
    with. timeout_s: for each piece of an answer. patience_s: for which requests are repeated, as the server says, while
    it has too much to do; and for which a video that it works on is asked after again when the connection drops or the
    server is started anew, counted from its last answer. May be used in `with`, as other clients are; there is nothing
    to close, because each request has a connection of its own.
    """

    def __init__(
        self,
        address: str = "http://localhost:8000",
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 60.0,
    ) -> None:
        self._address = address
        self._secure, self._host, self._port, self._path = _address_parts(address)
        if token and not (token.isascii() and token.isprintable()):  # it is not shown: errors end up in logs
            raise ConfigError(
                "the token has a line break or other letters that no header takes; a file's last line break goes with "
                "token.strip()"
            )
        if timeout_s <= 0 or patience_s < 0:
            raise ConfigError(
                f"timeout_s must be above 0 and patience_s 0 or more, got {timeout_s} and {patience_s}"
            )
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s, self._patience_s = timeout_s, patience_s

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def analyze(self, picture: Sent) -> Faces:
        """Return the faces in a picture, the largest first; no face is empty. They do not hold the picture.

        picture: a path, or the content of a picture file. Raises ImageError where it cannot be read, ServerError where
        the server cannot answer.
        """
        data, _ = _content(picture)
        answer = self._ask("POST", "/v1/analyze", data, {"Content-Type": "application/octet-stream"})
        return _faces(answer["pictures"][0])

    def analyze_batch(self, pictures: Iterable[Sent]) -> list[Faces | ImageError]:
        """Return the faces of each picture, or what is wrong with it, with one request for all of them.

        A file that cannot be opened is an ImageError in its place as well. How many one request may bring is among the
        limits of `models`.
        """
        if isinstance(pictures, Sent):
            raise DataError("analyze_batch takes several pictures, got one; put it in a list, or use analyze")
        opened = [_content_or_error(picture) for picture in pictures]
        sent = [content for content in opened if not isinstance(content, ImageError)]
        answers = iter(self._analyze_several(sent))
        return [content if isinstance(content, ImageError) else next(answers) for content in opened]

    def _analyze_several(self, sent: list[tuple[bytes, str]]) -> list[Faces | ImageError]:
        if not sent:
            return []
        line = secrets.token_hex(16)
        body = (
            b"".join(_part(line, "pictures", name, data) for data, name in sent) + f"--{line}--\r\n".encode()
        )
        try:
            answer = self._ask(
                "POST", "/v1/analyze", body, {"Content-Type": f"multipart/form-data; boundary={line}"}
            )
        except ImageError as error:
            if len(sent) > 1:
                raise
            return [error]
        return [
            ImageError(one["problem"]["detail"]) if "problem" in one else _faces(one)
            for one in answer["pictures"]
        ]

    def analyze_video(
        self, video: Sent, progress: Callable[[float], None] = lambda _: None
    ) -> dict[str, Any]:
        """Return the faces of a video over time, as `/v1/videos/{id}/result` has them, and delete them on the server.

        progress: called with the share that is done, 0 to 1. Raises ImageError for what is no video.
        """
        data, _ = _content(video)
        job = self._ask("POST", "/v1/videos", data, {"Content-Type": "application/octet-stream"})["id"]
        try:
            while (state := self._ask_again(f"/v1/videos/{job}"))["status"] in ("queued", "running"):
                progress(state["progress"])
                self._wait(_POLL_S)
            if "problem" in state:
                raise _error(state["problem"])
            return dict(self._ask_again(f"/v1/videos/{job}/result"))
        finally:
            with suppress(MienError):  # the result is here, or an error is on its way
                self._once(
                    "DELETE", f"/v1/videos/{job}", None, self._headers, min(self._timeout_s, _FORGET_S)
                )

    def models(self) -> dict[str, Any]:
        """Return what `/v1/models` says: the network, its heads and labels, the limits of a request."""
        return dict(self._ask("GET", "/v1/models"))

    def _ask_again(self, path: str) -> Any:
        """Return what is to be had at an address, over short outages as well."""
        ends = time.monotonic() + self._patience_s
        while True:
            try:
                return self._ask("GET", path)
            except ServerError as error:
                if error.status not in _NO_ANSWER or time.monotonic() + _RETRY_S > ends:
                    raise
            self._wait(_RETRY_S)

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Any:
        """Return the answer's JSON; ask again for as long as the server is busy and patience lasts."""
        ends = time.monotonic() + self._patience_s
        while True:
            status, found, data = self._once(method, path, body, {**self._headers, **headers})
            wait_s = _wait_s(found)
            if status != 503 or time.monotonic() + wait_s > ends:
                break
            self._wait(wait_s)
        try:
            answer = json.loads(data) if data else None
        except ValueError:
            raise ServerError(_no_json(self._address, status), status) from None
        if status >= 400:
            raise _error(answer, status)
        return answer

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        try:
            with closing(kind(self._host, self._port, timeout=timeout_s or self._timeout_s)) as connection:
                connection.connect()
                self._connected(connection.sock, method)
                try:
                    connection.request(method, self._path + path, body, dict(headers))
                except OSError as error:  # it would have no more of it, and may have said why
                    answer = _last_words(connection, error)
                else:
                    answer = connection.getresponse()
                return answer.status, dict(answer.headers.items()), answer.read()
        # UnicodeError: a host without a name.
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise ServerError(
                f"{self._address} cannot be asked: {error}; does mien serve run there?"
            ) from error

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def _connected(self, connection: socket.socket, method: str) -> None:
        """Called before a request is sent."""


class _CancellableClient(Client):
    """A client for one call, which another thread may cancel at any moment."""

    _cancelled: threading.Event
    _connection: socket.socket | None = None

    @classmethod
    def like(cls, client: Client) -> _CancellableClient:
        one = cls.__new__(cls)
        vars(one).update(vars(client), _cancelled=threading.Event())
        return one

    def cancel(self) -> None:
        """End the call: its request is broken off, its video deleted on the server."""
        self._cancelled.set()
        if self._connection is not None:
            with suppress(OSError):  # it is closed already
                self._connection.shutdown(socket.SHUT_RDWR)

    def _wait(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise ServerError("the call was cancelled")

    def _connected(self, connection: socket.socket, method: str) -> None:
        self._connection = connection
        if self._cancelled.is_set() and method != "DELETE":  # it came while the connection was made
            raise ServerError("the call was cancelled")


class AsyncClient:
    """The same for programs on asyncio: each call waits in a thread of its own, and the loop goes on meanwhile.

    Takes what `Client` takes. Calls at the same time are requests at the same time: `await asyncio.gather(...)`. A call
    that is cancelled breaks its request off, and its video is deleted on the server. May be used in `async with`.
    """

    def __init__(
        self,
        address: str = "http://localhost:8000",
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 60.0,
    ) -> None:
        self._client = Client(address, token=token, timeout_s=timeout_s, patience_s=patience_s)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def analyze(self, picture: Sent) -> Faces:
        """As `Client.analyze`."""
        return await self._in_thread(lambda client: client.analyze(picture))

    async def analyze_batch(self, pictures: Iterable[Sent]) -> list[Faces | ImageError]:
        """As `Client.analyze_batch`."""
        return await self._in_thread(lambda client: client.analyze_batch(pictures))

    async def analyze_video(
        self, video: Sent, progress: Callable[[float], None] = lambda _: None
    ) -> dict[str, Any]:
        """As `Client.analyze_video`; `progress` is called in the thread."""
        return await self._in_thread(lambda client: client.analyze_video(video, progress))

    async def models(self) -> dict[str, Any]:
        """As `Client.models`."""
        return await self._in_thread(lambda client: client.models())

    async def _in_thread(self, call: Callable[[Client], T]) -> T:
        client = _CancellableClient.like(self._client)
        thread = ThreadPoolExecutor(1)  # asyncio's own are few, and a video takes one for minutes
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, call, client)
        finally:
            client.cancel()
            thread.shutdown(wait=False)


def _address_parts(address: str) -> tuple[bool, str, int | None, str]:
    """Return whether a server is asked over TLS, its host, its port, and the path before those of its API."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):  # a port that is none, half of an IPv6 address, no text
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"an address is like https://faces.example.org, got {address!r}")
    return parts.scheme == "https", host, port, quote(parts.path.rstrip("/"), safe="/%")


def _last_words(connection: http.client.HTTPConnection, broken: OSError) -> http.client.HTTPResponse:
    """Return the answer of a server that closed the connection before it had the whole request (RFC 9112, 9.5)."""
    try:
        return connection.getresponse()
    except (OSError, http.client.HTTPException):
        raise broken from None


def _content(sent: Sent) -> tuple[bytes, str]:
    """Return the bytes of what is to be sent, and what to call it."""
    if isinstance(sent, bytes | bytearray | memoryview):
        return bytes(sent), "the picture"
    if not isinstance(sent, str | Path):
        raise DataError(
            f"a path (str or Path) or the bytes of a file are sent, got {type(sent).__name__}; of an open file give "
            "its content, file.read(), and of pixels those of a PNG"
        )
    return read_bytes(Path(sent), str(sent)), picture_path(Path(sent).name)


def _content_or_error(sent: Sent) -> tuple[bytes, str] | ImageError:
    try:
        return _content(sent)
    except ImageError as error:
        return error


def _part(line: str, field: str, name: str, data: bytes) -> bytes:
    quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{line}\r\nContent-Disposition: form-data; name="{field}"; filename="{quoted}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def _no_json(address: str, status: int) -> str:
    if status in _NO_ANSWER:
        return f"a proxy at {address} cannot reach mien serve (it answers {status}); does it run there?"
    return f"{address} is not mien serve: it answers no JSON"


def _wait_s(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks for; a second where it has none, or a date, as a proxy may send."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(value) if value.isascii() and value.isdigit() else 1.0


def _error(problem: Any, status: int = 0) -> MienError:
    """Return the error that a problem (RFC 9457) stands for; status: of the answer that brought it."""
    line = "no reason was given"
    if isinstance(problem, dict):
        line, status = problem.get("detail", ""), problem.get("status", status)
    return ImageError(line) if status == 422 else ServerError(line, status)


def _faces(picture: Mapping[str, Any]) -> Faces:
    coarse = picture.get("coarse", False)  # servers before 0.4 do not say
    return Faces(map(_face, picture["faces"]), coarse=coarse)


def _face(found: Mapping[str, Any]) -> Face:
    total = sum(found["probabilities"].values())  # of rounded ones, which no longer sum to one
    shares = {label: share / total for label, share in found["probabilities"].items()}
    landmarks = None if found["landmarks"] is None else Landmarks.of(found["landmarks"])
    exact = {
        "probabilities": shares,
        "probability": shares[found["emotion"]],
        "reasons": tuple(found["reasons"]),
    }
    known = {name: found[name] for name in _FACE if name in found}  # a newer server says more
    return Face(**{**known, **exact, "box": Box(*found["box"]), "landmarks": landmarks})
