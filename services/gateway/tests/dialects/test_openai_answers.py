"""OpenAI's answers byte for byte (contract 1.3, 1.5, 3.1-3.4)."""

from __future__ import annotations

import base64
import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openai import failures, models
from rkllama_gateway.dialects.openai.answers import ChatAnswer, CompletionAnswer
from rkllama_gateway.dialects.openai.embeddings import EmbeddingAnswer
from rkllama_gateway.dialects.openai.requests import Embedding
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import ModelNotFoundError, OverloadedError, from_wire
from rkllama_protocol.messages import ModelDetails, ResolvedModel

GOLDEN = Path(__file__).parent / "golden"
CREATED = 1_700_000_000
TIMES = {"now_ns": CREATED * 1_000_000_000, "elapsed_ns": 1}
CALLS = (
    {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": "<é>"}}},
    {"id": "call_2", "function": {"index": 1, "name": "g", "arguments": {}}},
)
SURE = {"token": "a", "logprob": -0.25, "bytes": [97]}
LIKELY = SURE | {"top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}]}

TALK = (
    Chunk(seq=0),
    Chunk(seq=1, ids=(1,), prompt_tokens=12, thinking="hm"),
    Chunk(seq=2, ids=(2, 3), thinking="!", content="a <b> & \u00e9"),
    Chunk(seq=3, ids=(4,)),
    Chunk(seq=4, ids=(5,), tool_calls=CALLS[:1]),
    Chunk(seq=5, ids=(6,), content="\n", tool_calls=CALLS[1:]),
    Chunk(seq=6, ids=(7,), finish="stop"),
)
EMPTY = (Chunk(seq=0, ids=(1,), prompt_tokens=2, finish="stop"),)
CUT = (Chunk(seq=0, ids=(1,), prompt_tokens=2, content="a"), Chunk(seq=1, finish="length"))
LOADED = (Chunk(seq=0, finish="load"),)
PROBED = (
    Chunk(seq=0, ids=(1,), logprobs=(SURE | {"token": "x"},)),
    Chunk(seq=1, ids=(2,), content="xa", logprobs=(LIKELY,)),
    Chunk(seq=2, ids=(3,), logprobs=(SURE,), finish="length"),
)


def chat(*, include_usage: bool = False, images: int = 0, one_call: bool = False) -> ChatAnswer:
    return ChatAnswer(
        "M:Latest",
        job_id="j",
        created=CREATED,
        include_usage=include_usage,
        images=images,
        one_call=one_call,
    )


def completion(*, include_usage: bool = False) -> CompletionAnswer:
    return CompletionAnswer("m", job_id="j", created=CREATED, include_usage=include_usage)


def streamed(answer: ChatAnswer | CompletionAnswer, chunks: tuple[Chunk, ...]) -> bytes:
    return b"".join(answer.record(chunk, **TIMES) or b"" for chunk in chunks)


def broken(answer: ChatAnswer | CompletionAnswer, chunks: tuple[Chunk, ...]) -> bytes:
    """A stream that ends with a failure."""
    return streamed(answer, chunks) + failures.error_line(DialectError(500, "the board is gone"))


def whole(answer: ChatAnswer | CompletionAnswer, chunks: tuple[Chunk, ...]) -> bytes:
    for chunk in chunks:
        answer.add(chunk, elapsed_ns=1)
    return answer.whole(**TIMES)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("chat_stream", streamed(chat(), TALK)),
        ("chat_stream_usage", streamed(chat(include_usage=True), CUT)),
        ("chat_stream_empty", streamed(chat(), EMPTY)),
        ("chat_stream_logprobs", streamed(chat(), PROBED)),
        ("chat_stream_failed", broken(chat(), CUT[:1])),
        ("chat_whole", whole(chat(), TALK)),
        ("chat_whole_empty", whole(chat(), EMPTY)),
        ("chat_whole_logprobs", whole(chat(), PROBED)),
        ("completion_stream", streamed(completion(), TALK)),
        ("completion_stream_usage", streamed(completion(include_usage=True), CUT)),
        ("completion_stream_failed", broken(completion(), CUT[:1])),
        ("completion_stream_logprobs", streamed(completion(), PROBED)),
        ("completion_stream_load", streamed(completion(), LOADED)),
        ("completion_whole", whole(completion(), CUT)),
        ("completion_whole_logprobs", whole(completion(), PROBED)),
        ("completion_load", whole(completion(), LOADED)),
    ],
)
def test_answers_byte_for_byte(name: str, written: bytes) -> None:
    assert written == (GOLDEN / f"openai_{name}.txt").read_bytes()


