"""Who may ask: names, origins, tokens; what every answer carries."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mien.errors import ConfigError
from mien.serve.auth import read_keys
from mien.serve.config import ServeConfig
from mien.serve.metrics import Metrics
from mien.serve.service import ModelOptions, Service

from .conftest import Answer, Running, Start, png

TOKEN = "a-token.of_twenty~letters"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_its_own_names_are_answered(server: Running, host: str) -> None:
    assert server.ask("GET", "/v1/models", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "x:y"]
)
def test_another_name_is_not_answered(server: Running, host: str) -> None:
    """Or a page of evil.example could have its name point to 127.0.0.1 and ask in ours (DNS rebinding)."""
    answer = server.ask("POST", "/v1/analyze", png(1), Host=host)
    assert answer.status == 421
    assert "it is localhost, 127.0.0.1, [::1]; another name is allowed with --allow-host" in answer.line


def test_its_health_is_told_by_any_name(server: Running) -> None:
    """Kubernetes asks by the address of the pod, the container's HEALTHCHECK by 127.0.0.1, whatever the name is."""
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 421)):
        assert server.ask("GET", path, Host="10.1.2.3:8000").status == status


def test_pages_of_others_may_not_ask(server: Running) -> None:
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost.evil.example:{server.port}",
        "http://localhost:1",
    ):
        answer = server.ask("POST", "/v1/analyze", png(1), Origin=origin, Host=f"localhost:{server.port}")
        assert (answer.status, answer.line[: 9 + len(origin)]) == (403, f"pages of {origin}")
        assert "access-control-allow-origin" not in answer.headers
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://localhost:{server.port}/v1/live", origin=origin)
        assert refused.value.response.status_code == 403


def test_our_page_may_ask(server: Running) -> None:
    host = f"localhost:{server.port}"
    assert server.ask("POST", "/v1/analyze", png(1), Origin=f"http://{host}", Host=host).status == 200
    with connect(f"ws://{host}/v1/live", origin=f"http://{host}") as live:
        assert live.subprotocol is None


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/nothing", "/docs", "/openapi.json"])
def test_every_answer_carries_the_headers(server: Running, path: str) -> None:
    headers = server.ask("GET", path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if path.startswith("/v1/") else "no-cache")
    assert "server" not in headers


def test_no_page_that_loads_from_elsewhere(server: Running) -> None:
    assert server.ask("GET", "/redoc").status == 404
    assert b"://" not in server.ask("GET", "/docs").body


