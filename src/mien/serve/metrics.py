"""What the server counts, in the form that Prometheus reads; what it logs, as lines of JSON; traces of requests.

An identifier ties the lines and answers of one request together.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from mien.errors import ConfigError, need

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)
# Addresses with what varies left out, so that a client cannot make the series grow.
_KNOWN = re.compile(r"/(?:v1/(?:analyze|videos|models|live)|healthz|readyz|metrics|docs|openapi\.json)?")
_VIDEO = re.compile(r"/v1/videos/[^/]+(/result)?")
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
# What prometheus_client looks for where several processes count together.
SEVERAL = "PROMETHEUS_MULTIPROC_DIR"

REQUEST_HEADER = "X-Request-Id"
request_id: ContextVar[str] = ContextVar("request_id", default="")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_requests, _server = logging.getLogger("mien.requests"), logging.getLogger("mien.server")


class Metrics:
    """Counts, times and sizes of one server, in a registry of its own, so that one program may have several."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "mien_requests", "Answered requests", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "mien_request_seconds",
            "From the request to the end of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.faces = Counter(
            "mien_faces", "Faces whose expression was named", ("emotion",), registry=registry
        )
        self.problems = Counter(
            "mien_unreadable_pictures", "Pictures that could not be read", registry=registry
        )
        self.asked = Counter(
            "mien_pictures",
            "Pictures and frames that were sent, by client with a key",
            ("client",),
            registry=registry,
        )
        self.batches = Histogram(
            "mien_batch_pictures", "Pictures in one batch", buckets=_PICTURES, registry=registry
        )
        self.waiting = self._gauge("mien_waiting_pictures", "Pictures that wait for the network")
        self.videos = self._gauge("mien_videos_running", "Videos that are being analysed")
        self.queued = self._gauge(
            "mien_videos_waiting", "Videos that wait, of all that share the queue", "livemax"
        )
        self.cameras = self._gauge("mien_live_connections", "Open live channels")
        if SEVERAL not in os.environ:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def batch(self, pictures: int, waiting: int) -> None:
        """Count a batch that was taken, and what waits still."""
        self.batches.observe(pictures)
        self.waiting.set(waiting)

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count and log an answer. seconds: from the request to the end of its answer."""
        route = _route(path)
        log_request(method, route, status, seconds)
        self.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return all numbers, of all processes of this server, and their media type."""
        registry = self._registry
        if SEVERAL in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=os.environ[SEVERAL])  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _gauge(self, name: str, what: str, together: Literal["livesum", "livemax"] = "livesum") -> Gauge:
        return Gauge(name, what, registry=self._registry, multiprocess_mode=together)


def count_together(folder: Path) -> None:
    """Let this process and those that it starts count together, in files below `folder`."""
    place = folder / "metrics"
    place.mkdir(exist_ok=True)
    os.environ[SEVERAL] = str(place)


def _route(path: str) -> str:
    if _KNOWN.fullmatch(path):
        return path
    if video := _VIDEO.fullmatch(path):
        return "/v1/videos/{id}" + (video[1] or "")
    return "/static" if path.startswith("/static/") else "other"


def identify(given: str | None) -> str:
    """Take a proxy's identifier of a request, where it is fit for a log, or make one; returns it."""
    chosen = given if given and _ID.fullmatch(given) else secrets.token_hex(8)
    request_id.set(chosen)
    return chosen


def log_request(method: str, route: str, status: int, seconds: float) -> None:
    """Log a request that was answered, without what would tell whose it was."""
    if _requests.isEnabledFor(logging.INFO):
        fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
        _requests.info("answered", extra={"fields": fields})


def write_json() -> None:
    """Write the logs of this process to standard error as JSON, a line each, with one about every request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for logger in (_requests, _server):
        logger.setLevel(logging.INFO)


def tell(text: str) -> None:
    """Tell whoever runs the server something, as a line of JSON where `write_json` was called."""
    if _server.isEnabledFor(logging.INFO):
        _server.info(text)
    else:
        print(f"mien: {text}", file=sys.stderr, flush=True)


def trace() -> None:
    """Let OpenTelemetry trace requests where its variables (OTEL_...) are set; they say where traces go as well.

    FastAPI makes the spans itself. MissingExtra without OpenTelemetry's packages, ConfigError for what they refuse.
    """
    if any(name.startswith("OTEL_") for name in os.environ):
        start = need(
            "opentelemetry.instrumentation.auto_instrumentation", "traces", "OTEL_... asks for traces, which"
        )
        os.environ.setdefault("OTEL_SERVICE_NAME", "mien")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")  # the one that the extra brings
        # While it starts: the error says it in a line.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        try:
            start.initialize(swallow_exceptions=False)
        except Exception as error:
            raise ConfigError(f"OpenTelemetry does not take what OTEL_... says: {error}") from error
        logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"request": request_id.get()} if request_id.get() else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
