"""Methods and addresses as HTTP wants them, and problems where no application is asked."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from .conftest import Running, Start

JOB = "/v1/videos/" + "a" * 22


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", JOB, "GET, HEAD, DELETE"),
        ("PATCH", JOB, "GET, HEAD, DELETE"),
        ("DELETE", JOB + "/result", "GET, HEAD"),
        ("GET", "/v1/videos", "POST"),
        ("OPTIONS", "/v1/analyze", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
        ("POST", "/static/app.js", "GET, HEAD"),
    ],
)
def test_what_is_not_for_an_address_is_told_all_that_is(
    server: Running, method: str, path: str, allowed: str
) -> None:
    answer = server.ask(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.line == f"{method} is not for this address; what there is: openapi.json"


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/metrics", "/static/app.js", JOB])
def test_head_is_get_without_a_body(server: Running, path: str) -> None:
    head, got = server.ask("HEAD", path), server.ask("GET", path)
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert server.ask("HEAD", "/v1/analyze").headers["allow"] == "POST"


def test_no_address_leads_to_another(server: Running) -> None:
    """Behind a proxy that ends TLS, the way there would be http, and a picture would go there in the clear."""
    for method, path in (("POST", "/v1/analyze/"), ("GET", "/v1/models/"), ("GET", "/healthz/")):
        answer = server.ask(method, path)
        assert (answer.status, answer.line) == (
            404,
            f"there is nothing at {path}; what there is: openapi.json",
        )


def test_the_live_address_without_an_upgrade_says_what_is_missing(server: Running) -> None:
    answer = server.ask("GET", "/v1/live")
    assert (answer.status, answer.headers["upgrade"], answer.headers["connection"]) == (
        426,
        "websocket",
        "Upgrade",
    )
    assert answer.line.startswith("this address is a WebSocket; ask with Upgrade: websocket")


def first_answer(server: Running, data: bytes) -> tuple[bytes, bytes]:
    """Send raw bytes; return head and body of what comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 hello, is this TLS?\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    ],
    ids=["TLS", "two hosts", "long", "bad chunk"],
)
def test_what_is_no_http_is_a_problem_too(server: Running, data: bytes) -> None:
    head, body = first_answer(server, data)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["detail"][:20]) == (400, "this is not HTTP/1.1")


@pytest.mark.slow
def test_half_requests_give_way_to_whole_ones(start: Start) -> None:
    with start("--max-requests", "1") as small, ExitStack() as opened:
        for _ in range(4):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", small.port)))
            connection.sendall(b"GET / HTTP/1.1\r\n")  # and no more
        for _ in range(4):
            assert small.ask("GET", "/v1/models").status == 200
        assert small.ask("GET", "/healthz").status == 200
