"""What the server is and how it does: models, health, numbers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from mien._version import __version__
from mien.serve.config import MEGA
from mien.serve.descriptions import problems
from mien.serve.problems import Busy
from mien.serve.schemas import Health, Models
from mien.serve.service import service_of

router = APIRouter()


@router.get(
    "/v1/models",
    summary="The network, its answers and the limits",
    response_model=Models,
    responses=problems(401, 421),
)
async def models(request: Request) -> JSONResponse:
    """One model answers; which one is chosen when the server is started."""
    service = service_of(request)
    facts, config, detector = service.analyzer.facts, service.config, service.analyzer.detector
    heads = [{"name": h.name, "labels": list(h.labels), "threshold": h.threshold} for h in facts.answers]
    model = {
        "name": facts.name,
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
    finder = {"name": detector.name}
    return JSONResponse({"models": [model], "detector": finder, "limits": limits, "version": __version__})


@router.get("/healthz", summary="Whether the process lives", response_model=Health, responses=problems(421))
async def health() -> JSONResponse:
    return JSONResponse({"status": "ok"})


@router.get("/readyz", summary="Whether it takes work", response_model=Health, responses=problems(421, 503))
async def ready(request: Request) -> JSONResponse:
    """503 while it goes down, or while as many pictures wait as may."""
    service = service_of(request)
    service.refuse_when_draining()
    if service.engine.waiting >= service.config.queue:
        raise Busy(f"{service.engine.waiting} pictures are waiting")
    return JSONResponse({"status": "ok"})


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 421)},
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    text, kind = service_of(request).meter.text()
    return Response(text, headers={"Content-Type": kind})
