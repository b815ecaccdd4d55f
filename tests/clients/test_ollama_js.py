"""Programs written against ollama-js, unmodified, in Node."""

from __future__ import annotations

from functools import partial

import pytest

from tests.clients.programs import node
from tests.integration.test_tools import THOUGHT

run = partial(node, "ollama.mjs")


def test_a_chat(url: str) -> None:
    answer = run("chat", url)

    assert answer["message"] == {"role": "assistant", "content": "Hello, world."}
    assert (answer["done"], answer["done_reason"]) == (True, "stop")


def test_a_streamed_chat(url: str) -> None:
    *parts, last = run("chatStreamed", url)

    assert len(parts) > 1
    assert "".join(part["message"]["content"] for part in parts) == "Hello, world."
    assert {part["done"] for part in parts} == {False}
    assert (last["done"], last["eval_count"] > 1) == (True, True)


def test_a_prompt(url: str) -> None:
    assert run("generate", url)["response"] == "Hello, world."


def test_a_streamed_prompt(url: str) -> None:
    parts = run("generateStreamed", url)

    assert len(parts) > 2
    assert "".join(part["response"] for part in parts) == "Hello, world."
    assert parts[-1]["done"]


def test_models_are_listed_and_shown(url: str) -> None:
    seen = run("listAndShow", url)

    assert {"able:latest", "endless:latest", "plain:latest"} <= set(seen["names"])
    assert set(seen["shown"]["capabilities"]) >= {"completion", "tools", "thinking"}
    assert seen["version"]["version"]


def test_loaded_models_are_listed_until_they_are_not(url: str) -> None:
    seen = run("ps", url)

    assert "plain:latest" in [model["name"] for model in seen["loaded"]]
    assert "plain:latest" not in [model["name"] for model in seen["after"]]


def test_vectors(url: str) -> None:
    vectors = run("embed", url)["embeddings"]

    assert len(vectors) == 2
    assert [sum(x * x for x in vector) for vector in vectors] == [pytest.approx(1, abs=1e-5)] * 2


def test_a_streamed_tool_call_goes_round(url: str) -> None:
    seen = run("tools", url)

    [call] = seen["calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("add", {"a": 3, "b": 5})
    assert seen["text"] == "It is eight."


def test_thinking_is_streamed_apart(url: str) -> None:
    parts = [part["message"] for part in run("thinking", url)]

    assert "".join(part.get("thinking", "") for part in parts) == THOUGHT
    assert "".join(part["content"] for part in parts) == "Eight."


def test_an_answer_without_end_is_aborted(url: str) -> None:
    """The board has to be free for the next, or this never ends."""
    seen = run("aborted", url)

    assert seen["seen"] == 3
    assert seen["error"]["name"] == "AbortError"
    assert seen["next"] == "Hello, world."


def test_a_model_is_created_copied_and_deleted(url: str) -> None:
    seen = run("created", url)

    assert seen["progress"][-1] == {"status": "success"}
    assert seen["told"] == "I am told."
    assert seen["deleted"] == [{"status": "success"}] * 2
    assert not {"mario:latest", "luigi:latest"} & set(seen["names"])


def test_errors_have_their_class_status_and_text(url: str) -> None:
    seen = run("errors", url)
    missing = {"name": "ResponseError", "status": 404, "error": "model 'nobody' not found"}

    assert seen["missing"] == missing
    assert seen["streamed"] == missing
    assert seen["deleted"] == missing
    assert (seen["noTools"]["status"], "does not support tools" in seen["noTools"]["error"]) == (
        400,
        True,
    )
