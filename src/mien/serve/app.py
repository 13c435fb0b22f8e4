"""The application: the addresses of pictures, videos and of what the server is; page and middleware put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mien._version import __version__
from mien.errors import ImageError
from mien.serve import live, schemas
from mien.serve.batcher import Answer
from mien.serve.config import MEGA, ServeConfig
from mien.serve.database import DatabaseLost
from mien.serve.fair_queue import Picture, picture
from mien.serve.jobs import PIECE_BYTES, ROWS, TABLE, UNFINISHED, VIDEO, JobLost, Jobs
from mien.serve.middleware import Middleware
from mien.serve.problems import ApiError, add_handlers, problem_of
from mien.serve.schemas import bytes_or_form, problems, with_problem
from mien.serve.service import Service, address_of, service_of
from mien.serve.uploads import FORM, LimitedBody, files_of, kind_of, printable, without_parameters

PAGE = Path(__file__).parent / "page"
SAMPLES = Path(__file__).parents[1] / "samples"  # portraits that the page can try, one click away
_SWEEP_S = 30.0  # at most between two sweeps; results that are kept for less are swept more often
_DESCRIPTION = """Finds faces in pictures and names the expression that people would see. It does not read feelings.

Errors are problems (RFC 9457) with one line in `detail`. `WS /v1/live` takes JPEG frames as binary messages and
answers each, or the newest of those that came meanwhile, with JSON: `sequence` (which of the frames it was, from 1),
`width`, `height`, `latency_ms` and `faces`, each a Face with its `track`; or `sequence` and `problem`. Where the server
wants a token, a browser offers the subprotocols `mien` and `bearer.TOKEN`.
"""
PICTURES, VIDEOS = "pictures", "video"  # fields of forms
_SMALL_BYTES = 65_536  # so few are looked at faster than a thread is asked
_ALONE = "the picture"
router = APIRouter()


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
        # Where this description lies, also below a prefix of a proxy.
        servers=[{"url": ".", "description": "this server, at the address of this page"}],
        lifespan=sweeping,
        docs_url=None,  # FastAPI's own pages load scripts from another host; ours: /docs
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy that ends TLS it would lead to plain http
    )
    app.state.service = service
    add_handlers(app)
    for part in (router, live.router):
        app.include_router(part)
    _describe(app, needs_token=bool(config.token or service.keys))
    _add_page(app)
    layered = Middleware(app, service)
    if config.allow_origin:
        return CORSMiddleware(
            layered,
            allow_origins=config.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    return layered


def page_of(folder: Path) -> str:
    """Return a page's HTML, with the parts put in that all pages share: the icons, the dialog that asks for a token."""
    html = (folder / "index.html").read_text(encoding="utf-8")
    for part in (PAGE / "parts").glob("*.html"):
        html = html.replace(f"<!-- part: {part.stem} -->\n", part.read_text(encoding="utf-8"))
    return html


def _add_page(app: FastAPI) -> None:
    html = page_of(PAGE)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(html)

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


@router.post(
    "/v1/analyze",
    summary="Find faces in pictures and name their expressions",
    response_model=schemas.Analysis,
    responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 429, 503, 507),
    openapi_extra=bytes_or_form("image/*", PICTURES, several=True),
)
async def analyze(request: Request) -> JSONResponse:
    """Send one picture as bytes, or several as a form. Of several, those that cannot be read carry a `problem`."""
    service = service_of(request)
    without_parameters(request)
    kind = kind_of(request, "image/", PICTURES)
    with service.budget.share() as take:
        body = LimitedBody(request, service.config.max_megabytes * MEGA, service.config.timeout_s, take)
        if kind == FORM:
            async with files_of(request, body, PICTURES, service.config.max_pictures) as files:
                sent = [(printable(file.filename or _ALONE), await file.read()) for file in files]
        else:
            sent = [(_ALONE, await Request(request.scope, body).body())]
        await service.take(request, pictures=len(sent))
        answers = await _answers(request, sent)
    if len(answers) == 1 and isinstance(answers[0], ImageError):
        raise answers[0]
    return JSONResponse(
        {
            "model": service.analyzer.metadata.name,
            "head": service.analyzer.head.name,
            "labels": list(service.analyzer.head.labels),
            "pictures": [_shown(name, answer) for (name, _), answer in zip(sent, answers, strict=True)],
        }
    )


