"""Who may ask: the server's name, the origin of the page, the token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from mien.serve.config import ServeConfig
from mien.serve.problems import ApiError

SUBPROTOCOL, TOKEN_PREFIX = "mien", "bearer."  # of the WebSocket; the page's api.js has the other end
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_NEEDS_TOKEN = ("/v1/", "/metrics")


def authorize(scope: Scope, config: ServeConfig) -> None:
    """Raise ApiError (421, 403 or 401) unless this request or WebSocket may be answered."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if config.hosts and _name(host) not in config.hosts:
        raise ApiError(
            f"this server is not called {_name(host)!r}; it is {', '.join(config.hosts)}; another name is allowed "
            "with --allow-host",
            421,
        )
    changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
    origin = headers.get("origin")
    if changes and origin is not None and not _is_known(origin, host, config):
        raise ApiError(f"pages of {origin} may not ask this server; allow them with --allow-origin", 403)
    preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
    if config.token and scope["path"].startswith(_NEEDS_TOKEN) and not preflight:
        _check_token(scope, headers, config.token)


def _is_known(origin: str, host: str, config: ServeConfig) -> bool:
    """Say whether a page is ours (whatever the scheme: TLS may end before us) or was allowed."""
    if origin in config.allow_origin:
        return True
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # such as `http://[`
        return False


def _check_token(scope: Scope, headers: Headers, expected: str) -> None:
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        given = _from_subprotocol(scope.get("subprotocols", ()))
    if not hmac.compare_digest(given.strip().encode(), expected.encode()):
        raise ApiError(
            "this server wants its token; send it as Authorization: Bearer TOKEN",
            401,
            {"WWW-Authenticate": 'Bearer realm="mien"'},
        )


def _name(host: str) -> str:
    """Return a Host header without its port: `[::1]:8000` is `[::1]`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _from_subprotocol(offered: Iterable[str]) -> str:
    """Return the token that a browser, which cannot give a WebSocket a header, offers as a subprotocol."""
    return next((word.removeprefix(TOKEN_PREFIX) for word in offered if word.startswith(TOKEN_PREFIX)), "")
