"""What OpenAPI says about bodies and problems, which FastAPI cannot see because we read bodies ourselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from mien.serve.problems import MEDIA_TYPE
from mien.serve.schemas import Problem

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
    """Add the schema that `problems` refers to."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    return document
