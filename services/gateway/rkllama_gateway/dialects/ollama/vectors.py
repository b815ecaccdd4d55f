"""Answers of `/api/embed` and `/api/embeddings`, made from chunks that hold a vector each.

    {"model":"m","embeddings":[[0.6,0.8]],"total_duration":..,"load_duration":..,"prompt_eval_count":..}
    {"embedding":[3.0000000149011612,4]}

Boards send what the model's pooling gave. The first endpoint cuts it to the dimensions asked for and
then to unit length, the older one passes it on (contract 2.10, 2.11).
"""

from __future__ import annotations

from typing import Literal

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.gofloat import float32s, float64s
from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.ollama.failures import Endpoint, fault
from rkllama_gateway.dialects.vectors import normalised, unpacked


class EmbedAnswer:
    """The vectors of one request, added as they come."""

    def __init__(self, endpoint: Endpoint, model: str, *, dimensions: int = 0) -> None:
        self._endpoint = endpoint
        self._model = model
        self._dimensions = dimensions
        self._vectors: list[bytes] = []
        self._prompt_tokens = 0
        self._loaded = False
        """Whether that was all there was to do."""
        self._begun_ns: list[int] = []
        """When the model began, as each chunk tells: chunks arrive together, and late."""

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Take in one chunk; `elapsed_ns` since the request arrived.

        Raises:
            DialectError: The job failed, or made what is no vector.
        """
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, self._endpoint, model=self._model)
        self._prompt_tokens += chunk.prompt_tokens
        self._loaded = chunk.finish == "load"
        if not chunk.vector:
            return
        self._begun_ns.append(elapsed_ns - chunk.prefill_ns)
        status = 400 if self._endpoint is Endpoint.EMBED else 500
        vector = unpacked(chunk.vector, not_finite=status)
        if self._endpoint is Endpoint.EMBED:
            self._vectors.append(float32s(normalised(vector, dimensions=self._dimensions)))
        else:
            self._vectors.append(float64s(vector))

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added, as one object without a line end."""
        if self._endpoint is Endpoint.EMBEDDINGS:
            return self._embedding()
        if self._loaded:
            return self.idle("load", now_ns=now_ns)
        figures = {
            "total_duration": elapsed_ns,
            "load_duration": max(min(self._begun_ns, default=0), 1),
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
