r"""Answers of `/api/chat` and `/api/generate`, made from chunks: a line each, or one object.

    {"model":..,"created_at":..,"message":{"role":"assistant","content":".."},"done":false}\n
    {"model":..,"created_at":..,"response":"..","done":false}\n

There is a line for every token, so that a line is put together from bytes that are ready; only the
last record is built as an object. Durations are integer nanoseconds (contract 1.4), and what is zero
or empty is left out (contract 1.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.gotime import utc
from rkllama_gateway.dialects.ollama.failures import Endpoint, fault

IdleReason = Literal["load", "unload"]


class _Tally:
    """What is known of an answer when its last chunk is in; one for each request."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint = endpoint
        self._model = model
        self._ready_ns = 0
        self._eval_count = 0
        self._prompt_tokens = 0
        self._prefill_ns = 0
        self._decode_ns = 0

    def count(self, chunk: Chunk, elapsed_ns: int) -> None:
        """Take in one chunk; `elapsed_ns` since the request arrived.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, self._endpoint, model=self._model)
        self._eval_count += len(chunk.ids)
        self._prompt_tokens = chunk.prompt_tokens or self._prompt_tokens
        self._prefill_ns = chunk.prefill_ns or self._prefill_ns
        self._decode_ns = chunk.decode_ns or self._decode_ns
        if not self._ready_ns and chunk.ids:
            self._ready_ns = elapsed_ns - chunk.prefill_ns

    def metrics(self, elapsed_ns: int) -> dict[str, int]:
        """The figures of the final record; `load_duration` is the time until prefill began."""
        figures = {
            "total_duration": elapsed_ns,
            "load_duration": max(self._ready_ns, 1),
            "prompt_eval_count": self._prompt_tokens,
            "prompt_eval_duration": self._prefill_ns,
            "eval_count": self._eval_count,
            "eval_duration": self._decode_ns,
        }
        return {name: value for name, value in figures.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Where the two endpoints differ."""

    endpoint: Endpoint
    opening: bytes
    """Between the time and the text of a line."""
    closing: bytes
    """After the text of a line and what goes with it."""
    body: Callable[[dict[str, Any], str], dict[str, Any]]
    """The part of a record that holds the text, given what goes with it."""


def _chat_body(extra: dict[str, Any], content: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content} | extra}


def _generate_body(extra: dict[str, Any], content: str) -> dict[str, Any]:
    return {"response": content} | extra


_CHAT = _Shape(
    endpoint=Endpoint.CHAT,
    opening=b'","message":{"role":"assistant","content":',
    closing=b'},"done":false}\n',
    body=_chat_body,
)
_GENERATE = _Shape(
    endpoint=Endpoint.GENERATE,
    opening=b'","response":',
    closing=b',"done":false}\n',
    body=_generate_body,
)


def chat_answer(model: str) -> Answer:
    """The answer to one `/api/chat`; `model` as the client typed it."""
    return Answer(_CHAT, model, with_context=False)


def generate_answer(model: str, *, raw: bool = False) -> Answer:
    """The answer to one `/api/generate`; a raw one has no `context`."""
    return Answer(_GENERATE, model, with_context=not raw)


class Answer:
    """One answer, streamed with `record`, or collected with `add` and told with `whole`."""

    def __init__(self, shape: _Shape, model: str, *, with_context: bool) -> None:
        self._shape = shape
        self._model = model
        self._with_context = with_context
        self._head = b'{"model":' + dumps(model) + b',"created_at":"'
        self._tally = _Tally(shape.endpoint, model)
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._last: Chunk | None = None

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The lines that `chunk` becomes: one, two at the end, None where nothing is to be seen.

        `now_ns` is the time since the epoch, `elapsed_ns` the time since the request arrived.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._tally.count(chunk, elapsed_ns)
        visible = chunk.content or chunk.thinking or chunk.tool_calls
        line = self._line(chunk, now_ns) if visible else b""
        if chunk.finish:
            line += self._record({}, "", chunk, now_ns, elapsed_ns) + b"\n"
        return line or None

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._tally.count(chunk, elapsed_ns)
        self._content.append(chunk.content)
        self._thinking.append(chunk.thinking)
        self._tool_calls.extend(chunk.tool_calls)
        self._last = chunk

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added, as one object without a line end."""
        extra: dict[str, Any] = {}
        if thinking := "".join(self._thinking):
            extra["thinking"] = thinking
        if self._tool_calls:
            extra["tool_calls"] = self._tool_calls
        return self._record(extra, "".join(self._content), self._last, now_ns, elapsed_ns)

    def idle(self, reason: IdleReason, *, now_ns: int) -> bytes:
        """The answer to a request that only loads or unloads, streaming or not."""
        return dumps(self._opened({}, "", now_ns) | {"done_reason": reason})

    def _line(self, chunk: Chunk, now_ns: int) -> bytes:
        parts = [
            self._head,
            utc(now_ns).encode(),
            self._shape.opening,
            dumps(chunk.content),
        ]
        if chunk.thinking:
            parts += (b',"thinking":', dumps(chunk.thinking))
        if chunk.tool_calls:
            parts += (b',"tool_calls":', dumps(chunk.tool_calls))
        parts.append(self._shape.closing)
        return b"".join(parts)

    def _record(
        self,
        extra: dict[str, Any],
        content: str,
        last: Chunk | None,
        now_ns: int,
        elapsed_ns: int,
    ) -> bytes:
        record = self._opened(extra, content, now_ns)
        if last and last.finish:
            record["done_reason"] = last.finish
        if last and last.context and self._with_context:
            record["context"] = last.context
        return dumps(record | self._tally.metrics(elapsed_ns))

    def _opened(self, extra: dict[str, Any], content: str, now_ns: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "created_at": utc(now_ns),
            **self._shape.body(extra, content),
            "done": True,
        }
