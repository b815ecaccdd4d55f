r"""Answers of `/api/chat` and `/api/generate`, made from chunks: a line each, or one object.

    {"model":..,"created_at":..,"message":{"role":"assistant","content":".."},"done":false}\n
    {"model":..,"created_at":..,"response":"..","done":false}\n

There is a line for every token, so that a line is put together from bytes that are ready; only the
last record is built as an object. Durations are integer nanoseconds (contract 1.4), and what is zero
or empty is left out (contract 1.9).
"""

from __future__ import annotations

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
    """After the text of a line, its thinking and, if they are in the message, its calls."""
    in_message: bool
    """Whether text, thinking and calls are in an object `message`."""


_CHAT = _Shape(
    endpoint=Endpoint.CHAT,
    opening=b'","message":{"role":"assistant","content":',
    closing=b'},"done":false',
    in_message=True,
)
_GENERATE = _Shape(
    endpoint=Endpoint.GENERATE,
    opening=b'","response":',
    closing=b',"done":false',
    in_message=False,
)


def chat_answer(model: str, *, images: int = 0) -> Answer:
    """The answer to one `/api/chat` with so many images; `model` as the client typed it."""
    return Answer(_CHAT, model, images=images, with_context=False)


def generate_answer(model: str, *, raw: bool = False, images: int = 0) -> Answer:
    """The answer to one `/api/generate`; a raw one has no `context`."""
    return Answer(_GENERATE, model, images=images, with_context=not raw)


class Answer:
    """One answer, streamed with `record`, or collected with `add` and told with `whole`."""

    def __init__(self, shape: _Shape, model: str, *, images: int, with_context: bool) -> None:
        self._shape = shape
        self._model = model
        self._images = images
        self._with_context = with_context
        self._head = b'{"model":' + dumps(model) + b',"created_at":"'
        self._tally = _Tally(shape.endpoint, model)
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        """Not told yet: a token's text may come only with a later one."""
        self._last: Chunk | None = None

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The lines that `chunk` becomes, None where nothing is to be seen.

        Thinking, text and each call have a line of their own, also where a chunk of several tokens brings all of
        them; the final record comes behind. `now_ns` is the time since the epoch, `elapsed_ns` the time since the request arrived.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._tally.count(chunk, elapsed_ns)
        self._logprobs += map(_told, chunk.logprobs)
        lines = b""
        if chunk.thinking:
            lines += self._line(now_ns, thinking=chunk.thinking)
        if chunk.content:
            lines += self._line(now_ns, content=chunk.content)
        for call in chunk.tool_calls:
            lines += self._line(now_ns, call=call)
        if chunk.finish:
            lines += self._record(chunk, now_ns, elapsed_ns) + b"\n"
        return lines or None

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._tally.count(chunk, elapsed_ns)
        self._content.append(chunk.content)
        self._thinking.append(chunk.thinking)
        self._tool_calls.extend(chunk.tool_calls)
        self._logprobs += map(_told, chunk.logprobs)
        self._last = chunk

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added, as one object without a line end."""
        if self._last is not None and self._last.finish == "load":
            return self.idle("load", now_ns=now_ns)
        if self._last is not None and self._last.rendered:
            return self._rendered(self._last.rendered, now_ns)
        return self._record(self._last, now_ns, elapsed_ns)

    def idle(self, reason: IdleReason, *, now_ns: int) -> bytes:
        """The answer to a request that only loads or unloads, streaming or not."""
        return dumps({**self._opened(now_ns), "done": True, "done_reason": reason})

    def _line(
        self,
        now_ns: int,
        *,
        content: str = "",
        thinking: str = "",
        call: dict[str, Any] | None = None,
    ) -> bytes:
        calls = b"" if call is None else b',"tool_calls":' + dumps([call])
        inside, outside = (calls, b"") if self._shape.in_message else (b"", calls)
        parts = [self._head, utc(now_ns).encode(), self._shape.opening, dumps(content)]
        if thinking:
            parts += (b',"thinking":', dumps(thinking))
        parts += (inside, self._shape.closing, outside)
        if self._logprobs:
            parts += (b',"logprobs":', dumps(self._logprobs))
            self._logprobs.clear()
        parts.append(b"}\n")
        return b"".join(parts)

    def _record(self, last: Chunk | None, now_ns: int, elapsed_ns: int) -> bytes:
        """The final record, with all that was added; its keys in Ollama's order (contract 1.9)."""
        record = self._opened(now_ns, "".join(self._content), "".join(self._thinking))
        calls = {"tool_calls": self._tool_calls} if self._tool_calls else {}
        if self._shape.in_message:
            record["message"] |= calls
        record["done"] = True
        if last and last.finish:
            record["done_reason"] = last.finish
        if last and last.context and self._with_context:
            record["context"] = last.context
        figures = self._tally.metrics(elapsed_ns)
        logprobs = {"logprobs": self._logprobs} if self._logprobs else {}
        if self._shape.in_message:
            return dumps(record | logprobs | figures)
        return dumps(record | figures | calls | logprobs)

    def _opened(self, now_ns: int, content: str = "", thinking: str = "") -> dict[str, Any]:
        opened: dict[str, Any] = {"model": self._model, "created_at": utc(now_ns)}
        thought = {"thinking": thinking} if thinking else {}
        if self._shape.in_message:
            return opened | {"message": {"role": "assistant", "content": content} | thought}
        return opened | {"response": content} | thought

    def _rendered(self, prompt: str, now_ns: int) -> bytes:
        """The answer to `_debug_render_only` (contract 2.7)."""
        counted = {"image_count": self._images} if self._images else {}
        info = {"rendered_template": prompt} | counted
        return dumps({**self._opened(now_ns), "done": False, "_debug_info": info})


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """A token's logprob as clients get it: without a list where no other tokens were asked for."""
    return {key: value for key, value in entry.items() if value or key != "top_logprobs"}