def test_a_stream_says_what_a_whole_answer_says() -> None:
    events = streamed(chat(include_usage=True), TALK).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    told = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    *chunks, usage = told
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    message = json.loads(whole(chat(), TALK))["choices"][0]["message"]

    assert ["role" in delta for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert all("content" in delta for delta in deltas[:-1])
    assert deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == message["reasoning"]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls == message["tool_calls"]
    assert usage["choices"] == []
    assert usage["usage"] == json.loads(whole(chat(), TALK))["usage"]


def test_of_parallel_calls_that_are_turned_off_the_first_is_told() -> None:
    events = streamed(chat(one_call=True), TALK).decode().split("\n\n")[:-2]
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    told = json.loads(whole(chat(one_call=True), TALK))["choices"][0]

    assert [call["id"] for call in told["message"]["tool_calls"]] == ["call_1"]
    assert calls == told["message"]["tool_calls"]
    assert told["finish_reason"] == choices[-1]["finish_reason"] == "tool_calls"


def test_a_prompt_that_is_only_shown() -> None:
    answer = chat(images=2)
    shown = json.loads(whole(answer, (Chunk(seq=0, rendered="<user>hi", finish="stop"),)))
    completed = json.loads(whole(completion(), (Chunk(seq=0, rendered="p", finish="stop"),)))

    assert shown["_debug_info"] == {"rendered_template": "<user>hi", "image_count": 2}
    assert completed["_debug_info"] == {"rendered_template": "p"}


def test_a_load_is_answered_with_nothing_in_it() -> None:
    [choice] = json.loads(whole(chat(), LOADED))["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "load")


def test_nothing_to_be_seen_is_no_event() -> None:
    """The status is held until there is something."""
    for answer in (chat(), completion()):
        assert answer.record(Chunk(seq=0, ids=(1,), prompt_tokens=3), **TIMES) is None


def test_a_failed_chunk_is_an_error() -> None:
    broken = Chunk(seq=0, error_code="prompt_too_long", error_message="too long")
    answers: Any = (chat(), completion(), EmbeddingAnswer(Embedding(model="m", inputs=("x",))))
    for answer in answers:
        with pytest.raises(DialectError) as caught:
            answer.add(broken, elapsed_ns=1)

        assert (caught.value.status, caught.value.message) == (400, "too long")


# ------------------------------------------------------------------------------ embeddings


def vectors(**facts: Any) -> bytes:
    answer = EmbeddingAnswer(Embedding(model="m", inputs=("x", "y"), **facts))
    for at, values in enumerate(((3.0, 4.0), (0.0, -2.0))):
        packed = base64.b64encode(array("f", values).tobytes()).decode()
        answer.add(Chunk(seq=at, vector=packed, prompt_tokens=2 + at), elapsed_ns=1)
    answer.add(Chunk(seq=2, finish="stop"), elapsed_ns=1)
    return answer.whole(**TIMES)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("embeddings", vectors()),
        ("embeddings_cut", vectors(dimensions=1)),
        ("embeddings_base64", vectors(base64=True)),
    ],
)
def test_embeddings_byte_for_byte(name: str, written: bytes) -> None:
    assert written == (GOLDEN / f"openai_{name}.txt").read_bytes()


def test_a_packed_vector_is_little_endian_floats() -> None:
    rows = json.loads(vectors(base64=True))["data"]

    assert array("f", base64.b64decode(rows[1]["embedding"])).tolist() == [0.0, -1.0]


def test_a_vector_with_what_is_no_number() -> None:
    packed = base64.b64encode(array("f", [float("nan")]).tobytes()).decode()
    answer = EmbeddingAnswer(Embedding(model="m", inputs=("x",)))

    with pytest.raises(DialectError, match="embedding contains NaN or Inf values"):
        answer.add(Chunk(seq=0, vector=packed), elapsed_ns=1)


# ------------------------------------------------------------------------------ models


def named(full: str, shown: str) -> ResolvedModel:
    return ResolvedModel(
        name=shown,
        full_name=full,
        digest="sha256:" + "1" * 64,
        size=1,
        modified_at="2023-11-14T23:13:20.5+01:00",
        details=ModelDetails(),
    )


def test_a_path_names_a_model() -> None:
    assert models.target("Plain").display == "Plain:latest"
    with pytest.raises(DialectError, match="invalid model name"):
        models.target("a b")


def test_models_are_listed_with_who_owns_them() -> None:
    plain = named("registry.ollama.ai/library/plain:latest", "plain:latest")
    other = named("hf.co/me/other:q8", "hf.co/me/other:q8")

    assert models.listed([plain, other]) == (
        b'{"object":"list","data":['
        b'{"id":"plain:latest","object":"model","created":1700000000,"owned_by":"library"},'
        b'{"id":"hf.co/me/other:q8","object":"model","created":1700000000,"owned_by":"me"}]}\n'
    )
    assert models.listed([]) == b'{"object":"list","data":[]}\n'
    assert json.loads(models.retrieved(plain, "PLAIN"))["id"] == "PLAIN"


# ------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (401, "api_error"),
        (413, "api_error"),
        (500, "api_error"),
        (503, "api_error"),
    ],
)
def test_errors_have_a_type(status: int, kind: str) -> None:
    told = b'{"error":{"message":"\\u003cx","type":"%s","param":null,"code":null}}' % kind.encode()
    error = DialectError(status, "<x")

    assert failures.refused_body(error) == told
    assert failures.error_body(error) == told + b"\n"
    assert failures.error_line(error) == b"data: " + told + b"\n\n"


def test_a_model_that_is_not_there() -> None:
    missing = ModelNotFoundError("whatever")

    assert failures.failure(missing, typed="x").message == "model 'x' not found"
    embedding = failures.failure(missing, typed="x", embedding=True)
    assert embedding.message == 'model "x" not found, try pulling it first'


def test_a_busy_server_says_when_to_come_back() -> None:
    refused = failures.failure(OverloadedError("x", retry_after_s=2.5), typed="m")

    assert (refused.status, refused.retry_after_s) == (503, 2.5)
    assert refused.message == "server busy, please try again.  maximum pending requests exceeded"


def test_what_a_newer_peer_says_is_an_error_of_the_server() -> None:
    assert failures.failure(from_wire("novel", "odd"), typed="m").status == 500
