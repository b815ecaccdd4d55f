"""Chunks as content blocks: which block a piece belongs to, and when one begins and ends.

    thinking  thinking  content  content  call  content
    [0: thinking      ] [1: text        ] [2  ] [3: text]

A call is a block of its own. Nothing is merged across another block, so that a client that puts a stream
together gets what one that did not stream gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from rkllama_protocol.codec import Chunk

Kind = Literal["thinking", "text", "tool_use"]

_DELTAS: Mapping[Kind, tuple[str, str]] = {
    "thinking": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "tool_use": ("input_json_delta", "partial_json"),
}
"""Type of a delta, and the field that the piece is in."""


@dataclass(slots=True, kw_only=True)
class Block:
    """One content block, as far as it has come."""

    kind: Kind
    pieces: list[str] = field(default_factory=list)
    """Of its text; of a call, its whole arguments as JSON."""
    call_id: str = ""
    name: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def shown(self, *, begun: bool = False) -> dict[str, Any]:
        """As clients read it; `begun` leaves away what comes in pieces."""
        if self.kind == "tool_use":
            given = {} if begun else self.arguments
            return {"type": "tool_use", "id": self.call_id, "name": self.name, "input": given}
        text = "" if begun else "".join(self.pieces)
        # The SDKs' types have a signature; ours would prove nothing, so it is empty.
        signature = {"signature": ""} if self.kind == "thinking" else {}
        return {"type": self.kind, self.kind: text, **signature}

    def delta(self, piece: str) -> dict[str, Any]:
        """A piece of it, as a stream has it."""
        name, key = _DELTAS[self.kind]
        return {"type": name, key: piece}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A block begins, goes on, or ends."""

    what: Literal["start", "delta", "stop"]
    index: int
    block: Block
    piece: str = ""


class Blocks:
    """The content of one message; `one_call` drops every call but the first."""

    def __init__(self, *, one_call: bool = False) -> None:
        self._one_call = one_call
        self._open = False
        self.blocks: list[Block] = []
        self.called = False
        """Whether a call is among them."""

    def take(self, chunk: Chunk) -> list[Step]:
        """What a chunk changes."""
        steps = self._add("thinking", chunk.thinking) if chunk.thinking else []
        if chunk.content:
            steps += self._add("text", chunk.content)
        for call in chunk.tool_calls:
            if self.called and self._one_call:
                continue
            self.called = True
            steps += self._call(call)
        return steps

    def close(self) -> list[Step]:
        """The end of the block that is open, if one is."""
        if not self._open:
            return []
        self._open = False
        return [self._step("stop")]

    def _add(self, kind: Kind, text: str) -> list[Step]:
        steps: list[Step] = []
        if not self._open or self.blocks[-1].kind != kind:
            steps += self._begin(Block(kind=kind))
        self.blocks[-1].pieces.append(text)
        return [*steps, self._step("delta", text)]

    def _call(self, call: dict[str, Any]) -> list[Step]:
        function = call["function"]
        arguments = function.get("arguments") or {}
        begun = self._begin(
            Block(
                kind="tool_use",
                call_id=call["id"],
                name=function["name"],
                arguments=arguments,
            )
        )
        return [*begun, self._step("delta", orjson.dumps(arguments).decode()), *self.close()]

    def _begin(self, block: Block) -> list[Step]:
        steps = self.close()
        self.blocks.append(block)
        self._open = True
        return [*steps, self._step("start")]

    def _step(self, what: Literal["start", "delta", "stop"], piece: str = "") -> Step:
        return Step(what=what, index=len(self.blocks) - 1, block=self.blocks[-1], piece=piece)
