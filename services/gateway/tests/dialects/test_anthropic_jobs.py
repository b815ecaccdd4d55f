"""What a message request asks of a model, and what the model must be able to do (contract 4, 8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_gateway.dialects.anthropic.jobs import message_job
from rkllama_gateway.dialects.anthropic.requests import parse_count, parse_messages
from rkllama_gateway.dialects.errors import DialectError
from rkllama_protocol.messages import ChatMessage, Job, ModelDetails, ResolvedModel

MODEL = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest=f"sha256:{'a' * 64}",
    size=1,
    modified_at="2026-01-01T00:00:00Z",
    details=ModelDetails(format="gguf", context_length=4096),
    capabilities=("completion", "tools", "thinking"),
    system="Model's own.",
    parameters={"temperature": 0.25, "stop": ["<end>"]},
)
PLAIN = MODEL.model_copy(update={"capabilities": ("completion",), "system": ""})
TOOL = {"name": "add", "input_schema": {"type": "object"}}
HI = [{"role": "user", "content": "Hi"}]
IMAGE = {"type": "image", "source": {"type": "base64", "data": "iVBORw=="}}


def job(model: ResolvedModel = MODEL, **fields: Any) -> Job:
    body = {"model": "M", "max_tokens": 7, "messages": HI} | fields
    return message_job(
        parse_messages(json.dumps(body).encode()),
        model,
        job_id="j",
        now="2026-01-01T00:00:00Z",
        seed=5,
        context_length=2048,
    )


def test_the_models_own_values_are_used_where_nothing_is_said() -> None:
    made = job()

    assert (made.kind, made.num_predict, made.num_ctx) == ("chat", 7, 2048)
    assert (made.sampling.temperature, made.sampling.seed) == (0.25, 5)
    assert made.stop == ("<end>",)
    assert made.messages[0] == ChatMessage(role="system", content="Model's own.")
    assert (made.truncate, made.shift, made.render_only, made.keep_alive_s) == (
        True, True, False, None,
    )  # fmt: skip


def test_what_is_said_comes_first() -> None:
    made = job(temperature=1, top_k=2, stop_sequences=["E"], system="Mine.")

    assert (made.sampling.temperature, made.sampling.top_k, made.stop) == (1.0, 2, ("E",))
    assert made.asked_options == ("temperature", "top_k")
    assert [m.content for m in made.messages] == ["Mine.", "Hi"]


@pytest.mark.parametrize(
    ("model", "fields", "think"),
    [
        (MODEL, {}, True),
        (MODEL, {"thinking": {"type": "disabled"}}, False),
        (MODEL, {"output_config": {"effort": "low"}}, "low"),
        (PLAIN, {}, None),
        (PLAIN, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None),
        (PLAIN, {"output_config": {"effort": "low"}}, None),
        (PLAIN, {"thinking": {"type": "disabled"}}, None),
    ],
)
def test_a_model_that_cannot_think_is_not_asked_to(
    model: ResolvedModel, fields: dict[str, Any], think: bool | str | None
) -> None:
    """Contract 4: relaxed, unlike in the other dialects."""
    assert job(model, **fields).think == think


def test_a_choice_of_tools_goes_on() -> None:
    forced = job(tools=[TOOL], tool_choice={"type": "any"})
    left = job(PLAIN, tools=[TOOL], tool_choice={"type": "none"})

    assert [tool["function"]["name"] for tool in forced.tools] == ["add"]
    assert forced.forced_tools == ("add",)
    assert (left.tools, left.forced_tools) == ((), ())


def test_counting_renders_all_of_it_and_runs_nothing() -> None:
    body = {"model": "M", "messages": HI, "thinking": {"type": "disabled"}}
    request = parse_count(json.dumps(body).encode())
    made = message_job(request, MODEL, job_id="j", now="2026-01-01T00:00:00Z", seed=5)

    assert (made.render_only, made.truncate, made.think) == (True, False, False)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (PLAIN, {"tools": [TOOL]}, "registry.ollama.ai/library/m:latest does not support tools"),
        (
            PLAIN,
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "registry.ollama.ai/library/m:latest does not support vision",
        ),
        (
            PLAIN.model_copy(update={"capabilities": ("embedding",)}),
            {},
            '"M" does not support chat',
        ),
    ],
)
def test_a_model_that_cannot_is_refused(
    model: ResolvedModel, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DialectError) as refused:
        job(model, **fields)

    assert (refused.value.status, refused.value.message) == (400, message)
