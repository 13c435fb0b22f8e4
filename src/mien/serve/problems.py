"""Errors as clients get them: application/problem+json (RFC 9457) with the same one line that the command prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from mien.errors import DataError, MienError, OutputError

MEDIA_TYPE = "application/problem+json"
BUG = "mien has a bug; the server's log has the details"
_METHODS = ("GET", "POST", "DELETE")  # that anything here is for
_CLOSE = {"Connection": "close"}  # what the client is still sending would otherwise be read to its end


class ApiError(MienError):
    """A request that is not answered. status: of HTTP. headers: of the answer."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {**_CLOSE, **(headers or {})}


class Busy(ApiError):
    """There is more to do than this server will queue."""

    def __init__(self, what: str, after_s: float = 1.0) -> None:
        seconds = min(max(1, math.ceil(after_s)), 60)
        when = "a second" if seconds == 1 else f"{seconds} seconds"
        super().__init__(f"{what}; try again in {when}", 503, {"Retry-After": str(seconds)})


def problem(message: str, status: int, **more: Any) -> dict[str, Any]:
    """Return the members of a problem; `more` are further ones."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        **more,
    }


def problem_of(error: MienError) -> dict[str, Any]:
    """Word one of our errors as a problem."""
    return problem(str(error), status_of(error))


def status_of(error: MienError) -> int:
    if isinstance(error, ApiError):
        return error.status
    if isinstance(error, OutputError):
        return 507
    return 422 if isinstance(error, DataError) else 500


def response_of(error: MienError) -> Response:
    headers = error.headers if isinstance(error, ApiError) else {}
    return JSONResponse(problem_of(error), status_of(error), headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let every error of the application become a problem; a bug of ours is a 500 without details."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, MienError)
        return response_of(error)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {
            404: f"there is nothing at {request.url.path}",
            405: f"{request.method} is not for this address",
        }
        known = "; what there is: openapi.json" if request.app.openapi_url else ""
        line = f"{words.get(error.status_code, error.detail)}{known}"
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := _allowed(request)):
            headers["Allow"] = methods
        return JSONResponse(problem(line, error.status_code), error.status_code, headers, MEDIA_TYPE)

    async def of_values(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        line = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        return JSONResponse(problem(line, 422), 422, None, MEDIA_TYPE)

    async def gone(_: Request, __: Exception) -> Response:
        return JSONResponse(problem("the request ended early", 400), 400, _CLOSE, MEDIA_TYPE)

    async def bug(_: Request, __: Exception) -> Response:
        return JSONResponse(problem(BUG, 500), 500, _CLOSE, MEDIA_TYPE)

    app.add_exception_handler(MienError, ours)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_values)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, bug)


def _allowed(request: Request) -> str | None:
    """Return what `Allow` says about the address of a request; None: no route of ours is there, but files may be.

    Starlette names the methods of the first route alone, and an address has a route for each of its methods.
    """
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    found = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    if "GET" in found:
        found.insert(1, "HEAD")
    return ", ".join(found) or None
