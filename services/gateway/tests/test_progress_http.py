"""Pull, create and verify, as a client sees the store's records (contract 2.12, 2.14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_protocol.messages import CreateRequest, Fault, Progress, PullRequest, VerifyRequest

from services.gateway.tests.conftest import Staged

MANIFEST = Progress(seq=0, status="pulling manifest")
STILL_HERE = Progress(seq=1)
SUCCESS = Progress(seq=2, status="success", done=True)
BLANK_END = Progress(seq=2, done=True)
ONE = {"status": "success"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/api/pull", {}),
    ("/api/create", {"from": "base"}),
    ("/api/verify", {}),
]


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
async def test_records_are_streamed(stage: Staged, path: str, fields: Any) -> None:
    async with stage(workers=0) as on:
        asked = on.post(path, **fields)
        await on.store.play(MANIFEST, STILL_HERE, SUCCESS)
        answer = await asked

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"status": "pulling manifest"},
        ONE,
    ]


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
@pytest.mark.parametrize(
    "records", [(MANIFEST, SUCCESS), (MANIFEST, BLANK_END), (BLANK_END,), (STILL_HERE, BLANK_END)]
)
async def test_without_a_stream_success_is_the_answer(
    stage: Staged, path: str, fields: Any, records: tuple[Progress, ...]
) -> None:
    """Whatever the last record was: that it came is what counts."""
    async with stage(workers=0) as on:
        asked = on.post(path, **fields, stream=False)
        await on.store.play(*records)
        answer = await asked

    assert (answer.status_code, answer.json()) == (200, ONE)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_that_fails_says_why(stage: Staged, *, stream: bool) -> None:
    """Contract 2.12: a stream has begun with 200, without one it is 500."""
    gone = Fault(code="model_not_found", message="no")
    async with stage(workers=0) as on:
        asked = on.post("/api/pull", stream=stream)
        await on.store.play(MANIFEST, Progress(seq=1, error=gone, done=True))
        answer = await asked

    error = {"error": "pull model manifest: file does not exist"}
    assert answer.status_code == (200 if stream else 500)
    assert answer.headers["content-type"] == f"application/{'x-ndjson' if stream else 'json'}"
    assert json.loads(answer.text.splitlines()[-1]) == error


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
async def test_the_store_is_told_when_the_client_leaves(
    stage: Staged, path: str, fields: Any
) -> None:
    async with stage(workers=0) as on:
        asked = on.post(path, **fields, stream=False)
        begun = await on.store.streams.get()
        asked.cancel()
        cancel = await on.store.cancels.get()

    assert isinstance(begun, PullRequest | CreateRequest | VerifyRequest)
    assert cancel.stream_id == begun.stream_id
