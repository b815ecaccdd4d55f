"""Frameworks complete a streamed tool call and stream the answer that its result leads to."""

from __future__ import annotations

import pytest

from tests.clients.programs import HERE, LITELLM, VENV, told


@pytest.mark.parametrize(
    "program",
    [
        ("langchain", "ollama"),
        ("langchain", "openai"),
        ("llamaindex",),
        ("litellm", "ollama_chat"),
        ("litellm", "openai"),
    ],
    ids="-".join,
)
def test_a_streamed_tool_call_goes_round(url: str, program: tuple[str, ...]) -> None:
    framework, *dialect = program
    python = (LITELLM if framework == "litellm" else VENV) / "python"
    script = HERE / "python" / f"with_{framework}.py"
    done = told([python, script, *dialect], url)

    assert done["calls"] == [["add", {"a": 3, "b": 5}]]
    assert "".join(done["texts"]) == "It is eight."
    assert len([text for text in done["texts"] if text]) > 1
