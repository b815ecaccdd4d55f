"""Sizes, moments and lengths of time, as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rkllama_cli import words
from rkllama_cli.bars import left

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (616, "616 B"),
        (1_600_000, "1.6 MB"),
        (98_000_000, "98 MB"),
        (1_347_000_000, "1.3 GB"),
        (12_700_000_000, "12.7 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_a_size_is_decimal(size_bytes: int, text: str) -> None:
    assert words.size(size_bytes) == text


@pytest.mark.parametrize(
    ("number", "text"), [(900, "900"), (134_515_008, "134.5M"), (7_000_000_000, "7B")]
)
def test_a_count_of_parameters(number: int, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (-1, "1 second ago"),
        (-90, "1 minute ago"),
        (-7200, "2 hours ago"),
        (-5 * 86400, "5 days ago"),
        (-20 * 86400, "2 weeks ago"),
        (-70 * 86400, "2 months ago"),
        (-800 * 86400, "2 years ago"),
        (250, "4 minutes from now"),
        (3600, "1 hour from now"),
        (292 * 365 * 86400, "forever"),
    ],
)
def test_a_moment_is_told_from_now(seconds: int, text: str) -> None:
    assert words.apart(NOW + timedelta(seconds=seconds), now=NOW) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T12:00:00Z",
        "2026-01-02T13:00:00+01:00",
        "2026-01-02T13:00:00.000000000+01:00",
        "2026-01-02T12:00:00.0Z",
    ],
)
def test_a_servers_time_is_read_with_any_digits(text: str) -> None:
    assert words.moment(text) == NOW


def test_what_is_no_time_is_none() -> None:
    assert words.moment("soon") is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(1_250_000_000, "1.25 s"), (340_000_000, "340 ms"), (125_000_000_000, "2 min 5 s")],
)
def test_how_long_something_took(nanoseconds: int, text: str) -> None:
    assert words.duration(nanoseconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(7, "7s"), (125, "2m05s"), (4320, "1h12m")])
def test_how_long_something_will_take(seconds: int, text: str) -> None:
    assert left(seconds) == text
