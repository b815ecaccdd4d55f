"""Durations, base64, times and quoted text as Go reads and prints them."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.gobase64 import illegal_byte
from rkllama_gateway.dialects.goduration import (
    FOREVER_S,
    DurationError,
    keep_alive_s,
    parse_duration,
)
from rkllama_gateway.dialects.gotext import dumps, quote
from rkllama_gateway.dialects.gotime import FOREVER_NS, local, utc


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (300, 300.0),
        (1.5, 1.5),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("-0", 0.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("+.5s", 0.5),
        ("1500us", 0.0015),
        ("2\u00b5s", 0.000002),
        ("250ms", 0.25),
        ("24h", 86400.0),
        (-1, FOREVER_S),
        (-0.5, FOREVER_S),
        ("-1m", FOREVER_S),
        ("-1ns", FOREVER_S),
        (1e300, FOREVER_S),
    ],
)
def test_keep_alive_is_seconds_or_for_ever(value: Any, seconds: float) -> None:
    """Contract 1.7."""
    assert keep_alive_s(value) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("bogus", 'time: invalid duration "bogus"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ('1"\\', r'time: unknown unit "\"\\" in duration "1\"\\"'),
        ('1\u00e9"\\\n', r'time: unknown unit "\xc3\xa9\"\\\x0a" in duration "1\xc3\xa9\"\\\x0a"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("99999999999999999999", 'time: invalid duration "99999999999999999999"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_bad_keep_alive_has_the_text_of_go(value: Any, text: str) -> None:
    """Contract 1.5 and 1.7; the durations were tried with Go 1.26."""
    with pytest.raises(DurationError) as caught:
        keep_alive_s(value)
    assert str(caught.value) == text


def test_the_longest_negative_duration_is_one_longer_than_the_positive() -> None:
    assert parse_duration("-9223372036854775808ns") == -(2**63)


@given(st.text(st.sampled_from("0159.+-hmsnu\u00b5d "), max_size=12))
def test_no_text_makes_a_duration_fail_otherwise(text: str) -> None:
    with contextlib.suppress(DurationError):
        assert isinstance(parse_duration(text), int)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", None),
        ("QUJD", None),
        ("QUI=", None),
        ("QU\r\nI=\n", None),
        ("QQ=\n=", None),
        ("data:image/png;base64,QUJD", 4),
        ("QUJ", 0),
        ("QUJDQQ", 4),
        ("QUJD-_", 4),
        ("=", 0),
        ("Q=", 1),
        ("QQ=", 3),
        ("QQ=A", 2),
        ("QUI=A", 4),
        ("QQ==A", 4),
        ("QUJ\u00e9", 3),
    ],
)
def test_base64_is_refused_where_go_refuses_it(text: str, at: int | None) -> None:
    """Contract 1.2; positions from Go 1.26."""
    assert illegal_byte(text) == at


@given(st.binary())
def test_what_encodes_decodes(data: bytes) -> None:
    assert illegal_byte(base64.encodebytes(data).decode()) is None


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_created_at_is_utc_without_trailing_zeros(ns: int, text: str) -> None:
    """Contract 1.4."""
    assert utc(ns) == text


@pytest.mark.parametrize(
    ("offset_s", "text"),
    [
        (0, "2023-11-14T22:13:20.5+00:00"),
        (3600, "2023-11-14T23:13:20.5+01:00"),
        (-12600, "2023-11-14T18:43:20.5-03:30"),
    ],
)
def test_local_times_have_an_offset_never_z(offset_s: int, text: str) -> None:
    """A Go client loses the whole answer over a `Z` here (contract 1.4)."""
    assert local(1_700_000_000_500_000_000, offset_s=offset_s) == text


def test_for_ever_is_about_292_years() -> None:
    """Contract 1.7."""
    assert local(1_790_000_000_000_000_000 + FOREVER_NS, offset_s=0).startswith("2319-")


def test_json_is_compact_and_escaped_as_go_escapes_it() -> None:
    """Contract 1.3."""
    shown = dumps({"a": "<b> & \u00e9 \u2028\u2029 \x7f \u20ac \x08"})

    assert shown.decode() == (
        '{"a":"'
        r"\u003cb\u003e \u0026 "
        "\u00e9 "
        r"\u2028\u2029 "
        "\x7f \u20ac "
        r"\b"
        '"}'
    )


@given(st.text(st.characters(codec="utf-8")))
def test_escaped_json_means_the_same(text: str) -> None:
    assert orjson.loads(dumps(text)) == text


def test_text_is_quoted_as_go_quotes_it() -> None:
    assert quote('a"\\\n\x01\x7f\u00e9\u00a0\U000e0001') == (
        '"a\\"\\\\\\n\\x01\\x7f\u00e9\\u00a0\\U000e0001"'
    )