async def _answers(request: Request, sent: list[tuple[str, bytes]]) -> list[Answer]:
    """Return an answer for each picture, in order; those with a bad header never reach the batcher."""
    service = service_of(request)
    looked = [await _looked_at(data, name, service.config) for name, data in sent]
    pictures = [entry for entry in looked if isinstance(entry, Picture)]
    found = iter(await _unless_gone(request, service.answers(pictures, address_of(request))))
    return [next(found) if isinstance(entry, Picture) else entry for entry in looked]


async def _unless_gone(request: Request, answers: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    """Wait for answers, or give them up when the client has gone, whose pictures would be in the way of others."""
    working, gone = asyncio.ensure_future(answers), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _looked_at(data: bytes, name: str, config: ServeConfig) -> Picture | ImageError:
    def look() -> Picture | ImageError:
        try:
            return picture(data, name, config)
        except ImageError as error:
            return error

    return look() if len(data) <= _SMALL_BYTES else await to_thread.run_sync(look)


def _shown(name: str, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, ImageError):
        return {"name": name, "problem": problem_of(answer)}
    faces = [face.to_dict() for face in answer.faces]
    size = {"width": answer.width, "height": answer.height}
    return {
        **{"name": name, **size, "coarse": answer.coarse},
        **{"faces": faces, "warning": answer.warning or None},
    }


@router.post(
    "/v1/videos",
    status_code=202,
    summary="Begin to follow the faces in a video",
    response_model=schemas.VideoBegun,
    responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 429, 503, 507),
    openapi_extra=bytes_or_form("video/*", VIDEOS, several=False),
)
async def begin_video(request: Request) -> JSONResponse:
    """Send the video as bytes or as a form. It is deleted as soon as it is done, its results some minutes later."""
    service = service_of(request)
    service.refuse_when_draining()
    without_parameters(request)
    kind = kind_of(request, "video/", VIDEOS)
    await service.take(request, videos=1)
    body = LimitedBody(request, service.config.max_video_megabytes * MEGA, service.config.timeout_s)
    announced = request.headers.get("content-length", "")
    jobs = service.jobs
    job = await to_thread.run_sync(jobs.begin, int(announced) if announced.isdigit() else None)
    try:
        count = await _receive(request, body, kind, jobs, job)
        service.refuse_when_draining()
        state = await to_thread.run_sync(jobs.queue, job, count)
        if await request.is_disconnected():  # nobody will know its address
            raise ClientDisconnect
    except BaseException as error:
        with suppress(DatabaseLost):  # then it goes when its lease is over
            await asyncio.shield(asyncio.to_thread(jobs.remove, job))
        if isinstance(error, JobLost):
            raise ApiError("the video took too long to come; send it again", 408) from error
        raise
    service.video_worker.look()
    here = f"/v1/videos/{job}"
    return JSONResponse({**state.to_dict(), "links": {"self": here, "result": f"{here}/result"}}, 202)


async def _receive(request: Request, body: LimitedBody, kind: str, jobs: Jobs, job: str) -> int:
    """Store the video in pieces as it comes; return how many bytes it has."""
    count = number = 0
    waiting = bytearray()

    async def store(least: int) -> None:
        nonlocal count, number
        while len(waiting) >= least:
            piece = bytes(waiting[:PIECE_BYTES])
            del waiting[:PIECE_BYTES]
            await to_thread.run_sync(jobs.add, job, VIDEO, number, piece)
            count, number = count + len(piece), number + 1

    if kind == FORM:
        async with files_of(request, body, VIDEOS, 1) as (upload,):
            while chunk := await upload.read(PIECE_BYTES):
                waiting += chunk
                await store(PIECE_BYTES)
    else:
        async for chunk in Request(request.scope, body).stream():
            waiting += chunk
            await store(PIECE_BYTES)
    if waiting:
        await store(1)
    if not count:
        raise ApiError("the video is empty (0 bytes); send a video file", 422)
    return count


