"""Logs as JSON, and the identifier that ties an answer to its line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
        # Nothing else among them.
        assert all(json.loads(line) for line in server.log.read_text().splitlines())
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


def test_requests_are_traced_where_opentelemetry_is_told_to(start: Start) -> None:
    """The collector is a real HTTP server that keeps what OpenTelemetry's own exporter sends."""
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}"
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
        alone = {
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with start(**told, **alone) as server:
            assert server.analyze(png(9)).status == 200
            ends = time.monotonic() + 30
            while not any(b"POST /v1/analyze" in data for data in sent):
                assert time.monotonic() < ends, server.log.read_text()
                time.sleep(0.05)
        collector.shutdown()
    assert any(b"service.name" in data and b"mien" in data for data in sent)
    assert not any(b"client.address" in data for data in sent)


def test_variables_that_opentelemetry_refuses_are_one_line(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--model", str(model)],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("mien: OpenTelemetry does not take what OTEL_... says: ")
