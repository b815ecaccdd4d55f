"""What the gateway counts. Labels are bounded: model names come from the store, never from a client.

What the store does not know, or has deleted, is `_unknown`. Chunks cost an addition each; the
counters hear of them once a second and at the answer's end.
"""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Histogram
from rkllama_policy.affinity import Affinity
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    BY_CODE,
    CancelledError,
    ExpiredError,
    OverloadedError,
    RkllamaError,
)
from rkllama_service.metrics import LATENCY_BUCKETS_S

from rkllama_gateway.dialects.failing import STATUS
from rkllama_gateway.job import HeldJob
from rkllama_gateway.recent import noted

# OpenTelemetry's GenAI boundaries, extended for boards that take longer.
TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
TPOT_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0,
)  # fmt: skip
DURATION_BUCKETS_S = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
)  # fmt: skip

UNKNOWN = "_unknown"
"""The model of a request that named none of the store's; names have a tag, so this is none."""
REASONS = ("queue_full", "deadline", "payload", "memory", "auth", "rate")
"""Why requests are turned away before they are jobs."""
TELL_S = 1.0
"""How often a long answer's tokens are counted."""
NANO = 1e-9

_OUTCOMES = {
    "": "ok",
    CancelledError.code: "client_cancel",
    OverloadedError.code: "shed",
    ExpiredError.code: "deadline",
}
_REFUSED_BY_REASON = {OverloadedError.code: "queue_full", ExpiredError.code: "deadline"}
_SERVER_ERROR = 500


def outcome(code: str) -> str:
    """How a request ended, by the code of its failure, which is empty if there was none."""
    if code in _OUTCOMES:
        return _OUTCOMES[code]
    return "refused" if STATUS.get(code, _SERVER_ERROR) < _SERVER_ERROR else "error"


class Metrics:
    """One registry, so that a test may have several gateways in a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.models: set[str] = set()
        """The labels that are in use."""
        self._deleted: set[str] = set()
        self.ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the accepted request to its first chunk.",
            ["model", "class"],
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self.tpot = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "From the first chunk to the last, for each token after the first.",
            ["model"],
            buckets=TPOT_BUCKETS_S,
            registry=registry,
        )
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the accepted request to its last byte; of failures, by their code.",
            ["model", "error_type"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._queue_wait = Histogram(
            "rkllama_queue_wait_seconds",
            "From the accepted request to the first board that took it.",
            ["model", "class"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.prefill = Histogram(
            "rkllama_prefill_seconds",
            "Time that boards took to read a request's prompt.",
            ["model"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.requests = Counter(
            "rkllama_requests",
            "Requests that ended, by how.",
            ["model", "outcome"],
            registry=registry,
        )
        self._rejected = Counter(
            "rkllama_rejected",
            "Requests that were turned away at the door, by why.",
            ["reason"],
            registry=registry,
        )
        self.tokens = Counter(
            "rkllama_tokens",
            "Tokens read (input), of them not computed again (reused), and made (output).",
            ["model", "type"],
            registry=registry,
        )
        self._affinity = Counter(
            "rkllama_affinity",
            "Conversations by whether they went to the board that holds most of them.",
            ["model", "result"],
            registry=registry,
        )
        self._migrations = Counter(
            "rkllama_migrations",
            "Attempts that ended without their answer: when, why, and whether it went on.",
            ["model", "phase", "reason", "result"],
            registry=registry,
        )
        self.npu = Counter(
            "rkllama_npu_seconds",
            "Prefill and decode time of requests, by the name of their key.",
            ["key", "class"],
            registry=registry,
        )
        self._by_model = (
            self.ttft, self.tpot, self.duration, self._queue_wait, self.prefill, self.requests,
            self.tokens, self._affinity, self._migrations,
        )  # fmt: skip
        for reason in REASONS:
            self._rejected.labels(reason)
        self.requests.labels(UNKNOWN, "refused")

    # ------------------------------------------------------------------ labels

    def label(self, model: str) -> str:
        """The label of a model's name."""
        return UNKNOWN if model in self._deleted else model

    def accepted(self, model: str) -> None:
        """The store knew the model just now."""
        self._deleted.discard(model)
        self.models.add(model)

    def forget(self, models: Collection[str]) -> None:
        """Let the series of models go that are deleted."""
        for metric in self._by_model:
            for model in models:
                metric.remove_by_labels({"model": model})
        self.models.difference_update(models)
        # What still runs is counted, but not under a name that nobody would forget again.
        self._deleted.update(models)

    # ------------------------------------------------------------------ events

    def rejected(self, reason: str) -> None:
        """A request was turned away; `reason` is one of `REASONS`."""
        self._rejected.labels(reason).inc()

    def unknown_model(self) -> None:
        """A request named a model that the store does not have."""
        self.requests.labels(UNKNOWN, "refused").inc()

    def not_admitted(self, model: str, error: OverloadedError | ExpiredError) -> None:
        """A request for a model was not taken in."""
        self.requests.labels(self.label(model), outcome(error.code)).inc()
        self.rejected(_REFUSED_BY_REASON[error.code])

    def granted(self, held: HeldJob, waited_s: float, affinity: Affinity | None) -> None:
        """A board got a job's first attempt; `affinity` is None of what is no conversation."""
        model = self.label(held.job.model.name)
        self._queue_wait.labels(model, held.job_class.value).observe(waited_s)
        if affinity is not None:
            self._affinity.labels(model, affinity.value).inc()

    def lost(self, held: HeldJob) -> None:
        """The job's last attempt ended without its answer."""
        self._migrations.labels(
            self.label(held.job.model.name),
            "mid_stream" if held.begun_to_answer else "before_first",
            held.losses[-1].value,
            "given_up" if held.ended else "continued",
        ).inc()


