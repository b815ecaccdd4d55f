"""Token buckets: how often, and how slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_policy.rate import Bucket, Pace, Rate, retry_after_s, take

RATE = Rate(per_minute=60, burst=3)


def asked(*times: float) -> list[float]:
    """The waits of requests at these times."""
    bucket, waits = Bucket.full(RATE, times[0]), []
    for now in times:
        bucket, wait_s = take(bucket, RATE, now)
        waits.append(round(wait_s, 3))
    return waits


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ((0, 0, 0), [0, 0, 0]),
        ((0, 0, 0, 0), [0, 0, 0, 1]),
        ((0, 0, 0, 0.25), [0, 0, 0, 0.75]),
        ((0, 0, 0, 1), [0, 0, 0, 0]),
        ((0, 0, 0, 100, 100, 100, 100), [0, 0, 0, 0, 0, 0, 1]),
        ((0, 0, 0, 0.5, 0.5, 1, 1), [0, 0, 0, 0.5, 0.5, 0, 1]),
    ],
)
def test_a_burst_is_let_through_and_then_so_many_a_minute(
    times: tuple[float, ...], waits: list[float]
) -> None:
    assert asked(*times) == waits


@given(st.lists(st.floats(0, 600), min_size=1, max_size=200))
def test_in_no_minute_more_than_the_burst_and_the_rate(times: list[float]) -> None:
    ordered = sorted(times)
    let_in = [at for at, wait in zip(ordered, asked(*ordered), strict=True) if wait == 0]

    for begin in let_in:
        within = sum(1 for at in let_in if begin <= at < begin + 60)
        assert within <= RATE.burst + RATE.per_minute


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket, _ = take(Bucket(1.0, 10.0), RATE, 5.0)

    assert bucket == Bucket(0.0, 10.0)


@pytest.mark.parametrize(
    ("steps", "behind"),
    [
        ([(0, 1.0)] * 30, 30),
        ([(1, 1.0)] * 30, 30 - 30 / 1024),
        ([(1024, 1.0)] * 30, 0),
        ([(10**9, 1.0), (0, 1.0)], 1),
        ([(0, 5.0), (2048, 1.0)], 4),
    ],
)
def test_being_behind_is_time_less_what_was_moved(
    steps: list[tuple[int, float]], behind: float
) -> None:
    pace = Pace(1024)
    for moved, elapsed in steps:
        pace.note(moved, elapsed)

    assert pace.behind_s == pytest.approx(behind)


@pytest.mark.parametrize(("wait", "told"), [(0.01, 1), (1.0, 1), (1.2, 2), (60, 60)])
def test_a_wait_is_told_in_whole_seconds(wait: float, told: int) -> None:
    assert retry_after_s(wait) == told
