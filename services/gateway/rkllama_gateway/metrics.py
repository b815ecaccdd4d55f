"""What the gateway counts. Labels are bounded: model names come from the store, never from a client."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from rkllama_protocol.codec import Chunk

from rkllama_gateway.job import HeldJob
from rkllama_gateway.recent import noted

# OpenTelemetry's GenAI boundaries, extended for boards that take longer.
TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
DURATION_BUCKETS_S = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
)  # fmt: skip


class Metrics:
    """One registry, so that a test may have several gateways in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the accepted request to its first chunk.",
            ["model"],
            buckets=TTFT_BUCKETS_S,
            registry=self.registry,
        )
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the accepted request to its last byte.",
            ["model"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._requests = Counter(
            "rkllama_requests",
            "Requests that ended, by how.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "rkllama_tokens",
            "Tokens read (input), of them not computed again (reused), and made (output).",
            ["model", "type"],
            registry=self.registry,
        )

        self._migrations = Counter(
            "rkllama_migrations",
            "Attempts that ended without their answer, by why.",
            ["model", "reason"],
            registry=self.registry,
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when it is scraped."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def note_chunk(self, held: HeldJob, chunk: Chunk, elapsed_s: float) -> None:
        """Count a chunk."""
        model = held.job.model.name
        if chunk.seq == 0:
            self._ttft.labels(model).observe(elapsed_s)
        if chunk.prompt_tokens and not held.job.render_only:
            self._tokens.labels(model, "input").inc(chunk.prompt_tokens)
        if chunk.reused_tokens:
            self._tokens.labels(model, "reused").inc(chunk.reused_tokens)
        if chunk.ids:
            self._tokens.labels(model, "output").inc(len(chunk.ids))
        if (note := noted()) is not None:
            note.add(chunk, elapsed_s)

    def note_end(self, held: HeldJob, outcome: str, elapsed_s: float) -> None:
        """Count an answer that is over."""
        model = held.job.model.name
        self._duration.labels(model).observe(elapsed_s)
        self._requests.labels(model, outcome).inc()
        for loss in held.losses:
            self._migrations.labels(model, loss.value).inc()
        if (note := noted()) is not None:
            note.model, note.job_id = model, held.job_id
            note.outcome, note.attempt = outcome, held.attempt