class AnswerFigures:
    """What one answer adds up to."""

    def __init__(self, metrics: Metrics, held: HeldJob) -> None:
        self._metrics = metrics
        self._held = held
        self._class = held.job_class.value
        self._generates = held.job.generates
        self._first_s = 0.0
        self._last_s = 0.0
        self._told_s = 0.0
        self._made = 0
        self._untold = {"input": 0, "reused": 0, "output": 0}
        self._failed = ""
        self._npu_ns = (0, 0)

    def add(self, chunk: Chunk, elapsed_s: float) -> None:
        """Count a chunk that is passed on so many seconds after the request was accepted."""
        untold = self._untold
        if chunk.seq == 0:
            self._first_s = elapsed_s
            self._note_first()
        if chunk.ids:
            self._made += len(chunk.ids)
            self._last_s = elapsed_s
            untold["output"] += len(chunk.ids)
        if chunk.prompt_tokens and not self._held.job.render_only:
            untold["input"] += chunk.prompt_tokens
        untold["reused"] += chunk.reused_tokens
        if chunk.prefill_ns or chunk.decode_ns:
            self._npu_ns = (chunk.prefill_ns, chunk.decode_ns)
        self._failed = chunk.error_code
        if elapsed_s - self._told_s >= TELL_S:
            self._told_s = elapsed_s
            self._tell()
        if (note := noted()) is not None:
            note.add(chunk, elapsed_s)

    def end(self, error: str, elapsed_s: float) -> None:
        """The answer is over; `error` is the code of its failure where no chunk said it, or empty."""
        self._tell()
        error = self._failed or error
        held, metrics = self._held, self._metrics
        model = metrics.label(held.job.model.name)
        # Codes are ours; one from a newer board is no reason for a new series.
        error_type = error if error in BY_CODE or not error else RkllamaError.code
        metrics.duration.labels(model, error_type).observe(elapsed_s)
        metrics.requests.labels(model, outcome(error)).inc()
        if self._generates and self._made > 1:
            metrics.tpot.labels(model).observe((self._last_s - self._first_s) / (self._made - 1))
        prefill_ns, decode_ns = self._npu_ns
        if prefill_ns:
            metrics.prefill.labels(model).observe(prefill_ns * NANO)
        metrics.npu.labels(held.key or "", self._class).inc((prefill_ns + decode_ns) * NANO)
        if (note := noted()) is not None:
            note.model, note.job_id = held.job.model.name, held.job_id
            note.outcome, note.attempt = outcome(error), held.attempt

    def _note_first(self) -> None:
        if self._generates:
            model = self._metrics.label(self._held.job.model.name)
            self._metrics.ttft.labels(model, self._class).observe(self._first_s)

    def _tell(self) -> None:
        model = self._metrics.label(self._held.job.model.name)
        for kind, count in self._untold.items():
            if count:
                self._metrics.tokens.labels(model, kind).inc(count)
                self._untold[kind] = 0
