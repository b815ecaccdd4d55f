"""Records byte for byte (contract 1.3, 1.4, 1.9, 2.2-2.14)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rkllama_gateway.dialects import failing
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama import failures, listings, progress
from rkllama_gateway.dialects.ollama.admin import ShowRequest
from rkllama_gateway.dialects.ollama.answers import Answer, chat_answer, generate_answer
from rkllama_gateway.dialects.ollama.failures import Endpoint
from rkllama_gateway.dialects.ollama.show import show
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import BY_CODE, OverloadedError, from_wire
from rkllama_protocol.messages import (
    ChatMessage,
    Fault,
    ModelDetails,
    Progress,
    ResidentModel,
    ResolvedModel,
    ShowReply,
    TagsReply,
)
from rkllama_protocol.names import ModelName

GOLDEN = Path(__file__).parent / "golden"
NOW_NS = 1_700_000_000_123_456_000
STEP_NS = 50_000_000
CALL = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": "<"}}}

SURE = {"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}
TOLD = (
    Chunk(seq=0, ids=(1,), logprobs=(SURE | {"token": "x"},)),
    Chunk(
        seq=1,
        ids=(2,),
        content="a",
        logprobs=(SURE | {"top_logprobs": [{"token": "<", "logprob": -1.5, "bytes": [60]}]},),
    ),
    Chunk(seq=2, ids=(3,), tool_calls=(CALL,), logprobs=(SURE,)),
    Chunk(seq=3, ids=(4,), logprobs=(SURE | {"token": "z"},)),
    Chunk(seq=4, finish="length"),
)
"""The text of the first is told with the second; that of the fourth never."""

CHUNKS = (
    Chunk(seq=0),
    Chunk(seq=1, ids=(1,), prompt_tokens=12, prefill_ns=30_000_000, thinking="hm"),
    Chunk(seq=2, ids=(2, 3), content="a <b> & \u00e9\u2028", decode_ns=40_000_000),
    Chunk(seq=3, ids=(4,)),
    Chunk(seq=4, ids=(5,), tool_calls=(CALL,)),
    Chunk(
        seq=5,
        ids=(6,),
        content='"\\\n',
        decode_ns=90_000_000,
        finish="stop",
        context=(9, 1, 2),
    ),
)


def streamed(answer: Answer, chunks: tuple[Chunk, ...] = CHUNKS) -> bytes:
    lines = [
        answer.record(chunk, now_ns=NOW_NS + at * STEP_NS, elapsed_ns=(at + 1) * STEP_NS)
        for at, chunk in enumerate(chunks)
    ]
    return b"".join(line for line in lines if line)


def collected(answer: Answer, chunks: tuple[Chunk, ...] = CHUNKS) -> bytes:
    for at, chunk in enumerate(chunks):
        answer.add(chunk, elapsed_ns=(at + 1) * STEP_NS)
    return answer.whole(now_ns=NOW_NS, elapsed_ns=6 * STEP_NS)


MODEL = ResolvedModel(
    name="ns/plain:latest",
    full_name="registry.ollama.ai/ns/plain:latest",
    digest="sha256:" + "ab" * 32,
    size=123,
    modified_at="2026-01-02T03:04:05.5+01:00",
    details=ModelDetails(
        format="rkllm",
        family="qwen2",
        families=("qwen2",),
        parameter_size="3B",
        quantization_level="w8a8",
        context_length=4096,
        embedding_length=2048,
    ),
    capabilities=("completion", "tools"),
    system="Be <brief>.\nPlease.",
    template='{{ "x" }}\n',
    parameters={"temperature": 0.7, "num_ctx": 4096.0, "stop": ["<|a|>", "\n"], "use_mmap": True},
    messages=(ChatMessage(role="user", content=" hi"),),
    license=("MIT", "Apache\n2"),
)
BARE = MODEL.model_copy(
    update={
        "name": "bare:1",
        "details": ModelDetails(),
        "capabilities": (),
        "system": "",
        "template": "",
        "parameters": {},
        "messages": (),
        "license": (),
    }
)
ASKED = ShowRequest(model="NS/Plain", name=ModelName.parse("NS/Plain"))
FULL = ShowReply(
    model=MODEL,
    model_info={"general.architecture": "qwen2", "qwen2.context_length": 4096},
    tensors=({"name": "t", "type": "F16", "shape": [1, 2]},),
)


def resident(name: str, digest: str, expires_in_s: float | None) -> ResidentModel:
    return ResidentModel(
        digest=f"sha256:{digest * 64}",
        name=name,
        full_name=name,
        details=MODEL.details,
        size=10,
        size_vram=10,
        context_length=4096,
        state="ready",
        expires_in_s=expires_in_s,
    )


def processes() -> bytes:
    return listings.ps(
        [
            resident("soon", "1", 60),
            resident("ever", "2", None),
            resident("soon", "1", 90.5),
            resident("soon", "1", 30),
        ],
        now_ns=NOW_NS,
        utc_offset_s=3600,
    )


SHOWN = (Chunk(seq=0, rendered="<|user|>\nhi", finish="stop"),)

MADE: dict[str, Callable[[], bytes]] = {
    "chat_stream": lambda: streamed(chat_answer("Plain")),
    "chat_whole": lambda: collected(chat_answer("Plain")),
    "chat_empty": lambda: streamed(chat_answer("m"), (Chunk(seq=0, finish="length"),)),
    "chat_load": lambda: chat_answer("<m>").idle("load", now_ns=NOW_NS),
    "generate_stream": lambda: streamed(generate_answer("Plain")),
    "generate_whole": lambda: collected(generate_answer("Plain")),
    "generate_raw": lambda: streamed(generate_answer("Plain", raw=True), CHUNKS[-1:]),
    "generate_unload": lambda: generate_answer("m").idle("unload", now_ns=NOW_NS),
    "chat_logprobs_stream": lambda: streamed(chat_answer("m"), TOLD),
    "chat_logprobs_whole": lambda: collected(chat_answer("m"), TOLD),
    "generate_logprobs_stream": lambda: streamed(generate_answer("m"), TOLD),
    "generate_logprobs_whole": lambda: collected(generate_answer("m"), TOLD),
    "chat_rendered": lambda: collected(chat_answer("m", images=2), SHOWN),
    "generate_rendered": lambda: collected(generate_answer("m"), SHOWN),
    "tags": lambda: listings.tags(TagsReply(models=(MODEL, BARE))),
    "tags_empty": lambda: listings.tags(TagsReply()),
    "ps": processes,
    "ps_empty": lambda: listings.ps([], now_ns=NOW_NS, utc_offset_s=0),
    "version": lambda: listings.version("0.13.0"),
    "status": listings.status,
    "show": lambda: show(FULL, ASKED),
    "show_bare": lambda: show(ShowReply(model=BARE), ASKED),
}


@pytest.mark.parametrize("name", MADE)
def test_answers_are_what_they_were(name: str) -> None:
    """The wire format is the product: no byte of it changes unseen."""
    assert MADE[name]() == (GOLDEN / f"{name}.ndjson").read_bytes()


@pytest.mark.parametrize("made", [chat_answer, generate_answer])
def test_what_a_chunk_of_several_tokens_brings_is_told_as_if_it_had_come_apart(
    made: Callable[[str], Answer],
) -> None:
    """Where the client, or what is before it, is slower than the model."""
    calls = tuple({"id": number, "function": {"name": "look"}} for number in "12")
    apart = (
        Chunk(seq=0, thinking="hm"),
        Chunk(seq=1, content="So."),
        *(Chunk(seq=2, tool_calls=(call,)) for call in calls),
    )
    together = Chunk(seq=0, thinking="hm", content="So.", tool_calls=calls)
    one, other = made("m"), made("m")

    lines = [one.record(chunk, now_ns=NOW_NS, elapsed_ns=1) for chunk in apart]
    assert other.record(together, now_ns=NOW_NS, elapsed_ns=1) == b"".join(filter(None, lines))


def test_chunks_without_visible_text_give_no_record() -> None:
    """An empty line breaks clients, and a record without text says nothing (contract 1.3)."""
    answer = chat_answer("m")

    assert answer.record(CHUNKS[0], now_ns=NOW_NS, elapsed_ns=1) is None
    assert answer.record(CHUNKS[3], now_ns=NOW_NS, elapsed_ns=2) is None


@pytest.mark.parametrize("made", [chat_answer, generate_answer])
def test_every_token_has_its_logprob_once(made: Callable[[str], Answer]) -> None:
    """Contract 2.7: also where its text comes later, or never."""
    records = [json.loads(line) for line in streamed(made("m"), TOLD).splitlines()]
    whole = json.loads(collected(made("m"), TOLD))

    told = [entry["token"] for record in records for entry in record.get("logprobs", ())]
    assert told == [entry["token"] for entry in whole["logprobs"]] == ["x", "a", "a", "z"]
    assert [len(record.get("logprobs", ())) for record in records] == [2, 1, 1]
    assert [len(entry.get("top_logprobs", ())) for entry in whole["logprobs"]] == [0, 1, 0, 0]


def test_one_object_is_one_line() -> None:
    lines = streamed(chat_answer("m")).split(b"\n")

    assert lines.pop() == b""
    assert all(json.loads(line)["model"] == "m" for line in lines)
    assert [json.loads(line)["done"] for line in lines] == [False] * 4 + [True]


def test_a_failed_job_ends_with_a_refusal() -> None:
    """Before the first byte it is a status, after it a last line; the caller knows which."""
    failed = Chunk(seq=0, error_code="prompt_too_long", error_message="the prompt is <too> long")

    with pytest.raises(DialectError) as caught:
        chat_answer("m").record(failed, now_ns=NOW_NS, elapsed_ns=1)
    with pytest.raises(DialectError):
        generate_answer("m").add(failed, elapsed_ns=1)
    assert caught.value.status == 400
    assert failures.error_line(caught.value) == (
        b'{"error":"the prompt is \\u003ctoo\\u003e long"}\n'
    )


def test_nothing_added_still_makes_a_final_record() -> None:
    """A stream or answer without a `done` breaks ollama-js (contract 8)."""
    assert json.loads(chat_answer("m").whole(now_ns=NOW_NS, elapsed_ns=7))["done"] is True


def test_show_lays_the_request_over_the_model() -> None:
    """Used by `/show` of the CLI (contract 2.6); Copilot wants the name that was asked for."""
    asked = ShowRequest(
        model="NS/Plain", name=ASKED.name, system="mine", options={"top_k": 1, "temperature": 1.0}
    )

    shown = json.loads(show(FULL, asked, user_agent="GitHubCopilotChat/0.30"))

    assert shown["system"] == "mine"
    assert "SYSTEM mine\n" in shown["modelfile"]
    assert "PARAMETER top_k 1\n" in shown["modelfile"]
    assert "PARAMETER temperature 1\n" in shown["modelfile"]
    assert "top_k" not in shown["parameters"]
    assert shown["model_info"]["general.basename"] == "NS/Plain"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (Progress(seq=0, status="pulling manifest"), b'{"status":"pulling manifest"}\n'),
        (
            Progress(seq=1, status="pulling abc", digest="sha256:abc", total=9, completed=0),
            b'{"status":"pulling abc","digest":"sha256:abc","total":9}\n',
        ),
        (
            Progress(seq=2, status="pulling abc", digest="sha256:abc", total=9, completed=4),
            b'{"status":"pulling abc","digest":"sha256:abc","total":9,"completed":4}\n',
        ),
        (Progress(seq=3), None),
        (Progress(seq=4, status="success", done=True), b'{"status":"success"}\n'),
    ],
)
def test_progress_is_a_record_a_step(given: Progress, line: bytes | None) -> None:
    """Contract 2.12: `completed` is left out while it is zero."""
    assert progress.record(given, Endpoint.PULL) == line


def test_an_unknown_model_to_pull_has_the_phrase_that_the_cli_looks_for() -> None:
    """Contract 2.12."""
    failed = Progress(seq=1, error=Fault(code="model_not_found", message="no"), done=True)

    with pytest.raises(DialectError) as caught:
        progress.record(failed, Endpoint.PULL, model="nope")
    assert caught.value.status == 500
    assert failures.error_body(caught.value) == (
        b'{"error":"pull model manifest: file does not exist"}'
    )


@pytest.mark.parametrize(
    ("endpoint", "status", "text"),
    [
        (Endpoint.GENERATE, 404, "model 'nope' not found"),
        (Endpoint.CHAT, 404, "model 'nope' not found"),
        (Endpoint.SHOW, 404, "model 'nope' not found"),
        (Endpoint.DELETE, 404, "model 'nope' not found"),
        (Endpoint.COPY, 404, 'model "nope" not found'),
        (Endpoint.EMBED, 404, 'model "nope" not found, try pulling it first'),
        (Endpoint.EMBEDDINGS, 404, 'model "nope" not found, try pulling it first'),
        (Endpoint.PULL, 500, "pull model manifest: file does not exist"),
        (Endpoint.CREATE, 500, "pull model manifest: file does not exist"),
    ],
)
def test_an_unknown_model_in_the_words_of_each_endpoint(
    endpoint: Endpoint, status: int, text: str
) -> None:
    """Contract 1.5, 2.6, 2.12-2.16."""
    refused = failures.fault("model_not_found", "whatever", endpoint, model="nope")

    assert (refused.status, refused.message) == (status, text)


def test_every_code_has_a_status() -> None:
    assert failing.STATUS.keys() == BY_CODE.keys()


@pytest.mark.parametrize(
    ("code", "status", "text", "retry_after_s"),
    [
        ("overloaded", 503, failing.BUSY, 1.0),
        ("no_worker", 503, "why", 1.0),
        ("unreachable", 503, "why", 1.0),
        ("invalid_job", 400, "why", None),
        ("unsupported", 400, "why", None),
        ("invalid_model", 500, "why", None),
        ("runtime_failed", 500, "why", None),
        ("worker_lost", 500, "why", None),
        ("storage", 507, "why", None),
        ("cancelled", 499, "request canceled", None),
        ("of_a_newer_peer", 500, "why", None),
    ],
)
def test_errors_of_other_parts_keep_their_sentence(
    code: str, status: int, text: str, retry_after_s: float | None
) -> None:
    refused = failures.failure(from_wire(code, "why"), Endpoint.CHAT, model="m")

    assert (refused.status, refused.message) == (status, text)
    assert refused.retry_after_s == retry_after_s


def test_an_overloaded_gateway_says_when_to_come_back() -> None:
    error = OverloadedError("full", retry_after_s=2.5)

    assert failures.failure(error, Endpoint.CHAT).retry_after_s == 2.5


def test_an_error_without_a_sentence_still_says_something() -> None:
    assert failures.fault("worker_lost", "", Endpoint.CHAT).message == "worker_lost"


def test_a_load_that_a_board_did_is_answered_as_one_that_was_not_needed() -> None:
    """Contract 2.7, 2.8: no durations."""
    for fresh in (chat_answer, generate_answer):
        loaded = collected(fresh("m"), (Chunk(seq=0, finish="load"),))
        assert loaded == fresh("m").idle("load", now_ns=NOW_NS)


def test_a_list_tells_the_least_context_that_is_known() -> None:
    other = BARE.model_copy(update={"digest": "sha256:" + "cd" * 32})
    limits = {MODEL.digest: 99, other.digest: 77}
    known = MODEL.model_copy(update={"details": ModelDetails(context_length=50)})

    def lengths(*models: ResolvedModel) -> list[int]:
        shown = json.loads(listings.tags(TagsReply(models=models), context_limits=limits))
        return [model["details"]["context_length"] for model in shown["models"]]

    assert lengths(known, other) == [50, 77]
    assert lengths(known.model_copy(update={"details": ModelDetails(context_length=500)})) == [99]
