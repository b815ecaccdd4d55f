"""Answers of `/v1/embeddings`, made from chunks that hold a vector each (contract 3.3).

{"object":"list","data":[{"object":"embedding","embedding":[..],"index":0}],"model":..,"usage":{..}}
"""

from __future__ import annotations

import base64
import struct
from array import array

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.gofloat import float32s
from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.openai.answers import Tally
from rkllama_gateway.dialects.openai.requests import Embedding
from rkllama_gateway.dialects.vectors import normalised, unpacked


class EmbeddingAnswer:
    """The vectors of one request, added as they come."""

    def __init__(self, asked: Embedding) -> None:
        self._asked = asked
        self._vectors: list[bytes] = []
        self._tally = Tally(asked.model)
        self._prompt_tokens = 0

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Take in one chunk.

        Raises:
            DialectError: The job failed, or made what is no vector.
        """
        self._tally.count(chunk)
        self._prompt_tokens += chunk.prompt_tokens
        if chunk.vector:
            vector = unpacked(chunk.vector, not_finite=400)
            told = normalised(vector, dimensions=self._asked.dimensions)
            self._vectors.append(_base64(told) if self._asked.base64 else float32s(told))

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added."""
        rows = b",".join(
            b'{"object":"embedding","embedding":%b,"index":%d}' % (vector, at)
            for at, vector in enumerate(self._vectors)
        )
        tokens = self._prompt_tokens
        rest = {
            "model": self._asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return b'{"object":"list","data":[' + rows + b"]," + dumps(rest)[1:] + b"\n"


def _base64(vector: array[float]) -> bytes:
    packed = struct.pack(f"<{len(vector)}f", *vector)
    return b'"' + base64.b64encode(packed) + b'"'
