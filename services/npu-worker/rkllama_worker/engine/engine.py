"""Inside an engine process, one thread owns the loaded model.

A runtime blocks for seconds, so the thread that reads frames never touches it but to abort; and a model
waits while it is told of a token, so chunks are made on a thread of their own (`window.py`):

      reading thread                      run thread (`serve`)
    load, run ------- queue ----------->  load, then runs, one after another
    abort ----> run.aborted                 looks at it before it begins, and at every emission
      `----> aborting thread                runtime.generate
               runtime.abort, again and       |  once per emission
               again until the run is over    v
    more ----> window <------------------- window ---> telling thread: CHUNK
                                           LAST_CHUNK, ENDED
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

from rkllama_protocol.codec import Chunk, encode_chunk
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Fault

from rkllama_worker.engine.channel import Channel
from rkllama_worker.engine.loaded_model import load
from rkllama_worker.engine.run_state import Run
from rkllama_worker.engine.running import Runner
from rkllama_worker.engine.runtime.base import Runtime
from rkllama_worker.engine.wire import EngineMessage, EngineReady, Kind, LoadSpec, Saving

log = logging.getLogger(__name__)

ABORT_RETRY_S = 0.02


class Engine:
    """One model, and the runs on it. `serve` does the work; all else returns at once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._spec: queue.SimpleQueue[LoadSpec] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._runs: dict[int, Run] = {}
        """Every run that is not over."""
        self._saving: dict[int, Saving] = {}
        self._running: tuple[Run, Runtime] | None = None
        self._lock = threading.Lock()
        """Held to change `_running` and while aborting it, so that no abort hits the next run."""

    def load(self, spec: LoadSpec) -> None:
        """Load the model; READY or FAILED follows."""
        self._spec.put(spec)

    def saving(self, number: int, saving: Saving) -> None:
        """What the run of that number, which follows, does with files."""
        self._saving[number] = saving

    def run(self, number: int, job: bytes) -> None:
        """Run an encoded `Job` when those before it are over; chunks and ENDED follow."""
        run = Run(number, job, self._saving.pop(number, Saving()))
        self._runs[number] = run
        self._waiting.put(run)

    def abort(self, number: int) -> None:
        """End a run, begun or not; harmless if it is over."""
        run = self._runs.get(number)
        if run is None or run.aborted.is_set():
            return
        run.aborted.set()
        threading.Thread(target=self._abort_until_over, args=(run,), daemon=True).start()

    def more(self, number: int) -> None:
        """The worker waits for the next chunk of a run; harmless if it is over."""
        if (run := self._runs.get(number)) is not None:
            run.window.wanted()

    def serve(self) -> None:
        """Load the model, then do the runs, for ever; returns if the model does not load.

        Raises:
            ClosedError: The worker is gone.
        """
        spec = self._spec.get()
        started_ns = perf_counter_ns()
        try:
            model = load(spec)
        except RkllamaError as error:
            log.warning("model failed to load", extra={"model": spec.name, "reason": str(error)})
            self._send(Kind.FAILED, 0, Fault(code=error.code, message=error.message))
            return
        ready = EngineReady(
            load_ns=perf_counter_ns() - started_ns,
            context_length=model.runtime.context_length,
            context_limit=model.runtime.context_limit,
            memory_bytes=_resident_bytes() + model.runtime.accelerator_bytes,
            accelerator_bytes=model.runtime.accelerator_bytes,
            saves_as=model.runtime.saves_as,
        )
        self._send(Kind.READY, 0, ready)

        @contextmanager
        def abortable(run: Run) -> Iterator[None]:
            self._set_running((run, model.runtime))
            try:
                yield
            finally:
                self._set_running(None)

        runner = Runner(model, send=self._send_chunk, abortable=abortable)
        while True:
            run = self._waiting.get()
            ended = runner.execute(run)
            run.over.set()
            del self._runs[run.number]
            self._send(Kind.ENDED, run.number, ended)

    def _set_running(self, running: tuple[Run, Runtime] | None) -> None:
        with self._lock:
            self._running = running

    def _abort_until_over(self, run: Run) -> None:
        # An abort that lands before the runtime has begun is lost: send it until it works.
        while True:
            with self._lock:
                if self._running is not None and self._running[0] is run:
                    self._running[1].abort()
            if run.over.wait(ABORT_RETRY_S):
                return

    def _send_chunk(self, run: Run, chunk: Chunk) -> None:
        kind = Kind.LAST_CHUNK if chunk.terminal else Kind.CHUNK
        self._channel.send(kind, run.number, encode_chunk(chunk))

    def _send(self, kind: Kind, number: int, message: EngineMessage | Fault) -> None:
        self._channel.send(kind, number, message.model_dump_json().encode())


def _resident_bytes() -> int:
    """Memory of this process that is in RAM, weights mapped from a file included (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
