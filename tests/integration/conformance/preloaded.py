"""Gateways that start at once: a process that has imported all but the gateway itself, and forks.

Importing FastAPI and pydantic takes longer than anything a broken gateway is tried for. Each line on
its standard input is an order, each line on its standard output the answer:

    {"source": "/folder", "log": "/file", "env": {...}}    ->  process id
    {"stop": 4711}                                          ->  4711
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn, Self

from rkllama_service.process import die_with_parent
from rkllama_service.tied import command

_PACKAGE = "rkllama_gateway"
_IMPORTED = (
    "fastapi",
    "httpx2",
    "orjson",
    "rkllama_protocol.beats",
    "rkllama_protocol.bus",
    "rkllama_protocol.messages",
    "rkllama_service.http",
    "rkllama_service.logs",
    "rkllama_service.settings",
)


class Preloaded:
    """The process, from a test's side."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command([sys.executable, "-m", __name__], signum=signal.SIGKILL),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        # Its children end with it.
        self._process.kill()
        self._process.communicate()

    def start(self, source: Path, log: Path, env: dict[str, str]) -> int:
        """Start the package in `source` with these variables; its process id."""
        return self._order({"source": str(source), "log": str(log), "env": env})

    def stop(self, pid: int) -> None:
        """End it, and wait until it has ended."""
        self._order({"stop": pid})

    def _order(self, order: dict[str, Any]) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()
        return int(answer)


def _become(source: str, log: str, env: dict[str, str], parent: int) -> NoReturn:
    die_with_parent(parent)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, source)
    runpy.run_module(_PACKAGE, run_name="__main__", alter_sys=True)
    sys.exit()


def main() -> None:
    """Take orders until there are none."""
    for name in _IMPORTED:
        importlib.import_module(name)
    assert not any(name.split(".")[0] == _PACKAGE for name in sys.modules)
    parent = os.getpid()
    for line in sys.stdin:
        order = json.loads(line)
        pid = order.get("stop") or os.fork()
        if pid == 0:
            _become(order["source"], order["log"], order["env"], parent)
        if "stop" in order:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