@router.get(
    "/v1/videos/{job}",
    summary="How far it is",
    response_model=schemas.VideoState,
    responses=problems(401, 404, 421, 503),
)
def video_state(request: Request, job: str) -> JSONResponse:
    return JSONResponse(service_of(request).jobs.state(job).to_dict())


@router.get(
    "/v1/videos/{job}/result",
    summary="The faces over time",
    response_model=schemas.VideoResult,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(401, 404, 409, 410, 421, 422, 503),
    },
)
def video_result(request: Request, job: str, format: Literal["json", "csv"] = "json") -> Response:
    """CSV has one row per face and frame; JSON one object per frame. 409 while the video is not done."""
    jobs = service_of(request).jobs
    _check_done(jobs, job)
    about = jobs.about(job)
    if format == "csv":
        named = {"Content-Disposition": 'attachment; filename="faces.csv"'}
        return StreamingResponse(_pieces(jobs, job, TABLE), headers=named, media_type="text/csv")
    return StreamingResponse(_json(about, _pieces(jobs, job, ROWS)), media_type="application/json")


def _check_done(jobs: Jobs, job: str) -> None:
    found = jobs.state(job)
    if found.status in UNFINISHED:
        raise ApiError(f"the video is {found.status}; ask for its state until it is done", 409)
    if found.status != "done":
        end = "failed; its state says why" if found.problem else "was cancelled; send it again"
        raise ApiError(f"there are no results: the video {end}", 410)


def _pieces(jobs: Jobs, job: str, name: str) -> Iterator[bytes]:
    """Yield a result; TimeoutError, with which the connection ends, where it is deleted in the middle."""
    try:
        yield from jobs.pieces(job, name)
    except (JobLost, DatabaseLost) as error:
        raise TimeoutError from error


def _json(about: str, rows: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the result in pieces; a long video has hundreds of megabytes. rows: lines, cut anywhere."""
    yield about.removesuffix("}").encode() + b', "rows": ['
    held = b""  # of line breaks, since the last has no comma behind it
    for data in rows:
        piece = held + data
        held = b"\n" if piece.endswith(b"\n") else b""
        yield piece.removesuffix(b"\n").replace(b"\n", b",\n")
    yield b"]}"


@router.delete(
    "/v1/videos/{job}",
    status_code=204,
    summary="Cancel it, or delete its results",
    responses=problems(401, 403, 404, 421, 503),
)
def delete_video(request: Request, job: str) -> Response:
    service_of(request).jobs.drop(job)
    return Response(status_code=204)


@router.get(
    "/v1/models",
    summary="The network, its heads and the limits",
    response_model=schemas.Models,
    responses=problems(401, 421),
)
async def models(request: Request) -> JSONResponse:
    """One model answers; which one is chosen when the server is started."""
    service = service_of(request)
    metadata, config, detector = service.analyzer.metadata, service.config, service.analyzer.detector
    heads = [{"name": h.name, "labels": list(h.labels), "threshold": h.threshold} for h in metadata.answers]
    model = {
        "name": metadata.name,
        "default_head": service.analyzer.head.name,
        "heads": heads,
        "card": service.card,
    }
    limits = {
        "max_bytes": config.max_megabytes * MEGA,
        "max_pixels": config.max_pixels,
        "max_pictures": config.max_pictures,
        "max_video_bytes": config.max_video_megabytes * MEGA,
    }
    shown = {"models": [model], "detector": {"name": detector.name}, "limits": limits}
    return JSONResponse({**shown, "version": __version__})


@router.get("/healthz", summary="Whether the process lives", response_model=schemas.Health)
async def health() -> JSONResponse:
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    summary="Whether it takes work",
    response_model=schemas.Health,
    responses=problems(503),
)
async def ready(request: Request) -> JSONResponse:
    """503 while it goes down, while as many pictures wait as may, or where its folder or a thread is lost."""
    service_of(request).check_ready()
    return JSONResponse({"status": "ok"})


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 421)},
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    text, kind = service_of(request).metrics.text()
    return Response(text, headers={"Content-Type": kind})
