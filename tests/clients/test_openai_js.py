"""Programs written against OpenAI's JavaScript client, unmodified, in Node."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from rkllama_service.keys import Keys, Scope, new_key

from tests.clients.conftest import models
from tests.clients.programs import node
from tests.emulated import emulated

run = partial(node, "openai.mjs")
BOTH = [("add", {"a": 3, "b": 5}), ("multiply", {"a": 4, "b": 6})]


def test_a_chat(url: str) -> None:
    answer = run("chat", url)

    assert answer["choices"][0]["message"]["content"] == "Hello, world."
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_streamed_chat_with_its_usage(url: str) -> None:
    *said, finish, usage = run("chatStreamed", url)

    assert len(said) > 1
    assert "".join(part["choices"][0]["delta"]["content"] for part in said) == "Hello, world."
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 1


def test_parallel_calls_are_streamed_whole(url: str) -> None:
    choice = run("toolsStreamed", url)
    calls = [call["function"] for call in choice["message"]["tool_calls"]]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Both."
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == BOTH


def test_the_clients_own_loop_calls_functions(url: str) -> None:
    assert run("toolsRun", url) == "It is eight."


def test_an_answer_in_a_schema_is_parsed(url: str) -> None:
    assert run("structured", url) == {"name": "Ada", "born": 1815}


def test_a_response(url: str) -> None:
    answer = run("responses", url)

    assert (answer["status"], answer["output_text"]) == ("completed", "Hello, world.")


def test_a_streamed_response_with_calls(url: str) -> None:
    seen = run("responsesStreamed", url)
    calls = [item for item in seen["final"]["output"] if item["type"] == "function_call"]

    assert seen["events"][0] == "response.created"
    assert seen["events"][-1] == "response.completed"
    assert seen["events"].count("response.function_call_arguments.done") == 2
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == BOTH
    assert seen["final"]["output_text"] == "Both."


def test_vectors_in_both_forms(url: str) -> None:
    seen = run("embeddings", url)

    assert len(seen["floats"]) == len(seen["decoded"]) == 2
    for floats, decoded in zip(seen["floats"], seen["decoded"], strict=True):
        assert decoded == pytest.approx(floats, abs=1e-6)


def test_models_are_listed(url: str) -> None:
    seen = run("models", url)

    assert {"able:latest", "plain:latest"} <= set(seen["listed"])
    assert (seen["one"]["id"], seen["one"]["object"]) == ("able", "model")


def test_an_answer_without_end_is_aborted(url: str) -> None:
    """The board has to be free for the next, or this never ends."""
    seen = run("aborted", url)

    assert seen["seen"] >= 3
    assert seen["next"] == "Hello, world."


def test_errors_have_their_class(url: str) -> None:
    seen = run("errors", url)

    assert (seen["missing"]["kind"], seen["missing"]["status"]) == ("NotFoundError", 404)
    assert seen["missing"]["error"]["message"] == "model 'nobody' not found"
    assert (seen["bad"]["kind"], seen["bad"]["status"]) == ("BadRequestError", 400)
    assert (seen["streamed"]["kind"], seen["streamed"]["status"]) == ("NotFoundError", 404)


def test_a_busy_server_says_when_to_come_back(tmp_path: Path) -> None:
    with emulated(tmp_path, "abi-1.3.0", RKLLAMA_GATEWAY_MAX_WAITING="1") as stack:
        models(stack, tmp_path)
        seen = run("busy", stack.url)

    assert (seen["refused"]["kind"], seen["refused"]["status"]) == ("InternalServerError", 503)
    assert seen["refused"]["error"]["message"].startswith("server busy, please try again.")
    assert int(seen["refused"]["retryAfter"]) >= 1
    assert seen["waiting"] == "APIUserAbortError"


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    key, text = new_key("javascript", Scope.INFER, now=datetime.now(UTC))
    keys = tmp_path / "keys.json"
    keys.write_text(Keys().having(key).model_dump_json())
    keys.chmod(0o600)
    with emulated(tmp_path, "abi-1.3.0", RKLLAMA_AUTH="all") as stack:
        seen = run("locked", stack.url, RKLLAMA_TEST_KEY=text)

    assert (seen["refused"]["kind"], seen["refused"]["status"]) == ("AuthenticationError", 401)
    assert seen["answered"] == []
