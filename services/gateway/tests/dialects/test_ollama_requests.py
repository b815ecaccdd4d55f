"""What bodies of the native endpoints mean, and which are refused (contract 1.5-1.8, 2.6-2.16)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama.admin import (
    VerifyRequest,
    parse_copy,
    parse_create,
    parse_delete,
    parse_pull,
    parse_show,
    parse_verify,
)
from rkllama_gateway.dialects.ollama.requests import (
    parse_chat,
    parse_embed,
    parse_embeddings,
    parse_generate,
)
from rkllama_protocol.messages import ChatMessage
from rkllama_protocol.names import ModelName

Parser = Callable[[bytes], Any]
DIGEST = "sha256:" + "a" * 64
PARSERS = [
    parse_chat,
    parse_generate,
    parse_embed,
    parse_embeddings,
    parse_show,
    parse_pull,
    parse_verify,
    parse_copy,
    parse_delete,
    parse_create,
]


def body(**fields: Any) -> bytes:
    return json.dumps({name.rstrip("_"): value for name, value in fields.items()}).encode()


def refusal(parser: Parser, data: bytes) -> tuple[int, str]:
    with pytest.raises(DialectError) as caught:
        parser(data)
    return caught.value.status, caught.value.message


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.binary(max_size=40) | st.text(max_size=20).map(lambda text: body(model=text)))
def test_no_body_raises_anything_but_a_refusal(parser: Parser, data: bytes) -> None:
    with contextlib.suppress(DialectError):
        parser(data)


@pytest.mark.parametrize("parser", PARSERS)
def test_an_empty_body_is_missing(parser: Parser) -> None:
    assert refusal(parser, b" \n") == (400, "missing request body")


NAME_CASES: list[tuple[Parser, Any, int, str]] = [
    (parse_generate, "", 404, "model '' not found"),
    (parse_generate, None, 404, "model '' not found"),
    (parse_chat, "", 400, "model is required"),
    (parse_chat, " ", 400, "model is required"),
    (parse_show, "", 400, "model is required"),
    (parse_delete, "", 400, "model is required"),
    (parse_pull, "", 400, "invalid model name"),
    (parse_create, "", 400, "invalid model name"),
    (parse_delete, "a b", 400, 'name "a b" is invalid'),
    (parse_create, "a b", 400, "invalid model name"),
    *(
        (parser, name, 400, "invalid model name")
        for parser in (
            parse_chat,
            parse_generate,
            parse_embed,
            parse_embeddings,
            parse_show,
            parse_pull,
        )
        for name in ("a b", "x:", "/x", ".x", "x@sha256:1", "x" * 81)
    ),
    (parse_chat, "x:cloud:local", 400, 'use either :local or :cloud, not both: "x:cloud:local"'),
    (parse_chat, "x:LOCAL:Cloud", 400, 'use either :local or :cloud, not both: "x:LOCAL:Cloud"'),
    (parse_chat, "x:cloud", 403, "ollama cloud is disabled: remote model is unavailable"),
    (parse_chat, "x:20b-Cloud", 403, "ollama cloud is disabled: remote model is unavailable"),
    (parse_show, "x:cloud", 403, "ollama cloud is disabled: remote model details are unavailable"),
]


@pytest.mark.parametrize(("parser", "model", "status", "text"), NAME_CASES)
def test_names_are_refused_in_the_words_of_the_endpoint(
    parser: Parser, model: Any, status: int, text: str
) -> None:
    """Contract 1.5, 1.6, 2.20."""
    assert refusal(parser, body(model=model, from_="b")) == (status, text)


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("Qwen2.5:3b", "registry.ollama.ai/library/Qwen2.5:3b"),
        (" q ", "registry.ollama.ai/library/q:latest"),
        ("host:5000/ns/q", "host:5000/ns/q:latest"),
        ("q:1:local", "registry.ollama.ai/library/q:1"),
        ("q-cloud", "registry.ollama.ai/library/q-cloud:latest"),
        ("host:5000-cloud/ns/q", "host:5000-cloud/ns/q:latest"),
    ],
)
def test_a_request_keeps_the_name_as_typed_beside_the_parsed_one(typed: str, full: str) -> None:
    """Answers echo what the client sent (contract 1.6)."""
    request = parse_chat(body(model=typed))

    assert (request.model, request.name.full) == (typed, full)


@pytest.mark.parametrize("parser", [parse_chat, parse_generate])
@pytest.mark.parametrize("value", [-1, 21])
def test_top_logprobs_are_checked_before_the_name(parser: Parser, value: int) -> None:
    """Contract 1.5."""
    text = "top_logprobs must be between 0 and 20"

    assert refusal(parser, body(model="", top_logprobs=value)) == (400, text)


def test_a_chat_has_ollamas_defaults() -> None:
    request = parse_chat(body(model="m"))

    assert request.stream
    assert request.common.truncate
    assert request.common.keep_alive_s is None
    assert request.common.think is None
    assert request.messages == ()
    assert request.tools == ()


def test_messages_keep_everything_a_template_may_ask_for() -> None:
    """Roles are lower-cased, any is allowed (contract 2.8); wrapped base64 becomes one line."""
    call = {"function": {"name": "f", "arguments": {"x": 1}}, "type": "function", "id": "c1"}
    said = {
        "role": "ToOl",
        "content": None,
        "thinking": "t",
        "images": ["QU\nJD"],
        "tool_calls": [call],
        "tool_name": "f",
        "tool_call_id": "c1",
    }

    request = parse_chat(body(model="m", messages=[said]))

    assert request.messages == (
        ChatMessage(
            role="tool",
            thinking="t",
            images=("QUJD",),
            tool_calls=({"function": {"name": "f", "arguments": {"x": 1}}, "id": "c1"},),
            tool_name="f",
            tool_call_id="c1",
        ),
    )


def test_a_call_without_arguments_has_empty_ones() -> None:
    """History calls come from anywhere; a template that prints the arguments must find some."""
    said = {"role": "assistant", "tool_calls": [None, {"id": "c", "function": {"name": "f"}}]}

    request = parse_chat(body(model="m", messages=[said]))

    assert request.messages[0].tool_calls == (
        {"function": {"name": "", "arguments": {}}},
        {"id": "c", "function": {"name": "f", "arguments": {}}},
    )


def test_tools_pass_as_they_came() -> None:
    """A template prints the whole schema, also what Ollama's types do not name."""
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"n": {"type": ["integer", "null"], "minimum": 0}},
            },
        },
    }

    assert parse_chat(body(model="m", tools=[tool])).tools == (tool,)


