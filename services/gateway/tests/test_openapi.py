"""The OpenAPI document: valid, complete, and what the gateway really does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate
from rkllama_gateway.app import application
from rkllama_gateway.dialects import routes
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openapi import replies, texts
from rkllama_gateway.dialects.openapi.operations import OPERATIONS, document
from rkllama_gateway.dialects.options import KINDS
from rkllama_gateway.recent import Recent
from starlette.routing import Route

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import resident

GOLDEN = Path(__file__).parent / "dialects" / "golden"
DOCUMENT = document(version="1.2.3")
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
GOLDEN_KINDS = {
    "chat": "ChatReply",
    "generate": "GenerateReply",
    "tags": "TagsReply",
    "ps": "PsReply",
    "version": "VersionReply",
    "status": "StatusReply",
    "show": "ShowReply",
    "embed": "EmbedReply",
    "embeddings": "EmbeddingReply",
}
ANSWERS = [path for path in sorted(GOLDEN.glob("*.ndjson")) if not path.stem.startswith("go_")]


def check(name: str, value: object) -> None:
    """Hold a value against a component of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def test_it_is_a_valid_document() -> None:
    validate(DOCUMENT)


async def test_it_has_the_routes_that_are_served_and_no_others(stage: Staged) -> None:
    async with stage(workers=0) as on:
        app = application(on.gateway, on.client, recent=Recent())
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute | Route)
        for method in route.methods or ()
        # Starlette adds it to its own routes.
        if isinstance(route, APIRoute) or method != "HEAD"
    }

    assert {(each.method.upper(), each.path) for each in OPERATIONS} == served
    assert {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    } == served


def test_it_has_every_path_of_ollamas_own_api() -> None:
    """Contract 1.1; the parts in braces have the same names."""
    described = {
        path: {method.upper() for method in item}
        for path, item in DOCUMENT["paths"].items()
        if path not in routes.OWN_PATHS
    }
    native = {path for path in routes.ROUTES if not path.startswith("/v1/")}

    assert native <= described.keys()
    assert described == {path: set(routes.ROUTES[path]) for path in described}


def test_every_field_of_every_request_is_explained() -> None:
    unexplained = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        if name not in replies.SCHEMAS and name != "Options"
        for field, said in schema.get("properties", {}).items()
        if not said.get("description")
    ]

    assert unexplained == []


def test_no_field_is_explained_that_no_request_has() -> None:
    fields = {name: set(schema.get("properties", {})) for name, schema in SCHEMAS.items()}
    everywhere = set().union(*fields.values())
    stale = [
        f"{name}.{field}"
        for name, said in texts.FIELDS.items()
        for field in said
        if field not in (everywhere if name == "*" else fields.get(name, set()))
    ]

    assert stale == []


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_answers_are_what_it_says(path: Path) -> None:
    """The golden files are the gateway's own bytes."""
    name = GOLDEN_KINDS[path.stem.split("_")[0]]
    for line in path.read_bytes().splitlines():
        check(name, json.loads(line))


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("anthropic_*.json")), ids=lambda path: path.stem
)
def test_anthropics_messages_are_what_it_says(path: Path) -> None:
    check("anthropic.Message", json.loads(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("chat_whole", "openai.ChatCompletion"),
        ("chat_whole_logprobs", "openai.ChatCompletion"),
        ("completion_whole_logprobs", "openai.Completion"),
        ("completion_load", "openai.Completion"),
        ("embeddings", "openai.Embeddings"),
        ("embeddings_base64", "openai.Embeddings"),
        ("response_whole", "openai.Response"),
    ],
)
def test_openais_answers_are_what_it_says(name: str, component: str) -> None:
    check(component, json.loads((GOLDEN / f"openai_{name}.txt").read_bytes()))


