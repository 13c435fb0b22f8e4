"""Logs as JSON, and the identifier that ties an answer to its line."""

from __future__ import annotations

import json
import time

from .conftest import Running, Start, png


def requests_of(server: Running, count: int) -> list[dict]:
    """Wait for the lines about so many requests; they are written after the answer is sent."""
    ends = time.monotonic() + 30
    while True:
        text = server.log.read_text().splitlines()
        lines = [json.loads(line) for line in text if line.startswith("{") and line.endswith("}")]
        found = [line for line in lines if line["logger"] == "mien.requests"]
        if len(found) >= count:
            return found
        assert time.monotonic() < ends, text


def test_each_request_is_a_line_of_json_that_says_nothing_of_the_client(start: Start) -> None:
    with start("--log-json") as server:
        server.ask("POST", "/v1/analyze", png(9), X_Request_Id="from-the-proxy.1")
        answer = server.ask("GET", "/v1/videos/nobodys?name=secret", X_Request_Id="two words")
        first, second = requests_of(server, 2)
    assert first.pop("time").endswith("+00:00")
    assert 0 < first.pop("seconds") < 60
    assert first == {
        **{"level": "info", "logger": "mien.requests", "message": "answered", "request": "from-the-proxy.1"},
        **{"method": "POST", "route": "/v1/analyze", "status": 200},
    }
    assert (second["route"], second["status"]) == ("/v1/videos/{id}", 404)
    assert second["request"] == answer.headers["x-request-id"] != "two words"
    assert "secret" not in server.log.read_text() and "127.0.0.1" not in str(first) + str(second)


def test_without_the_option_requests_are_not_logged(server: Running) -> None:
    before = server.log.read_text()
    assert len(server.ask("GET", "/healthz").headers["x-request-id"]) == 16
    assert server.log.read_text() == before
