"""One engine process, seen from the worker: started, loaded, run, aborted, and surely ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from rkllama_protocol.errors import EngineDiedError, RuntimeFailedError, from_wire
from rkllama_protocol.messages import Fault

from rkllama_worker.engine.wire import (
    HEAD_BYTES,
    BrokenStreamError,
    EngineReady,
    Frame,
    Kind,
    LoadSpec,
    RunEnded,
    Saving,
    pack,
    unpack_head,
)

log = logging.getLogger(__name__)

LAST_WORDS = 20
"""Lines of an engine's output that explain its death."""
LAST_WORDS_BYTES = 4096


class EngineProcess:
    """An engine with one model loaded. Made by `start`; ended by `close`, which never fails.

    One run at a time. The process dies with its worker: the kernel tells it (parent-death signal),
    and the end of the socket does.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: int,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._output = output
        self._model = ""
        self._run = 0
        self.ready: EngineReady

    @classmethod
    async def start(
        cls, spec: LoadSpec, *, timeout_s: float, inherited_fds: Sequence[int] = ()
    ) -> Self:
        """Start a process and load the model. It inherits `inherited_fds`, locks among them.

        Raises:
            RkllamaError: What the engine failed with, or how it ended, or that it took too long.
        """
        ours, theirs = socket.socketpair()
        # A file, not a pipe: what a library printed just before it crashed is never lost.
        output = os.memfd_create("engine output")
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "rkllama_worker.engine",
                "--fd",
                str(theirs.fileno()),
                "--parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(), *inherited_fds),
                # A Ctrl-C in the terminal is for the worker, which then ends its engines.
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        engine = cls(process, reader, writer, output)
        try:
            async with asyncio.timeout(timeout_s):
                engine.ready = await engine._load(spec)
        except TimeoutError as error:
            await engine.close()
            raise RuntimeFailedError(f"the model was not loaded within {timeout_s:g} s") from error
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.returncode is None

    async def run(
        self,
        job: bytes,
        on_chunk: Callable[[bytes], Awaitable[None]],
        on_last: Callable[[bytes], Awaitable[None]],
        *,
        saving: Saving | None = None,
    ) -> RunEnded:
        """Run an encoded `Job`; returns when it is joined.

        `on_chunk` gets each encoded chunk, in order, and `on_last` the terminal one. While a chunk is
        awaited, the engine gathers the next one.

        Raises:
            EngineDiedError: The process died, or spoke nonsense.
        """
        self._run += 1
        if saving is not None:
            await self._send(Kind.SAVING, self._run, saving.model_dump_json().encode())
        await self._send(Kind.RUN, self._run, job)
        while True:
            frame = await self._receive()
            if frame.run != self._run:
                continue
            if frame.kind is Kind.CHUNK:
                await on_chunk(frame.payload)
                self._tell(Kind.MORE)
            elif frame.kind is Kind.LAST_CHUNK:
                await on_last(frame.payload)
            elif frame.kind is Kind.ENDED:
                return RunEnded.model_validate_json(frame.payload)

    def abort(self) -> None:
        """Ask the run under way to end; harmless if there is none."""
        self._tell(Kind.ABORT)

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """End the process and wait until it has ended, so that its memory is free."""
        self._writer.close()
        self.kill()
        await self._process.wait()
        self._close_output()

    def _tell(self, kind: Kind) -> None:
        if not self._writer.is_closing():
            self._writer.write(pack(kind, self._run))

    async def _load(self, spec: LoadSpec) -> EngineReady:
        self._model = spec.name
        await self._send(Kind.LOAD, 0, spec.model_dump_json().encode())
        frame = await self._receive()
        if frame.kind is Kind.READY:
            return EngineReady.model_validate_json(frame.payload)
        if frame.kind is Kind.FAILED:
            fault = Fault.model_validate_json(frame.payload)
            raise from_wire(fault.code, fault.message)
        raise RuntimeFailedError(f"the engine answered {frame.kind.name} to a load")

    async def _send(self, kind: Kind, run: int, payload: bytes) -> None:
        try:
            self._writer.write(pack(kind, run, payload))
            await self._writer.drain()
        except OSError as error:
            raise await self._death() from error

    async def _receive(self) -> Frame:
        try:
            length, kind, run = unpack_head(await self._reader.readexactly(HEAD_BYTES))
            return Frame(kind, run, await self._reader.readexactly(length))
        except (OSError, EOFError, BrokenStreamError) as error:
            raise await self._death() from error

    async def _death(self) -> EngineDiedError:
        """How the process ended; it is ended first if it still lives, since nothing can be asked of it."""
        self.kill()
        code = await self._process.wait()
        words = self._last_words()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        log.error(
            "engine died",
            extra={"model": self._model, "pid": self.pid, "how": how, "output": words},
        )
        return EngineDiedError(f"the engine process ended unexpectedly ({how})")

    def _last_words(self) -> list[str]:
        """The end of what the process printed: vendor libraries print what they do not return."""
        if self._output < 0:
            return []
        size = os.fstat(self._output).st_size
        start = max(0, size - LAST_WORDS_BYTES)
        text = os.pread(self._output, LAST_WORDS_BYTES, start).decode(errors="replace")
        return text.splitlines()[-LAST_WORDS:]

    def _close_output(self) -> None:
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
