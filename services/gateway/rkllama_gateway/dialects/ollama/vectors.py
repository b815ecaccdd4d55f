"""Answers of `/api/embed` and `/api/embeddings`, made from chunks that hold a vector each.

    {"model":"m","embeddings":[[0.6,0.8]],"total_duration":..,"load_duration":..,"prompt_eval_count":..}
    {"embedding":[3.0000000149011612,4]}

Boards send what the model's pooling gave. The first endpoint cuts it to the dimensions asked for and
then to unit length, the older one passes it on (contract 2.10, 2.11).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from array import array
from operator import mul
from typing import Literal

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gofloat import float32s, float64s
from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.ollama.failures import Endpoint, fault

NOT_FINITE = "embedding contains NaN or Inf values"
SHORTEST = 1e-12
"""Length that a vector of zeros is taken to have."""


class EmbedAnswer:
    """The vectors of one request, added as they come."""

    def __init__(self, endpoint: Endpoint, model: str, *, dimensions: int = 0) -> None:
        self._endpoint = endpoint
        self._model = model
        self._dimensions = dimensions
        self._vectors: list[bytes] = []
        self._prompt_tokens = 0
        self._ready_ns = 0

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Take in one chunk; `elapsed_ns` since the request arrived.

        Raises:
            DialectError: The job failed, or made what is no vector.
        """
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, self._endpoint, model=self._model)
        self._prompt_tokens += chunk.prompt_tokens
        if not chunk.vector:
            return
        self._ready_ns = self._ready_ns or elapsed_ns - chunk.prefill_ns
        vector = _unpacked(chunk.vector)
        if not all(map(math.isfinite, vector)):
            raise DialectError(400 if self._endpoint is Endpoint.EMBED else 500, NOT_FINITE)
        if self._endpoint is Endpoint.EMBED:
            self._vectors.append(float32s(normalised(vector, dimensions=self._dimensions)))
        else:
            self._vectors.append(float64s(vector))

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added, as one object without a line end."""
        if self._endpoint is Endpoint.EMBEDDINGS:
            return self._embedding()
        figures = {
            "total_duration": elapsed_ns,
            "load_duration": max(self._ready_ns, 1),
            "prompt_eval_count": self._prompt_tokens,
        }
        rest = dumps({name: value for name, value in figures.items() if value})
        return self._opened() + b"," + rest[1:]

    def idle(self, reason: Literal["load", "unload"], *, now_ns: int) -> bytes:
        """The answer to a request that only loads or unloads: there is no vector in it."""
        if self._endpoint is Endpoint.EMBEDDINGS:
            return self._embedding()
        return self._opened() + b"}"

    def _opened(self) -> bytes:
        vectors = b",".join(self._vectors)
        return b'{"model":' + dumps(self._model) + b',"embeddings":[' + vectors + b"]"

    def _embedding(self) -> bytes:
        return b'{"embedding":' + (self._vectors[0] if self._vectors else b"[]") + b"}"


def normalised(vector: array[float], *, dimensions: int = 0) -> array[float]:
    """The first `dimensions` values, or all where there are no more, scaled to unit length."""
    kept = vector[:dimensions] if 0 < dimensions < len(vector) else vector
    length = max(math.sqrt(sum(map(mul, kept, kept))), SHORTEST)
    return array("f", [value / length for value in kept])


def _unpacked(text: str) -> array[float]:
    try:
        data = base64.b64decode(text, validate=True)
        return array("f", struct.unpack(f"<{len(data) // 4}f", data))
    except (binascii.Error, struct.error) as error:
        raise DialectError(500, "the worker sent a damaged embedding") from error
