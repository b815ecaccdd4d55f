"""Floats as Go's `encoding/json` prints them: the fewest digits that give the same number back.

float32     `0.1`, where the same number as a float64 is `0.10000000149011612`
form        decimal from 1e-6 up to 1e21, else an exponent without a leading zero: `1e-7`, `1e+21`
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

MOST_DIGITS = 9
"""So many give back every float32."""
SURE_DIGITS = 6
"""A decimal of so many survives the way into a float32 and back, if that is a normal one."""
SMALLEST_NORMAL = 2.0**-126

_LEAST_PLAIN = Decimal("1e-6")
_LEAST_LARGE = Decimal("1e21")


def float32s(values: array[float]) -> bytes:
    """A JSON array of finite numbers; `values` has type code `f`."""
    texts = [""] * len(values)
    open_at: list[int] = []
    for at, value in enumerate(values):
        if abs(value) < SMALLEST_NORMAL or abs(math.frexp(value)[0]) == 0.5:
            texts[at] = _shortest(value)
        else:
            open_at.append(at)
    for digits in range(SURE_DIGITS, MOST_DIGITS + 1):
        form = f"%.{digits}g"
        tried = [form % values[at] for at in open_at]
        back = array("f", map(float, tried))
        left: list[int] = []
        for at, text, number in zip(open_at, tried, back, strict=True):
            if number == values[at]:
                texts[at] = text
            else:
                left.append(at)
        open_at = left
    return _joined(texts)


def float64s(values: Sequence[float]) -> bytes:
    """A JSON array of finite numbers."""
    return _joined([repr(value).removesuffix(".0") for value in values])


def _joined(texts: list[str]) -> bytes:
    return b"[" + ",".join([_go(text) if "e" in text else text for text in texts]).encode() + b"]"


def _shortest(value: float) -> str:
    """The same for one number, also where fewer digits do, or where the nearest decimal does not.

    Below a power of two numbers are closer than above it: there the next decimal further from zero
    may be short enough.
    """
    if not value:
        return f"{value:g}"
    return next(text for text in _candidates(value) if array("f", [float(text)])[0] == value)


def _candidates(value: float) -> Iterator[str]:
    exact = Decimal(value)
    for digits in range(1, MOST_DIGITS + 1):
        nearest = Context(prec=digits, rounding=ROUND_HALF_UP).plus(exact)
        step = Decimal(1).scaleb(exact.adjusted() - digits + 1).copy_sign(exact)
        yield f"{float(nearest):.{digits}g}"
        yield f"{float(nearest + step):.{digits}g}"


def _go(text: str) -> str:
    """A text with an exponent, as Go has it."""
    number = Decimal(text)
    if number.is_zero() or _LEAST_PLAIN <= abs(number) < _LEAST_LARGE:
        return f"{number:f}"
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent):+d}"
