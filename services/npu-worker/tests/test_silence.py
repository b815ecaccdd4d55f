"""How long an engine may read without a word."""

from __future__ import annotations

import pytest
from rkllama_policy.cost import prompt_tokens
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel, Speed, Ticket
from rkllama_protocol.subjects import JobClass
from rkllama_worker.silence import (
    CPU_PREFILL,
    SLOW_PREFILL,
    Silence,
    allowed_silence,
    predicted_prefill_s,
)

DIGEST = f"sha256:{'a' * 64}"
LEARNED = Speed(model=DIGEST, prefill_s_per_token=0.01)
NEW = Speed(model=DIGEST)
TOOL = {"type": "function", "function": {"name": "add"}}
STALL_S = 20.0
READING_S = STALL_S + SLOW_PREFILL * 10


def job(**changes: object) -> Job:
    model = ResolvedModel(
        name="m", full_name="m", digest=DIGEST, size=0, modified_at="", details=ModelDetails()
    )
    values = {"job_id": "j", "model": model, "kind": "chat", "now": ""}
    return Job.model_validate(values | changes)


def ticket(**changes: object) -> Ticket:
    values = {
        "job_id": "j",
        "attempt": 1,
        "job_class": JobClass.INTERACTIVE,
        "model": DIGEST,
        "model_format": "rkllm",
        "weights_bytes": 1_000_000_000,
        "age_s": 0.0,
        "order": 0,
        "prompt_tokens": 1000,
        "gateway_id": "g",
    }
    return Ticket.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "next_s"),
    [
        ({}, STALL_S),
        ({"tools": (TOOL,)}, STALL_S),
        # Its next text is read between two chunks.
        ({"kind": "embed", "inputs": ("a", "b")}, READING_S),
        # A runtime without grammars is asked again, and may have to read all of it again.
        ({"format": "json"}, READING_S),
        ({"format": {"type": "object"}}, READING_S),
        ({"tools": (TOOL,), "forced_tools": ("add",)}, READING_S),
    ],
)
def test_an_engine_is_silent_while_it_reads(changes: dict[str, object], next_s: float) -> None:
    """1000 tokens of 10 ms, which may take five times as long."""
    allowed = allowed_silence(job(**changes), ticket(), LEARNED, stall_s=STALL_S)

    assert allowed == Silence(first_s=READING_S, next_s=next_s)


def test_the_tools_of_an_agent_are_read_too() -> None:
    """They were not counted: an engine that read 100 tools for half a minute was killed for hanging."""
    function = {"name": "f", "description": "what it does, " * 30}
    asked = job(
        messages=({"role": "user", "content": "Hi"},),
        tools=({"type": "function", "function": function},) * 100,
    )
    offered = ticket(prompt_tokens=prompt_tokens(asked))

    assert allowed_silence(asked, offered, LEARNED, stall_s=STALL_S).first_s > 5 * 100


def test_a_processor_that_is_not_known_yet_is_held_to_be_slower_than_an_npu() -> None:
    guess = predicted_prefill_s(ticket(), NEW)

    assert predicted_prefill_s(ticket(model_format="gguf"), NEW) == CPU_PREFILL * guess
    assert predicted_prefill_s(ticket(model_format="gguf"), LEARNED) == 10
