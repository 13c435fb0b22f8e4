"""Who may ask: name of the server, origin of the page, token. And the headers that every answer carries."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from mien.serve.config import ServeConfig
from mien.serve.problems import Refusal, response_of

SUBPROTOCOL, TOKEN_PREFIX = "mien", "bearer."  # of the WebSocket; the page's api.js has the other end
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_NEEDS_TOKEN = ("/v1/", "/metrics")


class Gate:
    """The outermost layer: lets a request through or answers why not."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self._app, self._config = app, config
        self._headers = dict(_HEADERS)
        if config.allow_origin:
            del self._headers["Cross-Origin-Resource-Policy"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        send = self._with_headers(scope, send)
        try:
            self._check(scope, Headers(scope=scope))
        except Refusal as refusal:
            return await _refuse(scope, receive, send, response_of(refusal))
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._config.hosts and _name(host) not in self._config.hosts:
            raise Refusal(
                f"this server is not called {_name(host)!r}; it is {', '.join(self._config.hosts)}; another name is "
                "allowed with --allow-host",
                421,
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and not self._knows(origin, host):
            raise Refusal(f"pages of {origin} may not ask this server; allow them with --allow-origin", 403)
        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if self._config.token and scope["path"].startswith(_NEEDS_TOKEN) and not preflight:
            self._check_token(scope, headers)

    def _knows(self, origin: str, host: str) -> bool:
        """Say whether a page is ours (whatever the scheme: TLS may end before us) or was allowed."""
        return origin in self._config.allow_origin or urlsplit(origin).netloc == host

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = _from_subprotocol(scope.get("subprotocols", ()))
        expected = self._config.token or ""
        if not hmac.compare_digest(given.strip().encode(), expected.encode()):
            raise Refusal(
                "this server wants its token; send it as Authorization: Bearer TOKEN",
                401,
                {"WWW-Authenticate": 'Bearer realm="mien"'},
            )

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                # What is about people's faces stays in no cache; the page's own files are asked for anew each time.
                headers.setdefault(
                    "Cache-Control", "no-store" if scope["path"].startswith("/v1/") else "no-cache"
                )
            await send(message)

        return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def _name(host: str) -> str:
    """Return a Host header without its port: `[::1]:8000` is `[::1]`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _from_subprotocol(offered: Iterable[str]) -> str:
    """Return the token that a browser, which cannot give a WebSocket a header, offers as a subprotocol."""
    return next((word.removeprefix(TOKEN_PREFIX) for word in offered if word.startswith(TOKEN_PREFIX)), "")
