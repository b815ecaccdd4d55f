"""OpenAI's endpoints as a client gets them: a real gateway, a real broker, a worker that a test plays."""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

import httpx2
import pytest
import zstandard
from rkllama_protocol.codec import Chunk

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import MODEL, resident, text

IN_HANDLER = "application/json"
IN_VALIDATION = "application/json; charset=utf-8"
EVENTS = "text/event-stream"
HI = [{"role": "user", "content": "hi"}]
ASKING: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}
"""Requests for text, by path."""
EVERY = ASKING | {"/v1/embeddings": {"input": "hi"}}
GONE = Chunk(seq=1, error_code="runtime_failed", error_message="it broke")


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The data of each event but `[DONE]`."""
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("path", ASKING)
async def test_a_whole_answer_ends_with_a_line_end(stage: Staged, path: str) -> None:
    """Contract 1.3."""
    async with stage() as on:
        asked = on.post(path, **ASKING[path])
        attempt = await on.worker.take()
        await attempt.say("a", "b")
        answer = await asked

    assert (answer.status_code, answer.headers["content-type"]) == (200, IN_HANDLER)
    assert answer.text.endswith("}\n")
    assert answer.json()["model"] == "m"
    assert attempt.job.messages[-1].content == "hi"
    assert attempt.job.sampling.temperature == 1.0
    assert attempt.job.asked_options == ()


@pytest.mark.parametrize("path", ASKING)
async def test_a_stream_is_of_events(stage: Staged, path: str) -> None:
    """Contract 1.3: only `/v1/responses` has names for them, and no end mark."""
    async with stage() as on:
        asked = on.post(path, stream=True, **ASKING[path])
        await (await on.worker.take()).say("a", "b")
        answer = await asked

    assert (answer.status_code, answer.headers["content-type"]) == (200, EVENTS)
    assert answer.text.endswith("\n\n")
    named = path == "/v1/responses"
    assert answer.text.startswith("event: response.created\n") is named
    assert answer.text.endswith("data: [DONE]\n\n") is not named
    assert answer.headers.get("cache-control") == ("no-cache" if named else None)
    assert len(events(answer)) > 2


async def test_ids_are_of_the_job(stage: Staged) -> None:
    """So that a log line can be found."""
    async with stage() as on:
        asked = on.post("/v1/chat/completions", messages=HI)
        attempt = await on.worker.take()
        await attempt.say("a")
        answer = await asked

    assert answer.json()["id"] == f"chatcmpl-{attempt.job.job_id}"


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_event_has_a_status(
    stage: Staged, path: str, *, stream: bool
) -> None:
    async with stage() as on:
        asked = on.post(path, stream=stream, **EVERY[path])
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, error_code="prompt_too_long", error_message="too long"))
        await attempt.finished()
        answer = await asked

    assert (answer.status_code, answer.headers["content-type"]) == (400, IN_HANDLER)
    told = {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}
    assert answer.json() == {"error": told}
    assert answer.text.endswith("\n")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_failure_after_the_first_event_is_the_last_event(stage: Staged, path: str) -> None:
    """Contract 8.1: an error object, and no `[DONE]`."""
    async with stage() as on:
        asked = on.post(path, stream=True, **ASKING[path])
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"), GONE)
        await attempt.finished()
        answer = await asked

    *_, last = events(answer)
    assert last["error"] == {
        "message": "it broke",
        "type": "api_error",
        "param": None,
        "code": None,
    }
    assert "[DONE]" not in answer.text


async def test_a_response_that_fails_is_told_with_what_there_is(stage: Staged) -> None:
    async with stage() as on:
        asked = on.post("/v1/responses", input="hi", stream=True)
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"), GONE)
        await attempt.finished()
        answer = await asked

    *_, last = events(answer)
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "it broke"}
    assert last["response"]["output"][0]["content"][0]["text"] == "a"


@pytest.mark.parametrize("path", EVERY)
async def test_what_is_no_request_is_rejected_before_the_handler(stage: Staged, path: str) -> None:
    """Contract 1.3: with a charset and without a line end."""
    async with stage(workers=0) as on:
        answer = await on.client.post(path, content=b"")

    assert (answer.status_code, answer.headers["content-type"]) == (400, IN_VALIDATION)
    assert answer.text == (
        '{"error":{"message":"EOF","type":"invalid_request_error","param":null,"code":null}}'
    )


@pytest.mark.parametrize(
    ("path", "typed", "status", "words"),
    [
        ("/v1/chat/completions", "nope", 404, "model 'nope' not found"),
        ("/v1/completions", "nope", 404, "model 'nope' not found"),
        ("/v1/responses", "nope", 404, "model 'nope' not found"),
        ("/v1/embeddings", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("/v1/chat/completions", "", 400, "model is required"),
        ("/v1/completions", "", 404, "model '' not found"),
        ("/v1/chat/completions", "a b", 400, "invalid model name"),
    ],
)
async def test_models_that_are_not_there(
    stage: Staged, path: str, typed: str, status: int, words: str
) -> None:
    async with stage(workers=0) as on:
        answer = await on.client.post(path, json=EVERY[path] | {"model": typed})

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, words)
    assert answer.headers["content-type"] == IN_HANDLER
    assert answer.text.endswith("\n")


async def test_a_body_that_is_too_large(stage: Staged) -> None:
    async with stage(workers=0, max_body_bytes=10) as on:
        answer = await on.client.post("/v1/chat/completions", content=b"x" * 11)

    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "api_error")


@pytest.mark.parametrize("path", ASKING)
async def test_what_the_runtime_ignores_is_said_in_a_header(stage: Staged, path: str) -> None:
    async with stage() as on:
        asked = on.post(path, **ASKING[path], top_p=0.5)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, ignored_options=("top_p",)), Chunk(seq=1, finish="stop"))
        await attempt.finished()
        answer = await asked

    assert answer.headers["x-rkllama-ignored-options"] == "top_p"
    assert attempt.job.asked_options == ("top_p",)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_takes_its_job_along(stage: Staged, *, stream: bool) -> None:
    async with stage() as on:
        asked = on.post("/v1/chat/completions", messages=HI, stream=stream)
        attempt = await on.worker.take()
        asked.cancel()
        cancel = await on.worker.cancels.get()

    assert cancel.job_id == attempt.job.job_id


async def test_a_response_may_be_asked_for_in_zstd(stage: Staged) -> None:
    body = zstandard.compress(b'{"model":"m","input":"hi"}')
    async with stage() as on:
        asked = on.tasks.create_task(
            on.client.post("/v1/responses", content=body, headers={"content-encoding": "zstd"})
        )
        await (await on.worker.take()).say("a")
        answer = await asked
        other = await on.client.post(
            "/v1/responses", content=body, headers={"content-encoding": "br"}
        )

    assert answer.json()["output"][0]["content"][0]["text"] == "a"
    assert (other.status_code, other.json()["error"]["type"]) == (415, "api_error")


# ------------------------------------------------------------------------------ loads


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_prompt_loads(stage: Staged, *, stream: bool) -> None:
    """Contract 3.2."""
    async with stage() as on:
        asked = on.post("/v1/completions", stream=stream)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, finish="load"))
        await attempt.finished()
        answer = await asked

    assert attempt.job.kind == "load"
    told = events(answer)[0] if stream else answer.json()
    assert told["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]
    assert answer.headers["content-type"] == (EVENTS if stream else IN_HANDLER)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_is_loaded_is_kept(stage: Staged, *, stream: bool) -> None:
    """Contract 1.7: there is no keep-alive here; one that is loaded keeps its own."""
    async with stage(beat={"models": (resident(),)}) as on:
        answer = await on.post("/v1/completions", stream=stream)
        keep = await on.worker.keeps.get()

    assert keep.keep_alive_s is None
    told = events(answer)[0] if stream else answer.json()
    assert told["choices"][0]["finish_reason"] == "load"
    assert answer.headers["content-type"] == (EVENTS if stream else IN_HANDLER)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_is_only_shown_is_one_object(
    stage: Staged, path: str, *, stream: bool
) -> None:
    async with stage() as on:
        asked = on.post(path, stream=stream, _debug_render_only=True, **ASKING[path])
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, rendered="<user>hi", finish="stop"))
        await attempt.finished()
        answer = await asked

    assert attempt.job.render_only
    assert answer.json()["_debug_info"] == {"rendered_template": "<user>hi"}


# ------------------------------------------------------------------------------ embeddings


async def test_vectors_come_in_the_order_of_the_texts(stage: Staged) -> None:
    async with stage() as on:
        asked = on.post("/v1/embeddings", input=["x", "y"])
        attempt = await on.worker.take()
        for at, values in enumerate(((3.0, 4.0), (0.0, 2.0))):
            packed = base64.b64encode(array("f", values).tobytes()).decode()
            await attempt.send(Chunk(seq=at, vector=packed, prompt_tokens=2))
        await attempt.send(Chunk(seq=2, finish="stop"))
        await attempt.finished()
        answer = await asked

    assert (attempt.job.kind, attempt.job.inputs) == ("embed", ("x", "y"))
    assert [row["embedding"] for row in answer.json()["data"]] == [[0.6, 0.8], [0, 1]]
    assert answer.json()["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


# ------------------------------------------------------------------------------ models


async def test_models(stage: Staged) -> None:
    async with stage(workers=0) as on:
        listed = await on.client.get("/v1/models")
        one = await on.client.get("/v1/models/M")
        bad = await on.client.get("/v1/models/a%20b")
        missing = await on.client.get("/v1/models/nope")
        deeper = await on.client.get("/v1/models/ns/nope")

    row = {"id": "m:latest", "object": "model", "created": 1767225600, "owned_by": "library"}
    assert listed.json() == {"object": "list", "data": [row]}
    assert one.json() == row | {"id": "M"}
    assert one.headers["content-type"] == IN_HANDLER
    assert (bad.status_code, bad.json()["error"]["message"]) == (400, "invalid model name")
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "message": "model 'nope:latest' not found",
        "type": "not_found_error",
        "param": None,
        "code": None,
    }
    assert (deeper.status_code, deeper.text) == (404, "404 page not found")


async def test_tools_reach_the_job(stage: Staged) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    able = MODEL.model_copy(update={"capabilities": ("completion", "tools")})
    async with stage(model=able) as on:
        asked = on.post("/v1/chat/completions", messages=HI, tools=[tool], tool_choice="required")
        attempt = await on.worker.take()
        call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
        await attempt.send(Chunk(seq=0, ids=(1,), tool_calls=(call,)), Chunk(seq=1, finish="stop"))
        await attempt.finished()
        answer = await asked

    assert (attempt.job.tools, attempt.job.forced_tools) == ((tool,), ("f",))
    [choice] = answer.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
