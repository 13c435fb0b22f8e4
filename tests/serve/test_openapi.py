"""The OpenAPI document describes what is answered: its examples fit its schemas, and so do real answers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from mien.predict.analyzer import load
from mien.serve import schemas

from .conftest import Running, form, png

MODELS = [
    kind
    for _, kind in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(kind, BaseModel) and kind is not BaseModel
]


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_examples_fit_their_schemas(kind: type[BaseModel]) -> None:
    for example in (kind.model_config.get("json_schema_extra") or {}).get("examples", ()):
        assert kind.model_validate(example, extra="forbid")


def named(document: object, key: str) -> Iterator[object]:
    """Yield what stands under a key, wherever it is in the document."""
    if isinstance(document, dict):
        if key in document:
            yield document[key]
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from named(part, key)


def test_examples_name_what_the_shipped_network_has() -> None:
    shipped = load()
    examples = [(kind.model_config.get("json_schema_extra") or {}).get("examples", []) for kind in MODELS]
    heads = [head for name in ("head", "default_head") for head in named(examples, name)]
    assert len(heads) >= 4
    assert set(heads) == {shipped.head.name}
    labels = list(named(examples, "labels"))
    assert len(labels) >= 3
    assert all(tuple(one) == shipped.head.labels for one in labels)
    assert all(tuple(one) == shipped.head.labels for one in named(examples, "probabilities"))
    assert set(named(examples, "threshold")) == {shipped.head.threshold}


def test_real_answers_fit(server: Running) -> None:
    body = form(("pictures", "a.png", png(9)), ("pictures", "b", b"x"))
    schemas.Analysis.model_validate(server.analyze(*body).json, extra="forbid")
    schemas.Problem.model_validate(server.analyze(b"x").json, extra="forbid")
    schemas.Models.model_validate(server.ask("GET", "/v1/models").json, extra="forbid")
    schemas.Health.model_validate(server.ask("GET", "/readyz").json, extra="forbid")


def test_the_document_names_every_address_and_refers_to_what_it_has(server: Running) -> None:
    document = server.ask("GET", "/openapi.json").json
    assert set(document["paths"]) == {
        *("/v1/analyze", "/v1/videos", "/v1/videos/{job}", "/v1/videos/{job}/result", "/v1/models"),
        *("/healthz", "/readyz", "/metrics"),
    }
    post = document["paths"]["/v1/analyze"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
    }
    assert "application/problem+json" in post["responses"]["422"]["content"]
    for method in [method for path in document["paths"].values() for method in path.values()]:
        for status, answer in method["responses"].items():
            if status[0] in "45":
                assert list(answer["content"]) == ["application/problem+json"], (
                    "as all that is refused is answered"
                )
    text = server.ask("GET", "/openapi.json").body.decode()
    for reference in {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


def test_addresses_are_told_from_where_the_document_lies(server: Running) -> None:
    """Not from the root of the host: behind a proxy there may be a prefix."""
    (told,) = server.ask("GET", "/openapi.json").json["servers"]
    assert told["url"] == "."
    assert told["description"].startswith("this server"), "or /docs says 'Servers: .'"


def test_the_typescript_client_is_made_from_this_document(server: Running) -> None:
    """Where this fails: save /openapi.json as the client's openapi.json, its version `any`, and build the client."""

    def fields(document: dict) -> tuple[dict, dict]:  # how FastAPI words the rest changes with its versions
        methods = {path: sorted(found) for path, found in document["paths"].items()}
        schemas = document["components"]["schemas"]
        return methods, {name: sorted(schema.get("properties", ())) for name, schema in schemas.items()}

    kept = Path(__file__).parents[2] / "clients/typescript/openapi.json"
    document = server.ask("GET", "/openapi.json").json
    assert fields(document) == fields(json.loads(kept.read_text("utf-8")))


def test_models_say_what_answers(server: Running) -> None:
    (model,) = server.ask("GET", "/v1/models").json["models"]
    assert model == {
        "name": "brightness",
        "default_head": "light",
        "heads": [{"name": "light", "labels": ["dark", "bright"], "threshold": 0.0}],
        "card": "",
    }
    limits = server.ask("GET", "/v1/models").json["limits"]
    assert (limits["max_bytes"], limits["max_pixels"], limits["max_pictures"]) == (2_000_000, 1_000_000, 8)
