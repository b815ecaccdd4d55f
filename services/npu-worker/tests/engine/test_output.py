"""What C prints into the engine's output can be read at once, and survives a crash."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from rkllama_worker.engine.output import KEPT_BYTES

PROGRAM = r"""
import ctypes, json, os, signal, sys
from rkllama_worker.engine.output import KEPT_BYTES, Output
libc = ctypes.CDLL(None)
output = Output()
libc.printf(b"before\n")
mark = output.mark()
libc.printf(b"said\n")
said = output.since(mark)
output.trim()
kept = output.mark()
os.write(1, b"x" * KEPT_BYTES)
output.trim()
print(json.dumps([said, kept, output.mark()]), file=sys.stderr, flush=True)
libc.printf(b"last words\n")
os.kill(os.getpid(), signal.SIGSEGV)
"""
ALL = b"before\nsaid\n" + b"x" * KEPT_BYTES + b"last words\n"


@pytest.fixture
def nameless() -> Iterator[IO[bytes]]:
    """As the worker gives it to an engine."""
    file = os.memfd_create("output")
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    with os.fdopen(file, "rb+") as opened:
        yield opened


def told(stdout: IO[bytes]) -> list[object]:
    """What the program saw of its output; it dies of a crash."""
    # With PYTHONUNBUFFERED Python takes away the buffers of C too.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False
    )
    assert done.returncode == -signal.SIGSEGV
    seen: list[object] = json.loads(done.stderr)
    return seen


def test_what_c_prints_is_read_at_once_and_outlives_the_process(nameless: IO[bytes]) -> None:
    assert told(nameless) == ["said\n", len(b"before\nsaid\n"), 0]

    nameless.seek(0)
    assert nameless.read() == b"last words\n"


def test_a_file_with_a_name_is_somebodys_and_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert told(file) == ["", 0, 0]

    assert (tmp_path / "log").read_bytes() == ALL