def test_a_token_is_asked_for(start: Start) -> None:
    with start(MIEN_TOKEN=TOKEN) as guarded:
        for path in ("/v1/models", "/metrics", "/v1/videos/x", "/v1/live"):
            answer = guarded.ask("GET", path)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="mien"')
            assert answer.line == "this server wants its token; send it as Authorization: Bearer TOKEN"
        for wrong in (TOKEN[:-1], TOKEN + "x", "", "ä"):
            given = f"Bearer {wrong}".encode().decode("latin-1")
            assert guarded.ask("GET", "/v1/models", Authorization=given).status == 401
        for path in ("/v1/models", "/metrics"):
            assert guarded.ask("GET", path, Authorization=f"Bearer {TOKEN}").status == 200
        for path in ("/healthz", "/readyz"):  # what only says that it lives needs none
            assert guarded.ask("GET", path).status == 200
        address = f"ws://localhost:{guarded.port}/v1/live"
        with pytest.raises(InvalidStatus) as refused:
            connect(address, subprotocols=["mien", "bearer.wrong"])
        assert refused.value.response.status_code == 401
        with connect(address, subprotocols=["mien", f"bearer.{TOKEN}"]) as live:
            assert live.subprotocol == "mien", "the token must not come back"
        with connect(address, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as live:
            assert live.subprotocol is None
        assert TOKEN not in guarded.log.read_text()


@pytest.mark.slow
def test_an_allowed_origin_may_ask(start: Start) -> None:
    page = "https://page.example"
    with start("--allow-origin", "https://Page.example", "--allow-host", "Faces.example:8000") as server:
        asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
        answer = server.ask("OPTIONS", "/v1/analyze", **asked)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, page)
        answer = server.ask("POST", "/v1/analyze", png(1), Origin=page, Host="faces.example")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, page)
        assert answer.headers["access-control-expose-headers"] == "Retry-After"
        assert server.ask("POST", "/v1/analyze", png(1), Origin="https://other.example").status == 403


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": 70000}, "port must be from 0 to 65535, got 70000"),
        ({"workers": 0}, "workers must be 1 or more, got 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be above 0, got nan"),
        ({"grace_s": -1.0}, "grace_s must be 0 or more, got -1.0"),
        ({"queue": 3}, "queue must have room for the 32 pictures of one request, got 3"),
        ({"token": "short"}, "the token must be 16 to 200 letters"),
        ({"token": "with/a slash and blanks"}, "the token must be 16 to 200 letters"),
        ({"allow_origin": ("example.org",)}, "an allowed origin is scheme, name and perhaps port"),
        ({"allow_origin": ("https://example.org/",)}, "an allowed origin is scheme, name and perhaps port"),
    ],
)
def test_settings_that_are_not_allowed(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        ServeConfig(**settings)
    assert str(error.value).startswith(words)
    assert str(settings.get("token")) not in str(error.value), "a token belongs in no message"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_what_counts_as_this_machine_alone(host: str, local: bool) -> None:
    config = ServeConfig(host=host)
    assert (config.is_local, bool(config.hosts)) == (local, local)


KEYS = """
[shop]
token = "shop-token.of_twenty~x"
pictures_per_minute = 3
videos_per_day = 1

[office]
token = "office-token.of_twenty~x"
"""


def test_each_client_has_its_own_token_and_quota(start: Start, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(KEYS)
    with start("--keys", str(tmp_path / "keys.toml"), MIEN_TOKEN=TOKEN) as server:

        def ask(
            token: str, path: str = "/v1/analyze", data: bytes = png(9), kind: str = "image/png"
        ) -> Answer:
            return server.ask("POST", path, data, Authorization=f"Bearer {token}", Content_Type=kind)

        assert ask("another-token.of_twenty").status == 401
        if (left_s := 60 - time.time() % 60) < 15:  # with the next minute counting begins anew
            time.sleep(left_s + 0.1)
        assert [ask("shop-token.of_twenty~x").status for _ in range(3)] == [200] * 3
        refused = ask("shop-token.of_twenty~x")
        assert refused.status == 429
        assert refused.line == "shop may ask for 3 pictures a minute and has had 3; try again later"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert ask("office-token.of_twenty~x").status == 200, "the others are not held up"
        assert ask(TOKEN).status == 200, "the server's own token has no limit"
        videos = [ask("shop-token.of_twenty~x", "/v1/videos", b"no video", "video/mp4") for _ in range(2)]
        assert [answer.status for answer in videos] == [202, 429]
        counts = server.ask("GET", "/metrics", Authorization=f"Bearer {TOKEN}").body.decode()
        assert 'mien_pictures_total{client="shop"} 3.0' in counts
        assert "shop-token" not in counts + server.log.read_text()


def test_a_file_of_keys_is_read_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("[a")
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match="is not TOML"):
        Service.open(ModelOptions(), ServeConfig(keys=str(tmp_path / "keys.toml")), tmp_path, Metrics())
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "names no client"),
        ("[a]\nlimit = 3", "a must be a table"),
        ('[a]\ntoken = "short"', "the token must be 16 to 200 letters"),
        (f'[a]\ntoken = "{TOKEN}"\npictures_per_minut = 3', "did you mean 'pictures_per_minute'"),
        (f'[a]\ntoken = "{TOKEN}"\nvideos_per_day = 0', "videos_per_day must be 1 or more"),
        (f'[a]\ntoken = "{TOKEN}"\n[b]\ntoken = "{TOKEN}"', "two clients the same token"),
        ("[a\n", "is not TOML"),
    ],
)
def test_a_file_of_keys_that_says_something_else(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(ConfigError, match=line):
        read_keys(tmp_path / "keys.toml")
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        read_keys(tmp_path / "nowhere.toml")
