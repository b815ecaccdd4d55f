"""The processes that rows are run against: an emulated board, a real small model, and gateways to try.

    emulated       broker, store, worker with the emulator, gateway
    any-origin     a gateway on the same broker with OLLAMA_ORIGINS=*
    more-origins   the same with two origins more
    cpu            a whole system with the CPU runtime and the bundled model; variables of Ollama set

Each is started when the first row asks for it. With `source` the gateways of the first three run
another copy of the package: that is how broken rules are tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from rkllama_service.tied import command

from tests.emulated import emulated
from tests.integration.conformance import models
from tests.integration.conformance.preloaded import Preloaded
from tests.integration.conformance.table import Server
from tests.stack import Stack, alive, prepared, wait_until

VARIANTS: dict[str, dict[str, str]] = {
    "any-origin": {"OLLAMA_ORIGINS": "*"},
    "more-origins": {"OLLAMA_ORIGINS": "https://a.example,chrome-extension://*"},
}
CPU_VARIABLES = {"OLLAMA_KEEP_ALIVE": "7m", "OLLAMA_CONTEXT_LENGTH": "1024"}
RESIDENT_BYTES = 13 * 16 * 2**20
"""Room for 13 models and the next: the NPU's address space has room for 16."""
WEIGHTS_NAME = "tiny-rk3588-w8a8.rkllm"


class Board:
    """A broker, a store, a worker with the emulator and the scripted models, and a sound gateway."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.url


@contextlib.contextmanager
def board(folder: Path) -> Iterator[Board]:
    """The system that most rows need."""
    with hub() as hub_url:
        limit = str(RESIDENT_BYTES)
        with emulated(
            folder, "abi-1.3.0", HF_ENDPOINT=hub_url, RKLLAMA_WORKER_MEMORY_LIMIT_BYTES=limit
        ) as stack:
            models.create_all(stack.url, folder / "sources")
            yield Board(stack)


class Gateways:
    """Gateways of a board, started when they are asked for."""

    def __init__(
        self,
        sound: Board,
        folder: Path,
        *,
        bundled: Path | None = None,
        source: Path | None = None,
        preloaded: Preloaded | None = None,
    ) -> None:
        """`bundled` is for rows on the CPU; `source` is a package to run, by `preloaded`."""
        self._board = sound
        self._folder = folder
        self._bundled = bundled
        self._source = source
        self._preloaded = preloaded
        self._running = ExitStack()
        self._urls: dict[Server, str] = {}
        if source is None:
            self._urls["emulated"] = sound.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def url(self, server: Server) -> str:
        """Of the gateway to test."""
        if server not in self._urls:
            self._urls[server] = self._running.enter_context(self._started(server))
        return self._urls[server]

    def sound_url(self, server: Server) -> str:
        """Of one that can be relied on."""
        return self.url(server) if server == "cpu" else self._board.url

    @contextlib.contextmanager
    def _started(self, server: Server) -> Iterator[str]:
        if server == "cpu":
            assert self._bundled is not None, "rows on the CPU runtime need the bundled model"
            folder = prepared(self._bundled, self._folder / "cpu")
            with Stack(folder, env=CPU_VARIABLES) as stack:
                yield stack.url
            return
        variables = gateway_variables(self._board.stack) | VARIANTS.get(server, {})
        log = self._folder / f"gateway-{server}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._source is None:
            starting = _gateway(log, variables)
        else:
            assert self._preloaded is not None
            starting = _broken_gateway(self._preloaded, self._source, log, variables)
        with starting as url:
            yield url


def gateway_variables(stack: Stack) -> dict[str, str]:
    """The environment of one more gateway on a stack's broker."""
    return {
        **os.environ,
        "RKLLAMA_NATS_URL": stack.broker.url,
        "RKLLAMA_NATS_CREDENTIALS_FILE": str(stack.broker.users / "gateway.json"),
        "RKLLAMA_DATA": str(stack.folder),
        "RKLLAMA_GATEWAY_PORT": "0",
    }


@contextlib.contextmanager
def _gateway(log: Path, variables: dict[str, str]) -> Iterator[str]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command([sys.executable, "-m", "rkllama_gateway"], signum=signal.SIGKILL),
            env=variables,
            stderr=out,
            stdout=out,
        )
    try:
        yield _address(log, process.pid)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _broken_gateway(
    preloaded: Preloaded, source: Path, log: Path, variables: dict[str, str]
) -> Iterator[str]:
    pid = preloaded.start(source, log, variables)
    try:
        yield _address(log, pid)
    finally:
        preloaded.stop(pid)


def _address(log: Path, pid: int) -> str:
    def listens() -> bool:
        text = log.read_text() if log.exists() else ""
        assert alive(pid), text
        return '"urls":"' in text

    wait_until("the gateway's address", listens)
    return log.read_text().split('"urls":"')[1].split('"')[0]


@contextlib.contextmanager
def hub() -> Iterator[str]:
    """A Hugging Face hub on loopback with one repository, `acme/tiny`; its address."""
    serving: Any = importlib.import_module("services.model-store.tests.hub_server")
    server = serving.HubServer()
    files = models.MODELS["plain"]
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server.serving():
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    repo = server.repo("acme/tiny")
    for name, data in _published(files).items():
        repo.add(name, data, lfs=name.endswith(".rkllm"))
    thread.start()
    try:
        assert ready.wait(30)
        yield server.url
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def _published(model: models.Model) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        files = model.files(Path(folder))
    files[WEIGHTS_NAME] = files.pop("model.rkllm")
    return files
