"""What the gateway is at the moment when it is scraped."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from time import monotonic

from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.subjects import JobClass
from rkllama_service.metrics import add_gauge, add_rows

from rkllama_gateway.admission import Admission
from rkllama_gateway.boards import Boards
from rkllama_gateway.catalog import Catalog
from rkllama_gateway.job import HeldJob
from rkllama_gateway.jobs import Jobs
from rkllama_gateway.metrics import Metrics

Lane = tuple[str, str]
"""Labels of a model and a class."""


class QueueGauges:
    """The queue by model and class. An empty one of a model in use says zero."""

    def __init__(self, metrics: Metrics, jobs: Jobs, admission: Admission) -> None:
        self._metrics = metrics
        self._jobs = jobs
        self._admission = admission

    def depth(self) -> Iterable[tuple[Lane, float]]:
        """Requests that wait."""
        lanes = self._lanes()
        for held in self._waiting():
            lanes[self._lane(held)] += 1
        return lanes.items()

    def oldest_age_s(self) -> Iterable[tuple[Lane, float]]:
        """Seconds that the oldest of them has waited."""
        lanes, now = self._lanes(), monotonic()
        for held in self._waiting():
            lane = self._lane(held)
            lanes[lane] = max(lanes[lane], held.age_s(now))
        return lanes.items()

    def predicted_wait_s(self) -> Iterable[tuple[Lane, float]]:
        """Seconds to the first token of the last of them."""
        lanes = self._lanes()
        for row in self._admission.queues(self._jobs.held()):
            lane = self._metrics.label(row.name), row.job_class.value
            lanes[lane] = math.inf if row.wait_s is None else row.wait_s
        return lanes.items()

    def _lanes(self) -> dict[Lane, float]:
        models = self._metrics.models
        lanes = {(model, each.value): 0.0 for model in models for each in JobClass}
        return defaultdict(float, lanes)

    def _lane(self, held: HeldJob) -> Lane:
        return self._metrics.label(held.job.model.name), held.job_class.value

    def _waiting(self) -> Iterator[HeldJob]:
        return (held for held in self._jobs.held() if held.state is JobState.WAITING)


def add_gauges(
    metrics: Metrics, *, jobs: Jobs, admission: Admission, boards: Boards, catalog: Catalog
) -> None:
    """Add every gauge to the registry of `metrics`."""
    registry = metrics.registry
    queue = QueueGauges(metrics, jobs, admission)
    lane = ("model", "class")
    add_rows(registry, "rkllama_queue_depth", "Requests that wait.", lane, queue.depth)
    add_rows(
        registry,
        "rkllama_queue_oldest_age_seconds",
        "How long the oldest request that waits has waited.",
        lane,
        queue.oldest_age_s,
    )
    add_rows(
        registry,
        "rkllama_queue_predicted_wait_seconds",
        "Predicted time to the first token of the last that waits; infinite if no board can run it.",
        lane,
        queue.predicted_wait_s,
    )
    add_gauge(
        registry, "rkllama_requests_running", "Requests that a board has.", lambda: running(jobs)
    )
    add_gauge(
        registry,
        "rkllama_gateways_ready",
        "Gateways that take requests, this one included.",
        lambda: 1 + len(admission.others),
    )
    add_gauge(registry, "rkllama_boards_ready", "Workers that are ready.", lambda: boards.ready)
    add_rows(
        registry,
        "rkllama_board_up",
        "1 while a board is heard; 0 for ten minutes if it fell silent without being drained.",
        ("worker_id",),
        lambda: [((board,), float(there)) for board, there in boards.up()],
    )
    add_gauge(
        registry,
        "rkllama_store_up",
        "1 while a model store is heard and ready.",
        lambda: catalog.ready,
    )


def running(jobs: Jobs) -> int:
    """How many jobs a board has."""
    counts = jobs.counts()
    return counts[JobState.GRANTED] + counts[JobState.RUNNING]
