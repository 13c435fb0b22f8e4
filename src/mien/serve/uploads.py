"""What clients send, within limits on bytes, parts, memory and time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from mien.files import cannot_write, clipped
from mien.serve.config import MEGA
from mien.serve.problems import ApiError, Busy

FORM = "multipart/form-data"
_SLOWEST_BYTES_S = 64_000  # a body gets the time limit, and more for each byte that has come
_START_S, _LEAST_BYTES_S = 10.0, 1_000  # and is given up where it is slower than this after that time
_TAIL_BYTES = 256  # longer than any closing delimiter (RFC 2046: boundaries of up to 70 letters)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME_LETTERS = 200


class Budget:
    """Bytes that may be in memory, over all requests. Used from one event loop."""

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes bytes, or raises Busy; they are given back at the end of the block."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left:
                raise Busy("the pictures that wait fill the memory that they may have")
            self._left -= count
            taken += count

        try:
            yield take
        finally:
            self._left += taken


class LimitedBody:
    """A `receive` that refuses a body which is too long, or too slow in coming.

    limit_bytes: of the whole body. take: is told of every byte that came. Raises ApiError.
    """

    def __init__(
        self,
        request: Request,
        limit_bytes: int,
        timeout_s: float,
        take: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._receive: Receive = request.receive
        self._limit, self._timeout_s, self._take = limit_bytes, timeout_s, take
        self._begun = time.monotonic()
        self._count = 0
        self.tail = b""
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit_bytes:
            raise self._too_long()

    async def __call__(self) -> Message:
        allowed_s = min(
            self._timeout_s + self._count / _SLOWEST_BYTES_S, _START_S + self._count / _LEAST_BYTES_S
        )
        left_s = self._begun + allowed_s - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(left_s, 0))
        except TimeoutError as error:
            raise ApiError(
                f"the request came too slowly: {self._count:,} bytes in {allowed_s:.0f} seconds", 408
            ) from error
        if body := message.get("body"):
            self._count += len(body)
            if self._count > self._limit:
                raise self._too_long()
            self._take(len(body))
            self.tail = (self.tail + body[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return message

    def _too_long(self) -> ApiError:
        return ApiError(
            f"the request has more than the {self._limit / MEGA:g} MB that this server takes", 413
        )


def without_parameters(request: Request) -> None:
    """Refuse parameters in the address: whoever sends some expects that they count."""
    if names := ", ".join(printable(name) for name in request.query_params):
        raise ApiError(
            f"this address takes no parameters, got {clipped(names)}; what it answers with is chosen where the server "
            "starts: mien serve --help",
            422,
        )


def kind_of(request: Request, prefix: str, field: str) -> str:
    """Return the media type. Raises ApiError unless it is `prefix`*, unnamed bytes or a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("", "application/octet-stream", FORM) or kind.startswith(prefix):
        return kind
    raise ApiError(
        f"the content type {printable(kind)!r} is not taken; send {prefix}*, application/octet-stream, or {FORM} with "
        f"a file named {field}",
        415,
    )


@asynccontextmanager
async def files_of(
    request: Request, body: LimitedBody, field: str, most: int
) -> AsyncIterator[list[UploadFile]]:
    """Read a form; its files lie in memory or, above a megabyte, in files without a name.

    field: the only name that is allowed. Raises ApiError for another form, for one that was cut off, and above
    `most` files; OutputError where there is no room for them.
    """
    try:
        async with Request(request.scope, body).form(max_files=most, max_fields=1) as form:
            parts = form.multi_items()
            if not body.tail.rstrip(b"\r\n").endswith(b"--"):  # python-multipart gives what there is
                raise ApiError("the form is cut off: its closing delimiter is missing; send it again", 400)
            files = [part for name, part in parts if name == field and isinstance(part, UploadFile)]
            if not files or len(files) < len(parts):
                raise ApiError(
                    f"the form must have files named {field} and nothing else; it has: {_listed(parts)}", 422
                )
            yield files
    except HTTPException as error:
        reason = error.detail.rstrip(".")
        raise ApiError(
            f"the form cannot be read ({reason}); it takes {most} file{'s' * (most > 1)} at most, named {field}",
            400,
        ) from error
    except OSError as error:  # a file of more than a megabyte, on a full disk
        raise cannot_write(Path(f"a file of the form's {field}"), error) from error


def _listed(parts: Sequence[tuple[str, UploadFile | str]]) -> str:
    kinds = {printable(name) + " (text)" * isinstance(part, str) for name, part in parts}
    return ", ".join(sorted(kinds)) or "none"


def printable(name: str) -> str:
    """Return what a client calls something, fit for a message of one line."""
    return _UNPRINTABLE.sub("�", name)[:_NAME_LETTERS]
