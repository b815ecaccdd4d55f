"""The prompt for the SoC: the document's words on a terminal, a sentence anywhere else."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rkllama_board import Board, Soc, detect
from rkllama_cli import platform_prompt
from rkllama_cli.serve import Plan, children
from rkllama_service.process import SETUP_ERROR, SetupError

from tests.stack import children_of, wait_until

DOCUMENT = [
    "CPU model not detected automatically.",
    "Please select your CPU model:",
    "1) rk3588",
    "2) rk3576",
    "Enter selection (1-2):",
]
NOTHING_DETECTED = pytest.mark.skipif(
    detect().soc is not None, reason="this machine is a board that is detected"
)
HANG_S = 20.0


def command(folder: Path, *arguments: str) -> list[str]:
    serve = [sys.executable, "-m", "rkllama_cli", "serve", "--port", "0", "--data", str(folder)]
    return [*serve, *arguments]


def environment() -> dict[str, str]:
    return {key: text for key, text in os.environ.items() if not key.startswith("RKLLAMA_")}


class Terminal:
    """A command on a terminal of its own, and the person before it."""

    def __init__(self, argv: list[str]) -> None:
        self.person, machine = pty.openpty()
        self.process = subprocess.Popen(
            argv,
            stdin=machine,
            stdout=machine,
            stderr=machine,
            env=environment(),
            start_new_session=True,
        )
        os.close(machine)
        self.screen = ""

    def read_until(self, text: str, *, times: int = 1) -> None:
        until = time.monotonic() + HANG_S
        while self.screen.count(text) < times:
            assert time.monotonic() < until, self.screen
            if select.select([self.person], [], [], 0.1)[0]:
                self.screen += os.read(self.person, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self.person, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(HANG_S)
        finally:
            self.process.kill()
            os.close(self.person)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """`rkllama serve --runtime rkllm` on a terminal, at its prompt."""
    found = Terminal(command(tmp_path, "--runtime", "rkllm"))
    found.read_until(DOCUMENT[-1])
    yield found
    found.close()


def platforms(pid: int) -> set[str]:
    """What the children of a process were told that the platform is."""
    found = set()
    for child in children_of(pid):
        try:
            text = Path(f"/proc/{child}/environ").read_text()
        except OSError:
            continue
        found |= {
            line.partition("=")[2]
            for line in text.split("\0")
            if line.startswith("RKLLAMA_PLATFORM=")
        }
    return found


@NOTHING_DETECTED
def test_a_terminal_shows_the_documents_prompt_and_the_answer_reaches_the_children(
    terminal: Terminal,
) -> None:
    """Anything but 1 and 2 is asked again."""
    assert terminal.screen.splitlines()[:4] == DOCUMENT[:4]
    assert terminal.screen.splitlines()[4].rstrip() == DOCUMENT[4]
    assert not children_of(terminal.process.pid)

    terminal.type("rk3588\n")
    terminal.read_until(DOCUMENT[-1], times=2)
    terminal.type("2\n")

    wait_until("a child", lambda: platforms(terminal.process.pid) == {"rk3576"})


@NOTHING_DETECTED
def test_the_end_of_the_input_at_the_prompt_exits_2(terminal: Terminal) -> None:
    terminal.type("\x04")

    assert terminal.process.wait(HANG_S) == SETUP_ERROR
    terminal.read_until("RKLLAMA_PLATFORM")


@NOTHING_DETECTED
def test_a_signal_at_the_prompt_ends_the_program(terminal: Terminal) -> None:
    """Waiting for a line must not swallow Ctrl-C."""
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.process.wait(HANG_S) == 0


@NOTHING_DETECTED
def test_without_a_terminal_it_exits_2_and_names_the_variable(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--runtime", "rkllm"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=HANG_S,
        check=False,
    )

    assert done.returncode == SETUP_ERROR
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "RKLLAMA_PLATFORM" in done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    """A machine on which nothing can be found."""
    return detect(tmp_path)


@pytest.mark.parametrize("runtime", ["auto", "cpu"])
def test_only_the_rkllm_runtime_asks(bare: Board, runtime: str) -> None:
    assert not platform_prompt.unknown(bare, runtime=runtime)
    assert platform_prompt.unknown(bare, runtime="rkllm")


def test_nobody_is_asked_what_was_detected_or_said(bare: Board, tmp_path: Path) -> None:
    assert not platform_prompt.unknown(replace(bare, soc=Soc.RK3588), runtime="rkllm")
    assert not platform_prompt.unknown(detect(tmp_path, platform="rv1126b"), runtime="rkllm")


def test_a_variable_that_names_no_soc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="RKLLAMA_PLATFORM is 'rk9999'"):
        platform_prompt.unknown(detect(tmp_path, platform="rk9999"), runtime="rkllm")


@pytest.mark.parametrize(
    ("answer", "soc"),
    [("1\n", Soc.RK3588), (" 2 \r\n", Soc.RK3576), ("3\n", None), ("\n", None), ("rk3588\n", None)],
)
def test_the_answer_is_1_or_2(answer: str, soc: Soc | None) -> None:
    assert platform_prompt.chosen(answer) is soc


def test_every_child_is_told_the_soc_that_was_chosen(tmp_path: Path) -> None:
    plan = Plan(
        host="127.0.0.1",
        port=0,
        data=tmp_path,
        auth=None,
        keys=tmp_path / "keys.json",
        workers=2,
        runtime="rkllm",
        rkllm_library=None,
        nats_url="nats://127.0.0.1:1",
        debug=False,
    )

    told = {child.env.get("RKLLAMA_PLATFORM") for child in children(plan, 1, soc=Soc.RK3576)}

    assert told == {"rk3576"}
