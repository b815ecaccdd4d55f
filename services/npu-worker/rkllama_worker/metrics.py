"""What the worker counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

if TYPE_CHECKING:
    from rkllama_worker.run import Run

LOAD_BUCKETS_S = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One registry, so that a test may have several workers in a process."""

    def __init__(self, worker_id: str) -> None:
        self.registry = CollectorRegistry()
        self._worker_id = worker_id
        self._runs = Counter(
            "rkllama_worker_runs",
            "Attempts of jobs that ended on this board, by how.",
            ["worker_id", "outcome"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "rkllama_worker_tokens",
            "Tokens this board computed: input, output, and input it could reuse.",
            ["worker_id", "type"],
            registry=self.registry,
        )
        self._load = Histogram(
            "rkllama_worker_model_load_seconds",
            "Time to load a model.",
            ["worker_id"],
            buckets=LOAD_BUCKETS_S,
            registry=self.registry,
        )

        fetched = Counter(
            "rkllama_worker_fetched_bytes",
            "Bytes of models that came from the store.",
            ["worker_id"],
            registry=self.registry,
        )
        self._fetched = fetched.labels(worker_id)

    def fetched(self, size_bytes: int) -> None:
        """Count bytes that came from the store."""
        self._fetched.inc(size_bytes)

    def note(self, run: Run) -> None:
        """Count a run that is over."""
        if run.failure is not None:
            outcome = run.failure.code
        elif run.ended is None or run.ended.aborted:
            outcome = "aborted"
        else:
            outcome = "finished"
        self._runs.labels(self._worker_id, outcome).inc()
        if run.load_s is not None:
            self._load.labels(self._worker_id).observe(run.load_s)
        if run.ended is not None:
            computed = run.ended.prompt_tokens - run.ended.reused_tokens
            self._tokens.labels(self._worker_id, "input").inc(max(0, computed))
            self._tokens.labels(self._worker_id, "reused").inc(run.ended.reused_tokens)
            self._tokens.labels(self._worker_id, "output").inc(run.ended.generated_tokens)
