"""`POST /v1/analyze`: pictures in, faces with their expressions out."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from mien.errors import ImageError
from mien.serve.config import MEGA
from mien.serve.descriptions import bytes_or_form, problems
from mien.serve.engine import Answer, Picture, picture
from mien.serve.problems import problem_of
from mien.serve.schemas import Analysis
from mien.serve.service import Service, service_of
from mien.serve.uploads import FORM, LimitedBody, files_of, kind_of, printable

FIELD = "pictures"
_SMALL_BYTES = 65_536  # so few are looked at faster than a thread is asked
_ALONE = "the picture"

router = APIRouter()


@router.post(
    "/v1/analyze",
    summary="Find faces in pictures and name their expressions",
    response_model=Analysis,
    responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 503),
    openapi_extra=bytes_or_form("image/*", FIELD, several=True),
)
async def analyze(request: Request) -> JSONResponse:
    """Send one picture as bytes, or several as a form. Of several, those that cannot be read carry a `problem`."""
    service = service_of(request)
    service.refuse_when_draining()
    kind = kind_of(request, "image/", FIELD)
    with service.budget.share() as take:
        body = LimitedBody(request, service.config.max_megabytes * MEGA, service.config.timeout_s, take)
        if kind == FORM:
            async with files_of(request, body, FIELD, service.config.max_pictures) as files:
                sent = [(printable(file.filename or _ALONE), await file.read()) for file in files]
        else:
            sent = [(_ALONE, await Request(request.scope, body).body())]
        answers = await _answers(service, sent)
    if len(answers) == 1 and isinstance(answers[0], ImageError):
        raise answers[0]
    return JSONResponse(
        {
            "model": service.analyzer.facts.name,
            "head": service.analyzer.head.name,
            "labels": list(service.analyzer.head.labels),
            "pictures": [_shown(name, answer) for (name, _), answer in zip(sent, answers, strict=True)],
        }
    )


async def _answers(service: Service, sent: list[tuple[str, bytes]]) -> list[Answer]:
    """Return an answer for each picture, in order; those with a bad header never reach the engine."""
    looked = [await _looked_at(data, name, service.config.max_pixels) for name, data in sent]
    found = iter(await service.answers([entry for entry in looked if isinstance(entry, Picture)]))
    return [next(found) if isinstance(entry, Picture) else entry for entry in looked]


async def _looked_at(data: bytes, name: str, max_pixels: int) -> Picture | ImageError:
    def look() -> Picture | ImageError:
        try:
            return picture(data, name, max_pixels)
        except ImageError as error:
            return error

    return look() if len(data) <= _SMALL_BYTES else await to_thread.run_sync(look)


def _shown(name: str, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, ImageError):
        return {"name": name, "problem": problem_of(answer)}
    faces = [face.to_dict() for face in answer.faces]
    return {"name": name, "width": answer.width, "height": answer.height, "faces": faces}
