"""Gauges that are read when they are scraped."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from rkllama_service.metrics import add_broker, add_gauge, add_rows


def told(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line]


def test_what_is_gone_has_no_row_any_more() -> None:
    here = {("a",): 1.0, ("b",): 2.0}
    registry = CollectorRegistry()
    add_rows(registry, "things", "Things.", ("name",), here.items)
    before = told(registry)
    del here["a",]

    assert before == ['things{name="a"} 1.0', 'things{name="b"} 2.0']
    assert told(registry) == ['things{name="b"} 2.0']


def test_to_register_a_gauge_asks_nobody() -> None:
    """Whoever it would ask is not there yet."""

    def fails() -> float:
        raise AssertionError

    add_gauge(CollectorRegistry(), "things", "Things.", fails)


def test_the_broker_with_and_without_a_board() -> None:
    plain, of_board = CollectorRegistry(), CollectorRegistry()
    add_broker(plain, connected=lambda: True)()
    add_broker(of_board, connected=lambda: False, worker_id="w")

    assert told(plain) == ["rkllama_nats_connected 1.0", "rkllama_nats_reconnects_total 1.0"]
    assert told(of_board) == [
        'rkllama_nats_connected{worker_id="w"} 0.0',
        'rkllama_nats_reconnects_total{worker_id="w"} 0.0',
    ]