async def test_answers_over_a_socket_are_what_it_says(stage: Staged) -> None:
    async with stage(beat={"models": (resident(),)}, debug=True) as on:
        for each in OPERATIONS:
            if each.method == "get" and each.reply:
                answer = await on.client.get(each.path.replace("{model}", "m"))
                assert answer.status_code == each.status, each.path
                check(each.reply, answer.json())
            elif each.status >= 400:
                path = each.path.replace("{key}", "k")
                answer = await on.client.request(each.method, path, content=b"{}")
                assert answer.status_code == each.status, each.path
                check(each.error, answer.json())
        served = (await on.client.get("/openapi.json")).json()
        asked = on.post("/api/embed", input="x")
        attempt = await on.worker.take()
        await attempt.say()
        check("EmbedReply", (await asked).json())
        check("EmbeddingReply", (await on.post("/api/embeddings", keep_alive=0)).json())

    assert served["paths"] == DOCUMENT["paths"]
    assert served["info"]["title"] == "rkllama"


@pytest.mark.parametrize(
    ("name", "body", "fits"),
    [
        ("ChatRequest", {"model": "m"}, True),
        ("ChatRequest", {}, False),
        ("ChatRequest", {"model": "m", "stream": "yes"}, False),
        ("ChatRequest", {"model": "m", "think": "high", "keep_alive": "5m"}, True),
        ("ChatRequest", {"model": "m", "think": "hard"}, False),
        ("ChatRequest", {"model": "m", "think": 1}, False),
        ("ChatRequest", {"model": "m", "keep_alive": True}, False),
        ("ChatRequest", {"model": "m", "options": {"temperature": 1, "stop": ["a"]}}, True),
        ("ChatRequest", {"model": "m", "options": {"stop": "a"}}, False),
        ("ChatRequest", {"model": "m", "options": []}, False),
        ("ChatRequest", {"model": "m", "messages": [{"role": "user", "content": "x"}]}, True),
        ("ChatRequest", {"model": "m", "messages": [{"role": "user", "content": []}]}, False),
        ("ChatRequest", {"model": "m", "messages": [{"tool_calls": [{"id": 1}]}]}, False),
        ("GenerateRequest", {"model": "m", "context": [1, 2]}, True),
        ("GenerateRequest", {"model": "m", "context": [1.5]}, False),
        ("GenerateRequest", {"model": "m", "format": {"type": "object"}, "raw": True}, True),
        ("EmbedRequest", {"model": "m", "input": ["a"], "dimensions": 3}, True),
        ("anthropic.MessagesRequest", {"model": "m", "max_tokens": 1, "messages": []}, True),
        ("anthropic.MessagesRequest", {"model": "m", "messages": []}, False),
        ("anthropic.CountTokensRequest", {"model": "m", "messages": []}, True),
        ("anthropic.MessageParam", {"role": "user", "content": "x"}, True),
        ("anthropic.MessageParam", {"content": [{"type": "text", "text": "x"}]}, True),
        ("anthropic.MessageParam", {"content": [{"type": "text", "text": 1}]}, False),
        ("anthropic.MessageParam", {"content": 1}, False),
        ("CreateRequest", {"model": "m", "files": {"a.gguf": "sha256:1"}}, True),
        ("CreateRequest", {"model": "m", "files": {"a.gguf": 1}}, False),
        ("CopyRequest", {"source": "a", "destination": "b"}, True),
        ("CopyRequest", {"source": "a"}, False),
        ("DeleteRequest", {"name": "a"}, True),
    ],
)
def test_requests_are_described_as_they_are_decoded(
    name: str, body: dict[str, Any], *, fits: bool
) -> None:
    found = Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )

    assert found.is_valid(body) is fits


@pytest.mark.parametrize("name", KINDS)
def test_options_are_described_as_they_are_checked(name: str) -> None:
    values: tuple[Any, ...] = (1, 1.5, True, "x", ["x"], [1], {})
    for value in values:
        try:
            KINDS[name](name, value)
            taken = True
        except DialectError:
            taken = False
        fits = Draft202012Validator(SCHEMAS["Options"]).is_valid({name: value})

        assert fits is taken, value
