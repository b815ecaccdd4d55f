"""`rkllama run` with a prompt: the answer on the output, everything else beside it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rkllama_cli.__main__ import app
from typer.testing import CliRunner, Result

from cli.tests.scripted import CUT, Reply, Scripted, model, said, scripted

NOT_THERE = Reply(status=404, body={"error": "model 'm' not found"})


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as script:
        script.on("POST /api/show", model())
        script.on("POST /api/chat", Reply(stream=said("Hel", "lo.", thinking=("Hm",))))
        yield script


def run(server: Scripted, *arguments: str, stdin: str = "") -> Result:
    env = {"RKLLAMA_HOST": server.url}
    return CliRunner().invoke(app, ["run", "m", *arguments], env=env, input=stdin)


def messages(server: Scripted) -> object:
    return server.bodies("/api/chat")[0]["messages"]


def test_the_output_is_the_answer_alone(server: Scripted) -> None:
    """Not what the model thought: a program reads it."""
    result = run(server, "Say", "hello")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello.\n", "")
    assert server.bodies("/api/chat") == [
        {"model": "m", "messages": [{"role": "user", "content": "Say hello"}]}
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "prompt"),
    [
        ([], "from a pipe\n", "from a pipe"),
        (["Sum", "it", "up"], "a text\n", "a text\n\nSum it up"),
        (["alone"], "", "alone"),
    ],
)
def test_a_prompt_may_come_through_a_pipe(
    server: Scripted, arguments: list[str], stdin: str, prompt: str
) -> None:
    assert run(server, *arguments, stdin=stdin).exit_code == 0
    assert messages(server) == [{"role": "user", "content": prompt}]


def test_nothing_to_ask_loads_the_model(server: Scripted) -> None:
    server.on("POST /api/generate", Reply(body={"done": True, "done_reason": "load"}))

    result = run(server, "--keepalive", "-1", "-o", "num_ctx=4096")

    assert (result.exit_code, result.output) == (0, "")
    assert server.bodies("/api/generate") == [
        {"model": "m", "options": {"num_ctx": 4096}, "keep_alive": -1}
    ]


def test_options_reach_the_server(server: Scripted) -> None:
    options = ["--system", "Be brief.", "--seed", "7", "-o", "temperature=0", "-o", "stop=#"]
    run(server, "hi", *options, "--format", "json", "--keepalive", "10m", "--nothink")

    assert server.bodies("/api/chat") == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ],
            "options": {"temperature": 0.0, "stop": ["#"], "seed": 7},
            "format": "json",
            "think": False,
            "keep_alive": "10m",
        }
    ]


@pytest.mark.parametrize(
    ("option", "think"),
    [
        ("--think", True),
        ("--think=true", True),
        ("--think=false", False),
        ("--nothink", False),
        ("--think=high", "high"),
    ],
)
def test_thinking_is_asked_for_as_with_ollama(
    server: Scripted, option: str, think: bool | str
) -> None:
    assert run(server, option, "Say", "--", "--think").exit_code == 0
    assert server.bodies("/api/chat") == [
        {"model": "m", "messages": [{"role": "user", "content": "Say --think"}], "think": think}
    ]


def test_a_level_of_thinking_that_there_is_not_is_refused(server: Scripted) -> None:
    refused = run(server, "--think=huge", "hi")

    assert (refused.exit_code, server.bodies("/api/chat")) == (2, [])
    assert "--think is one of true, false, high, medium, low, max, not huge" in refused.stderr


def test_timings_are_shown_beside_the_answer(server: Scripted) -> None:
    figures: dict[str, Any] = {
        "total_duration": 2_500_000_000,
        "load_duration": 12_000_000,
        "prompt_eval_count": 1,
        "prompt_eval_duration": 100_000_000,
        "eval_count": 20,
        "eval_duration": 2_000_000_000,
    }
    server.on("POST /api/chat", Reply(stream=said("Hi.", **figures)))

    result = run(server, "hi", "--verbose")

    assert result.stdout == "Hi.\n"
    assert result.stderr.split("\n") == [
        "",
        "total duration        2.50 s",
        "load duration         12 ms",
        "prompt eval count     1 token",
        "prompt eval duration  100 ms",
        "prompt eval rate      10.00 tokens/s",
        "eval count            20 tokens",
        "eval duration         2.00 s",
        "eval rate             10.00 tokens/s",
        "",
    ]


def test_a_model_that_is_not_there_is_pulled_first(server: Scripted) -> None:
    server.on("POST /api/show", NOT_THERE, model())
    server.on(
        "POST /api/pull", Reply(stream=({"status": "pulling manifest"}, {"status": "success"}))
    )

    result = run(server, "hi")

    assert (result.exit_code, result.stdout) == (0, "Hello.\n")
    assert result.stderr == "pulling manifest\nsuccess\n"


def test_a_model_that_is_nowhere_is_one_sentence(server: Scripted) -> None:
    server.on("POST /api/show", NOT_THERE)
    server.on(
        "POST /api/pull", Reply(stream=({"error": "pull model manifest: file does not exist"},))
    )

    result = run(server, "hi")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("rkllama: there is no model 'm' to pull")


def test_an_image_is_sent_when_its_path_is_named(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")

    result = run(server, f"What is this? {tmp_path}/cat.png")

    assert result.stdout == "Hello.\n"
    assert result.stderr == "Added image cat.png\n"
    assert messages(server) == [
        {
            "role": "user",
            "content": "What is this?",
            "images": [base64.b64encode(b"\x89PNG").decode()],
        }
    ]


@pytest.mark.parametrize(
    ("stream", "stdout", "sentence"),
    [
        (({"message": {"content": "Hel"}}, CUT), "Hel\n", "broke before the answer was complete"),
        (({"message": {"content": "Hel"}},), "Hel\n", "broke before the answer was complete"),
        (({"message": {"content": "Hel"}}, {"error": "worker lost"}), "Hel\n", "worker lost"),
        ((), "", "broke before the answer was complete"),
    ],
)
def test_an_answer_that_breaks_off_is_an_error(
    server: Scripted, stream: tuple[object, ...], stdout: str, sentence: str
) -> None:
    """What came before is still there."""
    server.on("POST /api/chat", Reply(stream=stream))

    result = run(server, "hi")

    assert (result.exit_code, result.stdout) == (1, stdout)
    assert result.stderr.endswith(f"{sentence}\n")
    assert result.stderr.count("\n") == 1


def test_a_model_for_embeddings_cannot_talk(server: Scripted) -> None:
    server.on("POST /api/show", model(capabilities=["embedding"]))

    assert run(server, "hi").stderr == "rkllama: 'm' makes embeddings and cannot talk\n"


def test_a_reader_that_has_seen_enough_is_no_traceback(server: Scripted) -> None:
    """As in `rkllama run m hi | head -1`."""
    command = f"{sys.executable} -m rkllama_cli run m hi </dev/null | true"
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"RKLLAMA_HOST": server.url},
    )

    assert ended.stderr == ""
