"""Embeddings as they come from a board, and as clients get them: cut, and of unit length."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from array import array
from operator import mul

from rkllama_gateway.dialects.errors import DialectError

NOT_FINITE = "embedding contains NaN or Inf values"
SHORTEST = 1e-12
"""Length that a vector of zeros is taken to have."""


def normalised(vector: array[float], *, dimensions: int = 0) -> array[float]:
    """The first `dimensions` values, or all where there are no more, scaled to unit length."""
    kept = vector[:dimensions] if 0 < dimensions < len(vector) else vector
    length = max(math.sqrt(sum(map(mul, kept, kept))), SHORTEST)
    return array("f", [value / length for value in kept])


def unpacked(text: str, *, not_finite: int) -> array[float]:
    """The vector in a chunk: base64 of little-endian float32 values.

    Raises:
        DialectError: It is damaged, or `not_finite` as its status where a value is no number.
    """
    try:
        data = base64.b64decode(text, validate=True)
        vector = array("f", struct.unpack(f"<{len(data) // 4}f", data))
    except (binascii.Error, struct.error) as error:
        raise DialectError(500, "the worker sent a damaged embedding") from error
    if not all(map(math.isfinite, vector)):
        raise DialectError(not_finite, NOT_FINITE)
    return vector
