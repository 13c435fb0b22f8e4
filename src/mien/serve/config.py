"""What can be chosen about the server: the one home of its settings. Imports nothing heavy: the command reads it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from mien.errors import ConfigError
from mien.settings import ABOVE_0, FROM_0, FROM_1, check_settings, from_to, setting

# A browser hands the token on as part of a WebSocket subprotocol, which allows only these letters (RFC 9110, token).
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DATABASES = ("postgresql", "postgresql+psycopg", "postgres")
MEGA = 1_000_000
PORT = from_to(0, 65535)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The settings of `mien serve`, all but the network. Raises ConfigError.

    A limit holds for one process, but for those of videos: all that share `jobs` have these in common.
    """

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0: every network that this machine is in")
    port: int = setting(8000, "port to listen on; 0: any free one", within=PORT)
    workers: int = setting(
        1, "processes that answer; each loads the network and takes its share of requests", within=FROM_1
    )
    token: str | None = setting(
        None,
        "what a client must send as a bearer token; better given in $MIEN_TOKEN, where ps does not show it",
    )
    keys: str | None = setting(
        None,
        "TOML file with a table a client: token and, where wanted, limits; unset: one token for all, or none",
    )
    allow_origin: tuple[str, ...] = setting(
        (), "origins of other pages whose scripts may ask, such as https://example.org"
    )
    allow_host: tuple[str, ...] = setting(
        (), "names by which this server may be called; none: this machine's own where it listens only there"
    )

    trust_proxy: tuple[str, ...] = setting(
        (), "addresses of proxies whose X-Forwarded-For says who the client is; none: nobody's"
    )

    log_json: bool = setting(False, "write logs as JSON to standard error, with a line about each request")

    max_megabytes: int = setting(
        32, "megabytes that one request may bring, unless it is a video", within=FROM_1
    )
    max_megapixels: int = setting(25, "megapixels that a picture or a frame may have", within=FROM_1)
    max_pictures: int = setting(32, "pictures that one request may bring", within=FROM_1)
    max_requests: int = setting(256, "requests at the same time; more are told to come back", within=FROM_1)
    waiting_megabytes: int = setting(
        256, "megabytes of pictures that may be in memory, waiting", within=FROM_1
    )
    queue: int = setting(
        256, "pictures that may wait, half of them of one client; more are told to come back", within=FROM_1
    )
    decode_s: float = setting(
        4.0, "seconds of processor time that decoding a picture may take", within=ABOVE_0
    )
    batch: int = setting(
        32, "pictures that are gathered into one batch at most; 1: one at a time", within=FROM_1
    )
    batch_wait_ms: float = setting(
        4.0, "milliseconds that a busy server waits for a batch to fill", within=FROM_0
    )
    timeout_s: float = setting(
        30.0, "seconds that sending a request and answering it may take", within=ABOVE_0
    )

    max_videos: int = setting(4, "videos that may wait or run at the same time", within=FROM_1)
    max_video_megabytes: int = setting(512, "megabytes that a video may have", within=FROM_1)
    max_video_minutes: float = setting(60.0, "minutes that the analysis of a video may take", within=ABOVE_0)
    keep_minutes: float = setting(
        15.0, "minutes after which the results of a video are deleted", within=ABOVE_0
    )
    jobs: str | None = setting(
        None,
        "where videos wait and quotas are counted, so that both outlive the server and several share them: a file "
        "(SQLite), or postgresql://USER:PASSWORD@HOST/DATABASE, better given in $MIEN_JOBS, where ps does not show it; "
        "unset: a file that goes with the server",
    )
    max_jobs_megabytes: int = setting(
        2500,
        "megabytes that videos and their results may take together; the oldest results go first",
        within=FROM_1,
    )
    lease_s: float = setting(
        30.0,
        "seconds after which another process begins a video anew whose own was killed or cut off; at once where --jobs "
        "is a file and it was killed",
        within=ABOVE_0,
    )
    max_live: int = setting(8, "cameras at the same time", within=FROM_1)
    grace_s: float = setting(
        30.0, "seconds for which a stopping server goes on with what it has begun", within=FROM_0
    )
    drain_s: float = setting(
        1.0, "seconds for which a stopping server still answers, while clients go elsewhere", within=FROM_0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.queue < self.max_pictures:
            raise ConfigError(
                f"queue must have room for the {self.max_pictures} pictures of one request, got {self.queue}; raise "
                "--queue or lower --max-pictures"
            )
        if self.max_jobs_megabytes < self.max_video_megabytes:
            raise ConfigError(
                f"max_jobs_megabytes must have room for a video of {self.max_video_megabytes} MB, got "
                f"{self.max_jobs_megabytes}; raise --max-jobs-megabytes or lower --max-video-megabytes"
            )
        scheme, mark, _ = (self.jobs or "").partition("://")
        if self.jobs == "" or (mark and scheme not in _DATABASES):
            raise ConfigError(
                f"jobs is the path of a file or begins with postgresql://, got {f'{scheme}://…' if mark else 'nothing'}"
            )
        if self.token is not None:
            check_token(self.token)
        for origin in self.allow_origin:
            if not _is_origin(origin):
                raise ConfigError(
                    f"an allowed origin is scheme, name and perhaps port, as https://example.org; got {origin!r}"
                )
        for address in self.trust_proxy:
            try:
                ipaddress.ip_network(address)
            except ValueError:
                raise ConfigError(
                    f"a trusted proxy is an address or a network, as 10.0.0.1 or 10.0.0.0/8; got {address!r}"
                ) from None

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names, in small letters and without port, by which the server may be called; empty: any."""
        given = tuple(map(host_name, self.allow_host))
        return (*_LOCAL_NAMES, *given) if self.is_local else given

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of other pages whose scripts may ask, as browsers write them."""
        return tuple(origin.lower() for origin in self.allow_origin)

    @property
    def max_pixels(self) -> int:
        return self.max_megapixels * MEGA


def host_name(host: str) -> str:
    """Return what a Host header names, in small letters and without its port: `[::1]:8000` is `[::1]`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and not name.endswith(":") else host).lower()


def check_token(token: str) -> None:
    """Raise ConfigError for a token that is short, or that a browser could not hand on."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            "the token must be 16 to 200 letters, digits or . _ ~ -, got another; a good one: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # such as `http://[`
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.netloc)
        and text == f"{parts.scheme}://{parts.netloc}"
    )