def test_a_prompt_is_taken_with_all_that_goes_with_it() -> None:
    request = parse_generate(
        body(
            model="m",
            prompt="p",
            suffix="s",
            system="y",
            template="t",
            context=[1, 2],
            raw=True,
            images=["QQ=="],
            stream=False,
            keep_alive="10m",
        )
    )

    assert (request.name.model, request.model, request.stream) == ("m", "m", False)
    assert (request.prompt, request.suffix, request.system) == ("p", "s", "y")
    assert (request.template, request.context, request.raw) == ("t", (1, 2), True)
    assert (request.images, request.common.keep_alive_s) == (("QQ==",), 600.0)


def test_name_is_the_old_spelling_of_model() -> None:
    """Contract 2.6, 2.12, 2.16."""
    for parser in (parse_show, parse_pull, parse_delete):
        assert parser(body(model="", name="old")).model == "old"


@pytest.mark.parametrize(
    ("typed", "source"),
    [
        (" SmolLM2:135m ", "registry.ollama.ai/library/SmolLM2:135m"),
        ("smollm2:local", "registry.ollama.ai/library/smollm2:latest"),
        ("host/ns/m", "host/ns/m:latest"),
        (" hf.co/u/r:Q4_K_M ", "hf.co/u/r:Q4_K_M"),
        ("https://huggingface.co/u/r.1/blob/main/a b.rkllm",) * 2,
        ("u/Qwen2.5-rkllm/Qwen.rkllm",) * 2,
        ("u/Qwen2.5-rkllm/sub/Qwen.GGUF/mine:3b",) * 2,
    ],
)
def test_a_pull_asks_for_a_name_or_for_a_file_on_a_hub(typed: str, source: str) -> None:
    """A hub's file is more than a name can say: the store reads it as it was typed."""
    request = parse_pull(body(model=typed))

    assert (request.model, request.source) == (typed, source)


