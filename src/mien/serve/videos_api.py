"""`/v1/videos`: a video becomes a job, with progress, results and an end that the client may choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from anyio import open_file
from fastapi import APIRouter, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from mien.files import cannot_write
from mien.serve.config import MEGA
from mien.serve.descriptions import bytes_or_form, problems
from mien.serve.jobs import ABOUT, ROWS, TABLE, UNFINISHED, VIDEO
from mien.serve.problems import Refusal
from mien.serve.schemas import VideoBegun, VideoResult, VideoState
from mien.serve.service import Service, service_of
from mien.serve.uploads import FORM, LimitedBody, files_of, kind_of

FIELD = "video"
_CHUNK_BYTES = 1 << 20

router = APIRouter(prefix="/v1/videos")


@router.post(
    "",
    status_code=202,
    summary="Begin to follow the faces in a video",
    response_model=VideoBegun,
    responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 503, 507),
    openapi_extra=bytes_or_form("video/*", FIELD, several=False),
)
async def begin(request: Request) -> JSONResponse:
    """Send the video as bytes or as a form. It is deleted as soon as it is done, its results some minutes later."""
    service = service_of(request)
    service.refuse_when_draining()
    kind = kind_of(request, "video/", FIELD)
    body = LimitedBody(request, service.config.max_video_megabytes * MEGA, service.config.timeout_s)
    state = service.jobs.begin()
    target = service.jobs.place(state.id, VIDEO)
    try:
        await _receive(request, body, kind, target)
        service.refuse_when_draining()
        state = service.runner.add(state)
    except OSError as error:
        service.jobs.remove(state.id)
        raise cannot_write(Path("the video"), error) from error
    except BaseException:
        service.jobs.remove(state.id)
        raise
    here = f"/v1/videos/{state.id}"
    return JSONResponse({**state.to_dict(), "links": {"self": here, "result": f"{here}/result"}}, 202)


async def _receive(request: Request, body: LimitedBody, kind: str, target: Path) -> None:
    count = 0
    async with await open_file(target, "wb") as file:
        if kind == FORM:
            async with files_of(request, body, FIELD, 1) as (upload,):
                while chunk := await upload.read(_CHUNK_BYTES):
                    count += await file.write(chunk)
        else:
            async for chunk in Request(request.scope, body).stream():
                count += await file.write(chunk)
    if not count:
        raise Refusal("the video is empty (0 bytes); send a video file", 422)


@router.get("/{job}", summary="How far it is", response_model=VideoState, responses=problems(401, 404, 421))
async def state(request: Request, job: str) -> JSONResponse:
    return JSONResponse(service_of(request).jobs.state(job).to_dict())


@router.get(
    "/{job}/result",
    summary="The faces over time",
    response_model=VideoResult,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(401, 404, 409, 410, 421, 422),
    },
)
async def result(request: Request, job: str, format: Literal["json", "csv"] = "json") -> Response:
    """CSV has a row a face and frame; JSON an object a frame. 409 while the video is not done."""
    service = service_of(request)
    _check_done(service, job)
    service.jobs.fetched(job)
    if format == "csv":
        return FileResponse(service.jobs.place(job, TABLE), media_type="text/csv", filename="faces.csv")
    return StreamingResponse(_json(service.jobs.place(job)), media_type="application/json")


def _check_done(service: Service, job: str) -> None:
    found = service.jobs.state(job)
    if found.status in UNFINISHED:
        raise Refusal(f"the video is {found.status}; ask for its state until it is done", 409)
    if found.status != "done":
        end = "failed; its state says why" if found.problem else "was cancelled; send it again"
        raise Refusal(f"there are no results: the video {end}", 410)


def _json(folder: Path) -> Iterator[str]:
    """Yield the result in pieces; a long video has hundreds of megabytes."""
    yield (folder / ABOUT).read_text(encoding="utf-8").removesuffix("}") + ', "rows": ['
    comma = ""
    with (folder / ROWS).open(encoding="utf-8") as rows:
        for row in rows:
            yield comma + row.rstrip("\n")
            comma = ",\n"
    yield "]}"


@router.delete(
    "/{job}",
    status_code=204,
    summary="Cancel it, or delete its results",
    responses=problems(401, 403, 404, 421),
)
async def drop(request: Request, job: str) -> Response:
    service = service_of(request)
    service.jobs.drop(job)
    return Response(status_code=204)
