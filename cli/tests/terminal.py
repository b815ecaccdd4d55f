"""A command on a terminal of 80 columns, and the person before it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pyte

COLUMNS = 80
LINES = 40
HANG_S = 20.0
CTRL_C = "\x03"
CTRL_D = "\x04"
UP = "\x1b[A"
# Only a session leader that opens the terminal itself gets its Ctrl-C.
_ON_TERMINAL = 'exec "$@" <"$0" >"$0" 2>&1'


class _Screen(pyte.Screen):
    """What a person sees; it also answers what a program asks a terminal."""

    def __init__(self, answer: Callable[[bytes], object]) -> None:
        self._answer = answer
        super().__init__(COLUMNS, LINES)

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """`rkllama ...` on a terminal."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        self._person, machine = pty.openpty()
        fcntl.ioctl(machine, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        command = [sys.executable, "-m", "rkllama_cli", *arguments]
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", _ON_TERMINAL, os.ttyname(machine), *command],
            env={"TERM": "xterm-256color", **env},
            start_new_session=True,
        )
        self._machine = machine
        self._screen = _Screen(lambda data: os.write(self._person, data))
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """The screen, without its empty lines."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def dim(self, text: str) -> bool:
        """Whether a text on the screen is dimmed; the terminal emulator keeps no such style."""
        return f"\x1b[2m{text}".encode() in self.raw

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._person, text.encode())

    def enter(self, text: str) -> None:
        """Type a line."""
        self.type(f"{text}\r")

    def see(self, text: str, *, times: int = 1) -> None:
        """Wait until the text is on the screen."""
        self._until(lambda: "\n".join(self.lines).count(text) >= times)

    def ready(self) -> None:
        """Wait until the last line is an empty prompt."""
        self._until(lambda: self.lines[-1:] == [">>> Send a message (/? for help)"])

    def ends(self) -> int:
        """Wait for the end of the command; its exit code."""
        until = time.monotonic() + HANG_S
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.1)
        # Without this end of ours the terminal is gone, once what was written to it is read. Closed
        # earlier, it might be gone before the command has opened it.
        if self._machine >= 0:
            os.close(self._machine)
            self._machine = -1
        while self._read(0.1) and time.monotonic() < until:
            pass
        return self.process.wait(HANG_S)

    def close(self) -> None:
        """End the command, whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self._person)
        if self._machine >= 0:
            os.close(self._machine)

    def _until(self, seen: Callable[[], bool]) -> None:
        until = time.monotonic() + HANG_S
        while not seen():
            assert time.monotonic() < until, "\n".join(self.lines)
            self._read(0.1)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._person], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._person, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)
