"""`python -m rkllama_service.tied PARENT SIGNAL COMMAND ...`: run a command that ends with its parent.

The kernel sends SIGNAL to the command when process PARENT ends, whatever ends it; the request
outlives `execve`, so this works for commands that know nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys

from rkllama_service.process import die_with_parent


def command(argv: list[str], *, signum: signal.Signals) -> list[str]:
    """The command line that runs `argv` tied to this process."""
    return [sys.executable, "-m", __spec__.name, str(os.getpid()), signum.name, *argv]


def main() -> None:
    """Tie this process, and become the command."""
    parent, signum, *argv = sys.argv[1:]
    die_with_parent(int(parent), signum=signal.Signals[signum])
    os.execvp(argv[0], argv)  # noqa: S606 - the command is our own caller's


if __name__ == "__main__":
    main()
