"""The commands against the real system, with the small model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.tests.terminal import CTRL_C, Terminal
from tests.stack import Stack, prepared, wait_until

MODEL = "smollm2:135m"
GREEDY = ["-o", "temperature=0", "-o", "num_predict=16"]


@pytest.fixture(scope="module")
def url(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(prepared(models, tmp_path_factory.mktemp("data"))) as stack:
        yield stack.url


def rkllama(url: str, *arguments: str, stdin: str = "") -> str:
    """What a command that went well printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "rkllama_cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        env=os.environ | {"RKLLAMA_HOST": url},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_model_is_made_shown_asked_unloaded_and_deleted(url: str, tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f'FROM {MODEL}\nSYSTEM """You are\nbrief."""\nPARAMETER stop "a b"\n')

    assert rkllama(url, "create", "mine", "-f", str(modelfile)).endswith("success\n")
    assert rkllama(url, "show", "mine", "--system").strip() == "You are\nbrief."
    assert rkllama(url, "show", "mine", "--parameters").split(maxsplit=1)[1].strip() == '"a b"'
    assert "completion" in rkllama(url, "show", "mine")
    answer = rkllama(url, "run", "mine", "And of Italy?", *GREEDY, stdin="The capital of France?")
    assert answer.strip()
    assert "mine:latest" in rkllama(url, "ps")
    rkllama(url, "stop", "mine")
    wait_until("the model to be unloaded", lambda: not json.loads(rkllama(url, "ps", "--json")))
    rkllama(url, "rm", "mine")
    assert [row["name"] for row in json.loads(rkllama(url, "list", "--json"))] == [MODEL]


def test_a_pull_of_what_is_there_succeeds(url: str) -> None:
    lines = rkllama(url, "pull", MODEL).splitlines()

    assert lines[0] == "pulling manifest"
    assert lines[-1] == "success"
    assert any(line.endswith(" MB") and " 100% of " in line for line in lines)


def test_a_chat_on_a_terminal_that_is_stopped_and_goes_on(url: str, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "RKLLAMA_HOST": url, "LANG": "C.UTF-8"}
    terminal = Terminal("run", MODEL, "-o", "num_predict=2000", "--seed", "1", env=env)
    try:
        terminal.ready()
        terminal.enter("Tell me a long story about the sea.")
        terminal.see(" the ", times=3)
        terminal.type(CTRL_C)
        terminal.ready()
        terminal.enter("/set parameter num_predict 4")
        terminal.see("num_predict is 4.")
        terminal.ready()
        terminal.enter("/set verbose")
        terminal.see("Timings are shown")
        terminal.ready()
        terminal.enter("Go on.")
        terminal.see("eval count            4 tokens")
        terminal.ready()
        terminal.enter("/bye")
        code = terminal.ends()
    finally:
        terminal.close()

    assert code == 0
    assert max(map(len, terminal.lines)) <= 80
