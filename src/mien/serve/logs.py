"""Logs as lines of JSON, the identifier that ties lines and answers to a request, and traces of OpenTelemetry."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

from mien.errors import ConfigError, need

REQUEST_HEADER = "X-Request-Id"
request_id: ContextVar[str] = ContextVar("request_id", default="")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_requests = logging.getLogger("mien.requests")


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
    _requests.setLevel(logging.INFO)


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
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # while it starts: the error says it in a line
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
