"""What the metrics of all processes have in common: bounds of histograms, gauges, the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S = (
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
"""vLLM's bounds for queue, prefill and load."""

Rows = Callable[[], Iterable[tuple[Sequence[str], float]]]
"""Values of the labels, and the gauge's value with them."""


class _Scraped(Collector):
    """A gauge whose rows are made anew when it is scraped: what is gone has none any more."""

    def __init__(self, name: str, text: str, labels: Sequence[str], rows: Rows) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._rows = rows

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The gauge without its rows: registering it asks nobody."""
        yield GaugeMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauge with its rows."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, value in self._rows():
            family.add_metric(values, value)
        yield family


def add_rows(
    registry: CollectorRegistry, name: str, text: str, labels: Sequence[str], rows: Rows
) -> None:
    """A gauge that has the rows of the moment when it is scraped."""
    registry.register(_Scraped(name, text, labels, rows))


def add_gauge(
    registry: CollectorRegistry, name: str, text: str, value: Callable[[], float]
) -> None:
    """A gauge without labels that is read when it is scraped."""
    add_rows(registry, name, text, (), lambda: [((), value())])


def add_broker(
    registry: CollectorRegistry, *, connected: Callable[[], bool], worker_id: str = ""
) -> Callable[[], None]:
    """Whether the broker is there; what is returned has to be called after every reconnect.

    `worker_id` is the label that a board's metrics have.
    """
    label = {"worker_id": worker_id} if worker_id else {}
    add_rows(
        registry,
        "rkllama_nats_connected",
        "1 while this process reaches the broker.",
        tuple(label),
        lambda: [(tuple(label.values()), float(connected()))],
    )
    reconnects = Counter(
        "rkllama_nats_reconnects",
        "Times that the broker was found again.",
        tuple(label),
        registry=registry,
    )
    counted = reconnects.labels(**label) if label else reconnects
    return counted.inc
