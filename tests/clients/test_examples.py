"""ollama-python's own examples, unchanged, with models under the names they use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply

from tests.clients.programs import BUILD, VENV, output
from tests.emulated import SPECIAL, create, emulated
from tests.integration.conftest import MODEL
from tests.integration.test_tools import MARKS, TEMPLATE
from tests.stack import Stack, prepared

SKY = "Sunlight is scattered."
FRIENDS = (
    '{"friends": [{"name": "Ollama", "age": 22, "is_available": false},'
    ' {"name": "Alonso", "age": 23, "is_available": true}]}'
)
ADD = '{"name": "add_two_numbers", "arguments": {"a": 3, "b": 1}}'
WEATHER = '{"name": "get_temperature", "arguments": {"city": "Paris"}}'
FILL = {262: "<|fim_prefix|>", 263: "<|fim_suffix|>", 264: "<|fim_middle|>"}
SCRIPT = ModelScript(
    replies=[
        Reply(text="It is mild.", when="Celsius<|im_end|>"),
        Reply(text=f"<think>Look.</think><tool_call>{WEATHER}</tool_call>", when="temperature in"),
        Reply(text="It is four.", when="add_two_numbers: 4"),
        Reply(text=f"<tool_call>{ADD}</tool_call>", when="three plus one"),
        Reply(text="<think>Add them.</think>33.", when="10 + 23"),
        Reply(text="<think>Rayleigh.</think>Scattering.", when="why is the sky blue"),
        Reply(text="Keep ASCII.", when="<|fim_prefix|>def remove_non_ascii"),
        Reply(text=FRIENDS, when="two friends"),
        Reply(text="You are welcome.", when="Thanks"),
        Reply(text=SKY, when="Why is the sky blue"),
    ]
)
THINKERS = ("deepseek-r1", "qwen3", "llama3.1", "gpt-oss:20b")
OTHERS = ("llama3.1:8b", "llama3.2", "codellama:7b-code")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulated board whose models have the names of the examples."""
    folder = tmp_path_factory.mktemp("board")
    with (
        emulated(folder, "abi-1.3.0") as running,
        ollama.Client(host=running.url, trust_env=False) as client,
    ):
        create(client, "gemma4", SCRIPT, folder, special=SPECIAL | MARKS | FILL)
        for name in THINKERS:
            client.create(name, from_="gemma4", template=TEMPLATE)
        for name in OTHERS:
            client.copy("gemma4", name)
        yield running.url


@pytest.fixture
def small(models: Path, tmp_path: Path) -> Iterator[str]:
    """The bundled model on the CPU, which tells log probabilities, under the name they use.

    They bound nothing, and at some seeds it says the same sentences until its context is full.
    """
    with (
        Stack(prepared(models, tmp_path)) as running,
        ollama.Client(host=running.url, trust_env=False) as client,
    ):
        client.create("gemma4", from_=MODEL, parameters={"temperature": 0, "num_predict": 16})
        yield running.url


def example(name: str, url: str, stdin: str = "") -> str:
    return output(
        [VENV / "python", BUILD / "sources" / "examples" / f"{name}.py"], url, stdin=stdin
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chat", rf"^{SKY}\n$"),
        ("chat-stream", rf"^{SKY}$"),
        ("async-chat", rf"^{SKY}\n$"),
        ("generate", rf"^{SKY}\n$"),
        ("generate-stream", rf"^{SKY}$"),
        ("async-generate", rf"^{SKY}\n$"),
        ("list", r"Name: gemma4:latest\n  Size \(MB\): [\d.]+\n  Format: rkllm"),
        ("show", r"Capabilities: +\['completion', 'insert'\]"),
        ("create", r"^success\n$"),
        ("pull", r"success"),
        ("ps", r"Model:  gemma4:latest\n  Digest:  [0-9a-f]{64}"),
        ("embed", r"^\[\[-?\d\.\d+"),
        ("tools", r"Function output: 4\nFinal response: It is four\."),
        ("async-tools", r"Function output: 4\nFinal response: It is four\."),
        ("multi-tool", r"(?s)Look\..*> Function output: \d+ degrees Celsius.*It is mild\."),
        ("structured-outputs", r"FriendInfo\(name='Alonso', age=23, is_available=True\)"),
        ("async-structured-outputs", r"FriendInfo\(name='Alonso', age=23, is_available=True\)"),
        ("thinking", r"(?s)Thinking:.*Add them\..*Response:.*33\."),
        ("thinking-generate", r"(?s)Thinking:.*Rayleigh\..*Response:.*Scattering\."),
        ("thinking-levels", r"(?s)Thinking \(low\).*Add them\..*Thinking \(high\).*33\."),
        ("fill-in-middle", r"^Keep ASCII\.\n$"),
    ],
)
def test_an_example(board: str, name: str, expected: str) -> None:
    printed = example(name, board)

    assert re.search(expected, printed), printed


def test_the_example_with_a_history(board: str) -> None:
    """It asks for ever: without more input it ends as it would in a terminal."""
    with pytest.raises(AssertionError, match=r"(?s)You are welcome\..*EOFError"):
        example("chat-with-history", board, "Thanks\n")


@pytest.mark.parametrize("name", ["chat-logprobs", "generate-logprobs"])
def test_an_example_with_log_probabilities(small: str, name: str) -> None:
    assert re.search(r"token='.*' +logprob=-?\d\.\d+\n    alt -> ", example(name, small))
