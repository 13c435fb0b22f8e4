"""Who may ask, and for how much: the server's name, the origin of the page, the token and its quota."""

from __future__ import annotations

import hmac
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from mien.errors import ConfigError
from mien.serve.config import ServeConfig, check_token, host_name
from mien.serve.problems import ApiError
from mien.settings import from_mapping

SUBPROTOCOL, TOKEN_PREFIX = "mien", "bearer."  # of the WebSocket; the page's api.js has the other end
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Kubernetes and load balancers ask by address; what these answer tells nothing of pictures.
_ANY_NAME = ("/healthz", "/readyz")
_NEEDS_TOKEN = ("/v1/", "/metrics")
_KEY = "mien.key"  # where a request's scope has its client
LIMITS = {  # of a client: what is counted, and the seconds after which counting begins anew
    "pictures_per_minute": ("pictures", 60),
    "pictures_per_day": ("pictures", 86_400),
    "videos_per_day": ("videos", 86_400),
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A client by its token, and how much it may ask for; None: no limit of its own. Raises ConfigError."""

    name: str
    token: str
    pictures_per_minute: int | None = None
    pictures_per_day: int | None = None
    videos_per_day: int | None = None

    def __post_init__(self) -> None:
        check_token(self.token)
        for name in LIMITS:
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ConfigError(f"{name} must be 1 or more, got {limit}; leave it out for no limit")

    @property
    def has_limits(self) -> bool:
        return any(getattr(self, name) is not None for name in LIMITS)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a TOML file with a table a client: its name, `token`, and the limits of `Key`. Raises ConfigError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # of TOML or UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error
    keys = []
    for name, table in tables.items():
        if not isinstance(table, dict) or "token" not in table:
            raise ConfigError(f'{path}: {name} must be a table [{name}] with token = "..."')
        try:
            keys.append(from_mapping(Key, {**table, "name": name}, name))
        except ConfigError as error:
            raise ConfigError(f"{path}, [{name}]: {error}") from error
    if not keys:
        raise ConfigError(f'{path} names no client; write a table [NAME] with token = "..." for each')
    if len({key.token for key in keys}) < len(keys):
        raise ConfigError(f"{path} gives two clients the same token; give each its own")
    return tuple(keys)


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """Return whose request or WebSocket this is, where clients have keys of their own."""
    key: Key | None = scope.get(_KEY)
    return key


def authorize(scope: Scope, config: ServeConfig, keys: Sequence[Key] = ()) -> None:
    """Raise ApiError (421, 403 or 401) unless this request or WebSocket may be answered; note whose it is.

    keys: of clients; the token of the settings, if there is one, is good beside them and has no limits.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if config.hosts and host_name(host) not in config.hosts and scope["path"] not in _ANY_NAME:
        raise ApiError(
            f"this server is not called {host_name(host)!r}; it is {', '.join(config.hosts)}; another name is allowed "
            "with --allow-host",
            421,
        )
    changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
    origin = headers.get("origin")
    if changes and origin is not None and not _is_known(origin, host, config):
        raise ApiError(f"pages of {origin} may not ask this server; allow them with --allow-origin", 403)
    preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
    if (config.token or keys) and scope["path"].startswith(_NEEDS_TOKEN) and not preflight:
        given = _given(scope, headers).encode()
        if config.token and hmac.compare_digest(given, config.token.encode()):
            return
        # All are compared, so that the time tells nothing.
        known = [key for key in keys if hmac.compare_digest(given, key.token.encode())]
        if not known:
            raise ApiError(
                "this server wants its token; send it as Authorization: Bearer TOKEN",
                401,
                {"WWW-Authenticate": 'Bearer realm="mien"'},
            )
        scope[_KEY] = known[0]


def _is_known(origin: str, host: str, config: ServeConfig) -> bool:
    """Say whether a page is ours (whatever the scheme: TLS may end before us) or was allowed."""
    if origin.lower() in config.origins:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # such as `http://[`
        return False


def _given(scope: Scope, headers: Headers) -> str:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else _from_subprotocol(scope.get("subprotocols", ()))


def _from_subprotocol(offered: Iterable[str]) -> str:
    """Return the token that a browser, which cannot give a WebSocket a header, offers as a subprotocol."""
    return next((word.removeprefix(TOKEN_PREFIX) for word in offered if word.startswith(TOKEN_PREFIX)), "")
