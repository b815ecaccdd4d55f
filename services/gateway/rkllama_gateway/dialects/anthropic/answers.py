r"""Answers, made from chunks: a stream of named events, or one object (contract 4).

    event: content_block_delta\n
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":".."}}\n\n

message_start  ping  ( content_block_start  content_block_delta...  content_block_stop )...
message_delta  message_stop
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.anthropic.blocks import Blocks, Step
from rkllama_gateway.dialects.anthropic.failures import fault
from rkllama_gateway.dialects.gotext import dumps

PING_NS = 10_000_000_000
"""After so much silence while tokens come that are not to be seen, a stream says that it lives."""


def event(name: str, **fields: Any) -> bytes:
    """One event; its name stands in its data, too."""
    return b"event: " + name.encode() + b"\ndata: " + dumps({"type": name, **fields}) + b"\n\n"


PING = event("ping")


class MessageAnswer:
    """One message, streamed with `record`, or collected with `add` and told with `whole`."""

    def __init__(
        self, model: str, *, message_id: str, stops: Sequence[str] = (), one_call: bool = False
    ) -> None:
        """`model` as typed; `stops` are the client's own stop sequences."""
        self._model = model
        self._id = message_id
        self._stops = frozenset(stops)
        self._blocks = Blocks(one_call=one_call)
        self._prompt_tokens = 0
        self._tokens = 0
        self._begun = False
        self._said_at_ns = 0
        self._last: Chunk | None = None

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The events that `chunk` becomes; None where nothing is to be said.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        steps = self._take(chunk)
        events = [] if self._begun else [self._start(), PING]
        self._begun = True
        events += map(_event, steps)
        if chunk.finish:
            events += map(_event, self._blocks.close())
            told = {"delta": self._stop(), "usage": self._usage()}
            events += (event("message_delta", **told), event("message_stop"))
        elif not events and elapsed_ns - self._said_at_ns >= PING_NS:
            events.append(PING)
        if not events:
            return None
        self._said_at_ns = elapsed_ns
        return b"".join(events)

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added."""
        content = [block.shown() for block in self._blocks.blocks]
        return dumps(self._message(content, self._stop())) + b"\n"

    def _take(self, chunk: Chunk) -> list[Step]:
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, typed=self._model)
        self._prompt_tokens = chunk.prompt_tokens or self._prompt_tokens
        self._tokens += len(chunk.ids)
        self._last = chunk
        return self._blocks.take(chunk)

    def _start(self) -> bytes:
        begun = self._message([], {"stop_reason": None, "stop_sequence": None})
        begun["usage"]["output_tokens"] = 0
        return event("message_start", message=begun)

    def _message(self, content: list[dict[str, Any]], stop: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **stop,
            "usage": self._usage(),
        }

    def _usage(self) -> dict[str, int]:
        return {"input_tokens": self._prompt_tokens, "output_tokens": self._tokens}

    def _stop(self) -> dict[str, Any]:
        """Why it ended; a stop string of the model's own is an end like any other."""
        reason, sequence = "end_turn", None
        if self._blocks.called:
            reason = "tool_use"
        elif self._last is not None and self._last.finish == "length":
            reason = "max_tokens"
        elif self._last is not None and self._last.stopped_by in self._stops:
            reason, sequence = "stop_sequence", self._last.stopped_by
        return {"stop_reason": reason, "stop_sequence": sequence}


class CountAnswer:
    """How many tokens a prompt has: collected with `add`, told with `whole`."""

    def __init__(self, model: str) -> None:
        """`model` as typed."""
        self._model = model
        self._prompt_tokens = 0

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep the count.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, typed=self._model)
        self._prompt_tokens = chunk.prompt_tokens or self._prompt_tokens

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """The count."""
        return dumps({"input_tokens": self._prompt_tokens}) + b"\n"


def _event(step: Step) -> bytes:
    told: dict[str, Any] = {}
    if step.what == "start":
        told = {"content_block": step.block.shown(begun=True)}
    elif step.what == "delta":
        told = {"delta": step.block.delta(step.piece)}
    return event(f"content_block_{step.what}", index=step.index, **told)
