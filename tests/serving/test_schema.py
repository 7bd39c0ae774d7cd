"""Bodies that schemathesis makes from the schema, valid and broken ones: an answer, or an error of OpenAI's form."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic.json_schema import models_json_schema
from starlette.testclient import TestClient

from gateways import Fake, make_gateway
from palate.serving.api.call import ChatParameters, TextParameters
from palate.serving.api.responses import ResponseParameters
from palate.store import Store

BODIES = {
    "/v1/chat/completions": ChatParameters,
    "/v1/completions": TextParameters,
    "/v1/responses": ResponseParameters,
}
LARGEST = 4096


def openapi(app: Any) -> dict[str, Any]:
    """The app's OpenAPI document, with the bodies that its routes read themselves; `null` is a parameter left out."""
    document: dict[str, Any] = app.openapi()
    found, definitions = models_json_schema(
        [(model, "validation") for model in BODIES.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    for model in BODIES.values():
        schema = schemas[model.__name__]
        for name in schema["properties"].keys() - set(schema.get("required", [])):
            schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}
    for path, model in BODIES.items():
        content = {"application/json": {"schema": found[model, "validation"]}}
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
    document["paths"] = {path: item for path, item in document["paths"].items() if "post" in item}
    return document


def check_bodies(store: Store, examples: int) -> dict[str, Counter[int]]:
    """Send bodies of both kinds to every route; the statuses by kind."""
    schemathesis = pytest.importorskip(
        "schemathesis", reason="schemathesis is not installed: pip install 'palate[dev]'"
    )
    gateway = make_gateway(store, {"m": Fake()}, max_body_bytes=LARGEST)
    document = openapi(gateway.app)
    assert set(document["paths"]) == {*BODIES, "/v1/feedback"}
    statuses: dict[str, Counter[int]] = {"valid": Counter(), "broken": Counter()}
    kinds = {"valid": schemathesis.GenerationMode.POSITIVE, "broken": schemathesis.GenerationMode.NEGATIVE}
    with TestClient(gateway.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:

        def send(kind: str, case: Any) -> None:
            is_json = isinstance(case.body, dict | list | str | int | float | None)
            content = json.dumps(case.body).encode() if is_json else case.body if isinstance(case.body, bytes) else b""
            reply = web.post(case.path, content=content, headers={"Content-Type": "application/json"})
            statuses[kind][reply.status_code] += 1
            assert reply.status_code < 500, (case.path, content, reply.text)
            assert reply.status_code != 200 or len(content) <= LARGEST
            if reply.status_code != 200:
                assert set(reply.json()["error"]) == {"message", "type", "param", "code"}, reply.text
                assert "\n" not in reply.json()["error"]["message"]
            if kind == "broken":
                assert 400 <= reply.status_code < 500, (case.path, content, reply.text)

        def check(kind: str, cases: Any) -> None:
            @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=cases)
            def one(case: Any) -> None:
                send(kind, case)

            one()

        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            for kind, mode in kinds.items():
                check(kind, found.ok().as_strategy(generation_mode=mode))
    return statuses


def test_some_bodies_of_every_route(sqlite_store: Store) -> None:
    statuses = check_bodies(sqlite_store, 6)
    assert statuses["broken"][400] + statuses["broken"][413] >= 12


@pytest.mark.slow
def test_many_bodies_of_every_route(sqlite_store: Store) -> None:
    statuses = check_bodies(sqlite_store, 150)
    assert statuses["valid"][200] > 20, "some are answered"
    assert statuses["broken"][400] > 200


@pytest.mark.parametrize("path", [*BODIES, "/v1/feedback"])
@pytest.mark.parametrize("size", [LARGEST, LARGEST + 1])
def test_oversized_bodies(sqlite_store: Store, path: str, size: int) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"})
    content = body.encode() + b" " * (size - len(body))
    gateway = make_gateway(sqlite_store, {"m": Fake()}, max_body_bytes=LARGEST)
    with TestClient(gateway.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as web:
        reply = web.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (reply.status_code == 413) == (size > LARGEST)
    if size > LARGEST:
        assert (reply.json()["error"]["code"], reply.json()["error"]["type"]) == ("too_large", "invalid_request_error")
