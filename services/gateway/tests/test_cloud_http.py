"""What needs a registry or a cloud, on a server that has neither (contract 2.13, 2.18-2.20)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.tests.conftest import Staged

REMOTE = "ollama cloud is disabled: remote model is unavailable"
NO_REGISTRY = "this server has no registry to push models to"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/api/me", b"", 503, "account unavailable"),
        ("POST", "/api/signout", b"", 503, "account unavailable"),
        ("DELETE", "/api/user/keys/abc", b"", 503, "account unavailable"),
        ("POST", "/api/experimental/web_search", b"", 400, "missing request body"),
        ("POST", "/api/experimental/web_fetch", b" \n", 400, "missing request body"),
        (
            "POST",
            "/api/experimental/web_search",
            b'{"query":"x"}',
            403,
            "ollama cloud is disabled: web search is unavailable",
        ),
        (
            "POST",
            "/api/experimental/web_fetch",
            b"{",
            403,
            "ollama cloud is disabled: web fetch is unavailable",
        ),
        ("POST", "/api/push", b"", 400, "missing request body"),
        ("POST", "/api/push", b"{}", 400, "model is required"),
        ("POST", "/api/push", b'{"model":"a b"}', 400, "invalid model name"),
        ("POST", "/api/push", b'{"model":"m:cloud"}', 403, REMOTE),
        ("POST", "/api/push", b'{"model":"m","stream":false}', 501, NO_REGISTRY),
        ("POST", "/api/push", b'{"name":"m","stream":false}', 501, NO_REGISTRY),
        ("POST", "/api/push", b'{"model":"x","stream":false}', 404, "model 'x' not found"),
    ],
)
async def test_it_is_refused(
    stage: Staged, method: str, path: str, body: bytes, status: int, text: str
) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.request(method, path, content=body)

    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize(
    ("model", "records"),
    [
        ("m", [{"status": "retrieving manifest"}, {"error": NO_REGISTRY}]),
        (
            "nope",
            [
                {"status": "retrieving manifest"},
                {"status": "couldn't retrieve manifest"},
                {"error": "model 'nope' not found"},
            ],
        ),
    ],
)
async def test_a_push_ends_with_the_reason(
    stage: Staged, model: str, records: list[dict[str, Any]]
) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.post("/api/push", json={"model": model})

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [json.loads(line) for line in answer.text.splitlines()] == records


async def test_no_models_are_recommended(stage: Staged) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.get("/api/experimental/model-recommendations")

    assert (answer.status_code, answer.json()) == (200, {"recommendations": []})


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/chat", {"model": "m:cloud"}),
        ("/api/generate", {"model": "m:120b-cloud"}),
        ("/api/embed", {"model": "M:CLOUD"}),
        ("/api/embeddings", {"model": "m:cloud"}),
        ("/api/pull", {"model": "m:cloud"}),
        ("/api/create", {"model": "new", "from": "m:cloud"}),
        ("/api/create", {"model": "new:cloud", "from": "m"}),
        ("/api/copy", {"source": "m", "destination": "new:cloud"}),
        ("/api/copy", {"source": "m:cloud", "destination": "new"}),
    ],
)
async def test_a_model_in_the_cloud_is_out_of_reach(
    stage: Staged, path: str, fields: dict[str, str]
) -> None:
    """No name is given away that could not be used, nor deleted, afterwards."""
    async with stage(workers=0) as on:
        answer = await on.client.post(path, json=fields)

    assert (answer.status_code, answer.json()) == (403, {"error": REMOTE})


async def test_details_of_a_model_in_the_cloud_are_out_of_reach_in_other_words(
    stage: Staged,
) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.post("/api/show", json={"model": "m:cloud"})

    assert answer.status_code == 403
    assert answer.json()["error"].endswith("remote model details are unavailable")


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/", "HEAD, GET"), ("/api/version", "HEAD, GET"), ("/api/ps", "GET"), ("/api/me", "POST")],
)
async def test_another_method_is_told_which_there_are(
    stage: Staged, path: str, methods: str
) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.request("PUT", path)

    assert (answer.status_code, answer.text) == (405, "405 method not allowed")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["allow"] == methods


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/openapi.json"])
async def test_the_same_holds_for_paths_that_ollama_has_not(stage: Staged, path: str) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.request("PUT", path)

    assert (answer.status_code, answer.text) == (405, "405 method not allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_a_head_has_the_headers_of_its_get(stage: Staged, path: str) -> None:
    """Contract 1.1: the length of the body that is not sent is among them."""
    async with stage(workers=0) as on:
        full = await on.client.get(path)
        head = await on.client.head(path)

    assert head.content == b""
    assert int(head.headers["content-length"]) == len(full.content) > 0
    assert {**head.headers, "date": ""} == {**full.headers, "date": ""}
