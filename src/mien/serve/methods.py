"""Which methods an address takes: HEAD wherever GET is, and all of them in `Allow` where another is refused."""

from __future__ import annotations

from fastapi import Request
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS = ("GET", "POST", "DELETE")  # that anything here is for


class Heads:
    """A layer that answers HEAD as it answers GET (RFC 9110, section 9.3.2); uvicorn leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def allowed(request: Request) -> str | None:
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
