"""The application: addresses, page and middleware put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mien._version import __version__
from mien.serve import api, live
from mien.serve.jobs import Jobs
from mien.serve.middleware import Middleware
from mien.serve.problems import add_handlers
from mien.serve.schemas import with_problem
from mien.serve.service import Service

PAGE = Path(__file__).parent / "page"
SAMPLES = Path(__file__).parents[1] / "samples"  # portraits that the page can try, one click away
_SWEEP_S = 30.0  # at most between two sweeps; results that are kept for less are swept more often
_DESCRIPTION = """Finds faces in pictures and names the expression that people would see. It does not read feelings.

Errors are problems (RFC 9457) with one line in `detail`. `WS /v1/live` takes JPEG frames as binary messages and
answers each, or the newest of those that came meanwhile, with JSON: `sequence` (which of the frames it was, from 1),
`width`, `height`, `latency_ms` and `faces`, each a Face with its `track`; or `sequence` and `problem`. Where the server
wants a token, a browser offers the subprotocols `mien` and `bearer.TOKEN`.
"""


def build(service: Service) -> ASGIApp:
    """Return the application with its layer."""
    config = service.config

    @asynccontextmanager
    async def sweeping(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(service.jobs, min(_SWEEP_S, 15 * config.keep_minutes)))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title="mien",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=sweeping,
        docs_url=None,  # FastAPI's own pages load scripts from another host; ours: /docs
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy that ends TLS it would lead to plain http
    )
    app.state.service = service
    add_handlers(app)
    for part in (api, live):
        app.include_router(part.router)
    _describe(app, needs_token=bool(config.token or service.keys))
    _add_page(app)
    layered = Middleware(app, service)
    if config.allow_origin:
        return CORSMiddleware(
            layered,
            allow_origins=config.allow_origin,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    return layered


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
    app.mount("/samples", StaticFiles(directory=SAMPLES), name="samples")


def _describe(app: FastAPI, *, needs_token: bool) -> None:
    """Complete the OpenAPI document that FastAPI makes of the addresses."""
    made = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = with_problem(made())
            if needs_token:
                described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                described["security"] = [{"token": []}]
        return app.openapi_schema or described

    app.openapi = document  # type: ignore[method-assign]


async def _sweep(jobs: Jobs, every_s: float) -> None:
    """Delete results whose time has come, for as long as the server runs, whatever happens."""
    failed = False
    while True:
        await asyncio.sleep(every_s)
        try:
            await asyncio.to_thread(jobs.sweep)
        except Exception as error:
            if not failed:  # one line for each time that it begins to fail
                logging.getLogger("mien").error("results cannot be deleted, trying again: %s", error)
            failed = True
        else:
            failed = False
