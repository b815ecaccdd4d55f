"""Floats digit for digit; the golden file was printed by the `encoding/json` of Go 1.26."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.gofloat import float32s, float64s

GOLDEN = Path(__file__).parent / "golden" / "go_floats.txt"
ROWS = [line.split() for line in GOLDEN.read_text().splitlines()]
"""Bits of a float32, how Go prints it, how Go prints it as a float64."""

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def floats(rows: list[list[str]]) -> array[float]:
    return array("f", (struct.unpack(">f", bytes.fromhex(bits))[0] for bits, _, _ in rows))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_number_is_printed_as_go_prints_it(row: list[str]) -> None:
    """Contract 2.10 and 2.11."""
    assert float32s(floats([row])) == f"[{row[1]}]".encode()
    assert float64s(floats([row])) == f"[{row[2]}]".encode()


def test_a_vector_keeps_its_order() -> None:
    assert float32s(floats(ROWS)) == f"[{','.join(row[1] for row in ROWS)}]".encode()


def test_nothing_is_an_empty_list() -> None:
    assert (float32s(array("f")), float64s([])) == (b"[]", b"[]")


@given(value=FINITE)
def test_a_text_gives_its_number_back_and_has_no_digit_too_many(value: float) -> None:
    text = float32s(array("f", [value])).decode()[1:-1]
    digits = len(text.lower().split("e")[0].replace(".", "").replace("-", "").strip("0"))

    assert array("f", [float(text)])[0] == value
    assert digits <= 1 or array("f", [float(f"{value:.{digits - 2}e}")])[0] != value
