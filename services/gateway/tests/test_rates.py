"""Who is counted as one asker, and for how long."""

from __future__ import annotations

from typing import Any

from rkllama_gateway.rates import MOST_BUCKETS, Rates
from rkllama_policy.rate import Rate

RATE = Rate(per_minute=60, burst=1)


def scope(
    *, key: str | None = None, address: str | None = "192.0.2.1", path: str = "/api/chat"
) -> dict[str, Any]:
    client = None if address is None else (address, 1)
    return {"path": path, "state": {"key_name": key}, "client": client}


def rates() -> Rates:
    return Rates(RATE, clock=lambda: 0.0)


def test_without_a_rate_everybody_may_ask_always() -> None:
    free = Rates(None)

    assert [free.wait_s(scope()) for _ in range(100)] == [0.0] * 100


def test_a_key_is_one_asker_wherever_it_is_used_from() -> None:
    of = rates()

    assert of.wait_s(scope(key="bob", address="192.0.2.1")) == 0
    assert of.wait_s(scope(key="bob", address="192.0.2.2")) == 1
    assert of.wait_s(scope(key="eve", address="192.0.2.1")) == 0


def test_who_shows_no_key_is_an_address() -> None:
    of = rates()

    assert of.wait_s(scope(address="192.0.2.1")) == 0
    assert of.wait_s(scope(address="192.0.2.1")) == 1
    assert of.wait_s(scope(address="192.0.2.2")) == 0
    assert of.wait_s(scope(address=None)) == 0
    assert of.wait_s(scope(address=None)) == 1


def test_a_key_named_like_an_address_is_another_asker() -> None:
    of = rates()

    assert of.wait_s(scope(address="192.0.2.1")) == 0
    assert of.wait_s(scope(key="192.0.2.1")) == 0


def test_probes_are_not_counted() -> None:
    of = rates()

    assert [of.wait_s(scope(path="/readyz")) for _ in range(5)] == [0.0] * 5


def test_no_more_askers_are_remembered_than_there_is_room_for() -> None:
    """Whoever has asked for longest is forgotten, so that a flood of addresses costs no memory."""
    of = rates()
    of.wait_s(scope(key="old"))
    for number in range(MOST_BUCKETS):
        of.wait_s(scope(key=f"k{number}"))

    assert of.wait_s(scope(key="old")) == 0
    assert of.wait_s(scope(key=f"k{MOST_BUCKETS - 1}")) == 1
