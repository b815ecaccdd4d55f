"""Inside an engine process, one thread owns the loaded model.

A runtime blocks for seconds, so the thread that reads frames never touches it but to abort:

      reading thread                      run thread (`serve`)
    load, run ------- queue ----------->  load, then runs, one after another
    abort ----> run.aborted                 looks at it before it begins, and at every emission
      `----> aborting thread                runtime.generate
               runtime.abort, again and       |  once per emission
               again until the run is over    v
                                           CHUNK ... ENDED
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from rkllama_protocol.codec import Chunk, decode, encode_chunk
from rkllama_protocol.errors import RkllamaError, RuntimeFailedError, UnsupportedError
from rkllama_protocol.messages import Fault, Job

from rkllama_worker.engine import model_files
from rkllama_worker.engine.answer import Answer, Durations
from rkllama_worker.engine.channel import Channel
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.output import Output
from rkllama_worker.engine.pooling import Pooling, read_pooling
from rkllama_worker.engine.prompt import PromptBuilder
from rkllama_worker.engine.runtime.base import GenerateRequest, RunStats, Runtime
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp
from rkllama_worker.engine.runtime.rkllm import Rkllm
from rkllama_worker.engine.wire import EngineMessage, EngineReady, Kind, LoadSpec, RunEnded

log = logging.getLogger(__name__)

ABORT_RETRY_S = 0.02
LEAST_CONTEXT_TOKENS = 4


@dataclass(eq=False, slots=True)
class _Run:
    number: int
    job: bytes
    aborted: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    begun_ns: int = 0
    first_ns: int = 0

    def durations(self) -> Durations:
        now = perf_counter_ns()
        first = self.first_ns or now
        return Durations(prefill_ns=first - self.begun_ns, decode_ns=now - first)


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    files: ModelFiles
    runtime: Runtime
    prompts: PromptBuilder
    pooling: Pooling


class Engine:
    """One model, and the runs on it. `load`, `run` and `abort` return at once; `serve` does the work."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._spec: queue.SimpleQueue[LoadSpec] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[_Run] = queue.SimpleQueue()
        self._runs: dict[int, _Run] = {}
        """Every run that is not over."""
        self._running: tuple[_Run, Runtime] | None = None
        self._lock = threading.Lock()
        """Held to change `_running` and while aborting it, so that no abort hits the next run."""
        self._doubted = False
        """Whether it has been told that the tokenizer is not the model's."""

    def load(self, spec: LoadSpec) -> None:
        """Load the model; READY or FAILED follows."""
        self._spec.put(spec)

    def run(self, number: int, job: bytes) -> None:
        """Run an encoded `Job` when those before it are over; chunks and ENDED follow."""
        run = _Run(number, job)
        self._runs[number] = run
        self._waiting.put(run)

    def abort(self, number: int) -> None:
        """End a run, begun or not; harmless if it is over."""
        run = self._runs.get(number)
        if run is None or run.aborted.is_set():
            return
        run.aborted.set()
        threading.Thread(target=self._abort_until_over, args=(run,), daemon=True).start()

    def serve(self) -> None:
        """Load the model, then do the runs, for ever; returns if the model does not load.

        Raises:
            ClosedError: The worker is gone.
        """
        spec = self._spec.get()
        started_ns = perf_counter_ns()
        try:
            model = _load(spec)
        except RkllamaError as error:
            log.warning("model failed to load", extra={"model": spec.name, "reason": str(error)})
            self._send(Kind.FAILED, 0, Fault(code=error.code, message=error.message))
            return
        ready = EngineReady(
            load_ns=perf_counter_ns() - started_ns,
            context_length=model.runtime.context_length,
            memory_bytes=_resident_bytes() + model.runtime.accelerator_bytes,
            accelerator_bytes=model.runtime.accelerator_bytes,
        )
        self._send(Kind.READY, 0, ready)
        while True:
            run = self._waiting.get()
            ended = self._execute(run, model)
            run.over.set()
            del self._runs[run.number]
            self._send(Kind.ENDED, run.number, ended)

    def _execute(self, run: _Run, model: _Model) -> RunEnded:
        if run.aborted.is_set():
            return RunEnded(last_seq=-1, aborted=True)
        try:
            job = decode(Job, run.job)
            if job.kind == "load":
                self._send_chunk(run, Chunk(seq=0, finish="load"))
                return RunEnded(last_seq=0)
            if job.kind == "embed":
                return self._embed(run, model, job)
            prompt = model.prompts.build(job)
        except RkllamaError as error:
            chunk = Chunk(seq=0, error_code=error.code, error_message=error.message)
            self._send_chunk(run, chunk)
            return RunEnded(last_seq=0)
        answer = Answer(job, prompt, model.files)
        return self._generate(run, model, job, answer, prompt.ids)

    def _embed(self, run: _Run, model: _Model, job: Job) -> RunEnded:
        """A chunk for each text, then the terminal one."""
        seq, tokens = 0, 0
        run.begun_ns = perf_counter_ns()
        self._set_running((run, model.runtime))
        try:
            for text in job.inputs:
                ids = model.prompts.embed(text, truncate=job.truncate)
                rows = model.runtime.embed(ids, last_only=model.pooling.last_only)
                if run.aborted.is_set():
                    break
                vector = model.pooling.pool(rows)
                self._send_chunk(run, Chunk(seq=seq, prompt_tokens=len(ids), vector=vector))
                seq, tokens = seq + 1, tokens + len(ids)
            last = Chunk(seq=seq, finish="stop")
        except RkllamaError as error:
            last = Chunk(seq=seq, error_code=error.code, error_message=error.message)
        finally:
            self._set_running(None)
        prefill_ns = perf_counter_ns() - run.begun_ns
        aborted = run.aborted.is_set()
        if not aborted:
            self._send_chunk(run, last)
        return RunEnded(
            last_seq=-1 if aborted else seq,
            aborted=aborted,
            prompt_tokens=tokens,
            prefill_ns=prefill_ns,
        )

    def _generate(
        self, run: _Run, model: _Model, job: Job, answer: Answer, prompt: Sequence[int]
    ) -> RunEnded:
        room = model.runtime.usable_tokens - len(prompt)
        ignored = model.runtime.ignored(job.sampling) & set(job.asked_options)
        answer.ignored_options = tuple(sorted(ignored))
        request = GenerateRequest(
            sampling=job.sampling,
            max_tokens=min(job.num_predict, room) if job.num_predict > 0 else room,
        )

        def emit(ids: Sequence[int]) -> bool:
            run.first_ns = run.first_ns or perf_counter_ns()
            if run.aborted.is_set():
                return False
            if (chunk := answer.take(ids, run.durations())) is not None:
                self._send_chunk(run, chunk)
            return not answer.ended

        failure: RkllamaError | None = None
        stats = RunStats(reused_tokens=0, finish="aborted")
        run.begun_ns = perf_counter_ns()
        self._set_running((run, model.runtime))
        try:
            stats = model.runtime.generate(prompt, request, emit)
        except RkllamaError as error:
            failure = error
        finally:
            self._set_running(None)
        if (
            failure is None
            and stats.finish == "aborted"
            and not answer.ended
            and not run.aborted.is_set()
        ):
            failure = RuntimeFailedError("the runtime ended the run unasked")
        durations = run.durations().measured(stats)
        aborted = run.aborted.is_set() and stats.finish == "aborted" and not answer.ended
        if not aborted:
            terminal = (
                answer.fail(failure, durations)
                if failure
                else answer.finish(stats.finish, durations)
            )
            self._send_chunk(run, terminal)
            if failure is None:
                self._cross_check(model, answer, stats)
        return RunEnded(
            last_seq=-1 if aborted else answer.seq - 1,
            aborted=aborted,
            prompt_tokens=len(prompt),
            reused_tokens=stats.reused_tokens,
            generated_tokens=len(answer.ids),
            prefill_ns=durations.prefill_ns,
            decode_ns=durations.decode_ns,
        )

    def _cross_check(self, model: _Model, answer: Answer, stats: RunStats) -> None:
        """Tell once of a model whose tokenizer is not the one inside its weights."""
        if self._doubted or stats.text is None or answer.agrees_with(stats.text):
            return
        self._doubted = True
        log.warning("tokenizer disagrees with the runtime's text", extra={"model": model.name})

    def _set_running(self, running: tuple[_Run, Runtime] | None) -> None:
        with self._lock:
            self._running = running

    def _abort_until_over(self, run: _Run) -> None:
        # An abort that lands before the runtime has begun is lost: send it until it works.
        while True:
            with self._lock:
                if self._running is not None and self._running[0] is run:
                    self._running[1].abort()
            if run.over.wait(ABORT_RETRY_S):
                return

    def _send_chunk(self, run: _Run, chunk: Chunk) -> None:
        self._channel.send(Kind.CHUNK, run.number, encode_chunk(chunk))

    def _send(self, kind: Kind, number: int, message: EngineMessage | Fault) -> None:
        self._channel.send(kind, number, message.model_dump_json().encode())


def _load(spec: LoadSpec) -> _Model:
    files = model_files.read(spec.files, template=spec.template)
    pooling = read_pooling(spec.files)
    runtime = _open_runtime(spec)
    prompts = PromptBuilder(files, context_length=runtime.usable_tokens)
    return _Model(spec.name, files, runtime, prompts, pooling)


def _open_runtime(spec: LoadSpec) -> Runtime:
    num_ctx = None if spec.num_ctx is None else max(LEAST_CONTEXT_TOKENS, spec.num_ctx)
    match spec.model_format:
        case "gguf":
            return LlamaCpp(Path(spec.weights), num_ctx=num_ctx)
        case "rkllm" if spec.rkllm is not None:
            return Rkllm(
                Path(spec.weights),
                spec=spec.rkllm,
                num_ctx=num_ctx,
                sampling=spec.sampling,
                output=Output(),
            )
        case other:
            raise UnsupportedError(f"no runtime of this build runs models of format {other!r}")


def _resident_bytes() -> int:
    """Memory of this process that is in RAM, weights mapped from a file included (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
