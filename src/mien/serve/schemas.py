"""What OpenAPI says of requests and answers. It describes; nothing is validated on its way out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mien.serve.problems import MEDIA_TYPE

# As the network that ships answers: its default head with all its labels. A test compares.
_HEAD, _THRESHOLD = "expression", 0.49
_SHARES = {
    "angry": 0.003,
    "disgust": 0.002,
    "fear": 0.001,
    "happy": 0.93,
    "sad": 0.01,
    "surprise": 0.014,
    "neutral": 0.04,
}
_BOX = [211.0, 64.0, 118.0, 151.0]
_FACE: dict[str, Any] = {
    "emotion": "happy",
    "probability": 0.93,
    "uncertain": False,
    "reasons": [],
    "probabilities": _SHARES,
    "head": _HEAD,
    "prior": "everyday",
    "box": _BOX,
    "score": 0.94,
    "landmarks": [[243.0, 121.5], [296.0, 120.0], [270.5, 153.0], [247.0, 178.0], [293.0, 177.0]],
}
_PROBLEM: dict[str, Any] = {
    "type": "about:blank",
    "title": HTTPStatus(422).phrase,
    "status": 422,
    "detail": "photo.jpg is cut short: a JPEG without its end-of-image marker; get the file again or delete it",
}
_ID = "q3Zs0bXlW5mT9vJ2hKc8dA"
_FRAME: dict[str, Any] = {
    key: _FACE[key] for key in ("box", "emotion", "probability", "probabilities", "uncertain", "reasons")
}
_LABELS = list(_SHARES)


def _with(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class Problem(BaseModel):
    """What was wrong (RFC 9457). detail: one line that says what to do."""

    model_config = _with(_PROBLEM)
    type: str
    title: str
    status: int
    detail: str


class Face(BaseModel):
    """box: x and y of the upper left corner, width, height, in pixels. score: the detector's.

    reasons: what speaks against relying on the answer, such as small or turned. prior: how often the expressions were
    taken to occur: everyday, balanced, or shares.

    landmarks: right eye, left eye, nose tip, right and left corner of the mouth, as the subject has them.
    """

    model_config = _with(_FACE)
    emotion: str
    probability: float
    uncertain: bool
    reasons: list[str]
    probabilities: dict[str, float]
    head: str
    prior: str
    box: tuple[float, float, float, float]
    score: float | None
    landmarks: list[tuple[float, float]] | None


class PictureFaces(BaseModel):
    """A picture that was read. faces: the largest first. warning: what is odd about its file, though it was read.

    coarse: whether faces under about 1 % of the longer side may be missed, because the picture is so large.
    """

    name: str
    width: int
    height: int
    coarse: bool
    faces: list[Face]
    warning: str | None


class UnreadPicture(BaseModel):
    """One of several pictures that could not be read."""

    name: str
    problem: Problem


class Analysis(BaseModel):
    model_config = _with(
        {
            "model": "mien",
            "head": _HEAD,
            "labels": _LABELS,
            "pictures": [
                {
                    **{"name": "photo.jpg", "width": 640, "height": 480, "coarse": False},
                    **{"faces": [_FACE], "warning": None},
                },
                {"name": "other.jpg", "problem": _PROBLEM},
            ],
        }
    )
    model: str
    head: str
    labels: list[str]
    pictures: list[PictureFaces | UnreadPicture]


class Links(BaseModel):
    """Paths below the address of the server."""

    self: str
    result: str


class VideoState(BaseModel):
    """progress: 0 to 1. problem: why it failed."""

    model_config = _with({"id": _ID, "status": "running", "progress": 0.4})
    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float
    problem: Problem | None = None


class VideoBegun(VideoState):
    model_config = _with(
        {
            "id": _ID,
            "status": "queued",
            "progress": 0.0,
            "links": {"self": f"/v1/videos/{_ID}", "result": f"/v1/videos/{_ID}/result"},
        }
    )
    links: Links


class FollowedFace(BaseModel):
    """track: a number that the face keeps. The probabilities are smoothed over time; the emotion stays until another
    one is well ahead. reasons: see Face.
    """

    track: int
    box: tuple[float, float, float, float]
    emotion: str
    probability: float
    probabilities: dict[str, float]
    uncertain: bool
    reasons: list[str]


class Row(BaseModel):
    time_s: float
    frame: int
    faces: list[FollowedFace]


class VideoResult(BaseModel):
    """note: what is missing, where the file was cut off."""

    model_config = _with(
        {
            "fps": 25.0,
            "width": 640,
            "height": 480,
            "duration_s": 0.04,
            "head": _HEAD,
            "labels": _LABELS,
            "note": "",
            "rows": [{"time_s": 0.0, "frame": 0, "faces": [{"track": 1, **_FRAME}]}],
        }
    )
    fps: float
    width: int
    height: int
    duration_s: float
    head: str
    labels: list[str]
    note: str
    rows: list[Row]


class HeadFacts(BaseModel):
    """threshold: below this probability a face is called uncertain."""

    name: str
    labels: list[str]
    threshold: float


class Metadata(BaseModel):
    """default_head: the one that answers. card: Markdown."""

    name: str
    default_head: str
    heads: list[HeadFacts]
    card: str


class DetectorFacts(BaseModel):
    """The detector in use."""

    name: str


class Limits(BaseModel):
    """What one request may bring."""

    max_bytes: int
    max_pixels: int
    max_pictures: int
    max_video_bytes: int


class Models(BaseModel):
    model_config = _with(
        {
            "models": [
                {
                    "name": "mien",
                    "default_head": _HEAD,
                    "heads": [{"name": _HEAD, "labels": _LABELS, "threshold": _THRESHOLD}],
                    "card": "# mien\n…",
                }
            ],
            "detector": {"name": "mien"},
            "limits": {
                "max_bytes": 32_000_000,
                "max_pixels": 25_000_000,
                "max_pictures": 32,
                "max_video_bytes": 512_000_000,
            },
            "version": "1.0",
        }
    )
    models: list[Metadata]
    detector: DetectorFacts
    limits: Limits
    version: str


class Health(BaseModel):
    model_config = _with({"status": "ok"})
    status: str


_BYTES = {"type": "string", "format": "binary"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the answers with these statuses as problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def bytes_or_form(kind: str, field: str, *, several: bool) -> dict[str, Any]:
    """Describe a body that is a file, or a form with one or, where `several`, more files of this name."""
    form = {
        "type": "object",
        "properties": {field: {"type": "array", "items": _BYTES, "minItems": 1} if several else _BYTES},
        "required": [field],
        "additionalProperties": False,
    }
    content = {
        kind: {"schema": _BYTES},
        "application/octet-stream": {"schema": _BYTES},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


def with_problem(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schema that `problems` refers to, and take out FastAPI's own form of an error, which nothing answers."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document