def test_show_takes_what_it_lays_over_the_model() -> None:
    request = parse_show(body(model="m", verbose=True, system="s", options={"top_k": 1}))

    assert (request.verbose, request.system, request.options) == (True, "s", {"top_k": 1})


def test_copy_names_both_ends() -> None:
    request = parse_copy(body(source="Host/ns/a:1", destination="b"))

    assert (request.model, request.source.full) == ("Host/ns/a:1", "Host/ns/a:1")
    assert request.destination.display == "b:latest"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"source": "a b", "destination": "b"}, 'source "a b" is invalid'),
        ({"source": "a", "destination": "bad name"}, 'destination "bad name" is invalid'),
        ({"destination": "b"}, 'source "" is invalid'),
    ],
)
def test_copy_says_which_name_is_bad(fields: dict[str, str], text: str) -> None:
    """Contract 2.15."""
    assert refusal(parse_copy, body(**fields)) == (400, text)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {}}, "unknown type"),
        ({"files": {"a": ""}}, "invalid digest format"),
        *(
            ({"files": {path: DIGEST}}, "file path must be relative")
            for path in ("/a", "../a", "a/../b", "a//b", "./a", "", "a\\b", "a\0")
        ),
        ({"from_": "a b"}, "invalid model name"),
        ({"from_": "b", "parser": "p"}, "this server does not support parser"),
        ({"from_": "b", "adapters": {"a.gguf": ""}}, "invalid digest format"),
        ({"from_": "b", "adapters": {"/a.gguf": DIGEST}}, "file path must be relative"),
        (
            {"from_": "b", "adapters": {"a.gguf": DIGEST, "b.gguf": DIGEST}},
            "only one adapter is currently supported",
        ),
    ],
)
def test_create_refuses(fields: dict[str, Any], text: str) -> None:
    """Contract 2.14."""
    assert refusal(parse_create, body(model="m", **fields)) == (400, text)


def test_create_from_a_model_becomes_a_message_to_the_store() -> None:
    request = parse_create(
        body(
            model="new",
            from_="Base",
            files={"f": DIGEST},
            template="t",
            system="s",
            license="l",
            parameters={"top_k": 1, "stop": ["a"]},
            messages=[{"role": "USER", "content": "c"}],
            adapters={"l.gguf": DIGEST},
            quantization="q8_0",
            tokenizer_repo="u/r",
        )
    )

    sent = request.to_message("stream-1")

    assert request.stream
    assert (sent.model, sent.stream_id) == ("registry.ollama.ai/library/new:latest", "stream-1")
    assert (sent.base, sent.files) == ("registry.ollama.ai/library/Base:latest", {})
    assert (sent.template, sent.system, sent.license) == ("t", "s", ("l",))
    assert sent.parameters == {"top_k": 1, "stop": ["a"]}
    assert sent.messages == (ChatMessage(role="user", content="c"),)
    assert (sent.adapters, sent.quantize) == ({"l.gguf": DIGEST}, "q8_0")
    assert sent.tokenizer_repo == "u/r"


def test_verify_is_of_one_model_or_of_all() -> None:
    assert parse_verify(body(model="m")).name == ModelName(model="m")
    assert parse_verify(body(stream=False)) == VerifyRequest(name=None, stream=False)
    assert refusal(parse_verify, body(model="a b")) == (400, "invalid model name")


@pytest.mark.parametrize(
    ("given_", "taken"),
    [(["a", "b", None], ("a", "b")), ("a", ("a",)), ("", ()), ([], ()), (None, ())],
)
def test_create_takes_one_licence_or_many(given_: Any, taken: tuple[str, ...]) -> None:
    request = parse_create(body(model="m", files={"a": DIGEST}, license=given_))

    assert request.license == taken
    assert request.to_message("s").base == ""
    assert request.to_message("s").files == {"a": DIGEST}
