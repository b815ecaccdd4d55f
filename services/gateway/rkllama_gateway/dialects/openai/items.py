"""The output of a response: items that grow as chunks come (contract 3.5).

    {"id":"rs_..","type":"reasoning","summary":[{"type":"summary_text","text":".."}]}
    {"id":"msg_..","type":"message","content":[{"type":"output_text","text":".."}]}
    {"id":"fc_..","type":"function_call","call_id":"call_..","name":"..","arguments":".."}

Each step gives the events that tell it, by name, without what is the same in all events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.openai.answers import logprob, told_calls

Event = tuple[str, dict[str, Any]]


class Items:
    """The items of one response, in order; at most the last of them is open."""

    def __init__(
        self, job_id: str, namespaces: Mapping[str, tuple[str, str]], *, one_call: bool = False
    ) -> None:
        """`namespaces` says which names of tools stand for a namespace and a name in it.

        `one_call` drops every call but the first.
        """
        self._job_id = job_id
        self._namespaces = namespaces
        self._one_call = one_call
        self._items: list[dict[str, Any]] = []
        self._open: _Growing | None = None
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        """Not told yet: a token's text may come only with a later one."""

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items, those that are closed."""
        return list(self._items)

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """Take in what is to be seen of a chunk."""
        self._logprobs += map(logprob, chunk.logprobs)
        if chunk.thinking:
            yield from self._grow("reasoning", chunk.thinking)
        if chunk.content:
            yield from self._grow("message", chunk.content)
        for call in told_calls(chunk, self._calls, one_call=self._one_call):
            yield from self.close("completed")
            yield from self._call(call)

    def end(self, status: str) -> Iterator[Event]:
        """Close what is open; a response without any text has a message without any."""
        if self._open is None and all(item["type"] == "reasoning" for item in self._items):
            yield from self._grow("message", "")
        yield from self.close(status)

    def close(self, status: str) -> Iterator[Event]:
        """The open item, if there is one, is at its end."""
        if self._open is None:
            return
        growing, self._open = self._open, None
        at = len(self._items)
        yield from growing.ended(at)
        item = growing.item(status)
        self._items.append(item)
        yield "response.output_item.done", {"output_index": at, "item": item}

    def _grow(self, kind: str, text: str) -> Iterator[Event]:
        if self._open is not None and self._open.kind != kind:
            yield from self.close("completed")
        at = len(self._items)
        if self._open is None:
            self._open = _Growing(kind, self._id(kind))
            yield from self._open.begun(at)
        # Those of thoughts are in no event.
        logprobs, self._logprobs = self._logprobs, []
        yield from self._open.grown(at, text, logprobs)

    def _call(self, call: dict[str, Any]) -> Iterator[Event]:
        function = call["function"]
        arguments = orjson.dumps(function.get("arguments", {})).decode()
        space, name = self._namespaces.get(function["name"], ("", function["name"]))
        item = {
            "id": f"fc_{self._job_id}_{len(self._calls)}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call["id"],
            "name": name,
            "arguments": "",
            **({"namespace": space} if space else {}),
        }
        self._calls.append(call)
        at = len(self._items)
        place = {"item_id": item["id"], "output_index": at}
        yield "response.output_item.added", {"output_index": at, "item": item}
        yield "response.function_call_arguments.delta", place | {"delta": arguments}
        done = place | {"name": name, "arguments": arguments}
        yield "response.function_call_arguments.done", done
        item = item | {"status": "completed", "arguments": arguments}
        self._items.append(item)
        yield "response.output_item.done", {"output_index": at, "item": item}

    def _id(self, kind: str) -> str:
        prefix = "rs" if kind == "reasoning" else "msg"
        # A model may think, or talk, more than once.
        again = sum(item["type"] == kind for item in self._items)
        return f"{prefix}_{self._job_id}" + (f"_{again}" if again else "")


class _Growing:
    """A reasoning or a message whose text is not all there."""

    def __init__(self, kind: str, item_id: str) -> None:
        self.kind = kind
        self.logprobs: list[dict[str, Any]] = []
        self._id = item_id
        self._text: list[str] = []

    def begun(self, at: int) -> Iterator[Event]:
        yield (
            "response.output_item.added",
            {"output_index": at, "item": self._item("in_progress", [])},
        )
        if self.kind == "message":
            yield "response.content_part.added", self._place(at) | {"part": self._part("", [])}

    def grown(self, at: int, text: str, logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        self._text.append(text)
        if self.kind == "reasoning":
            delta = self._place(at) | {"delta": text}
            yield "response.reasoning_summary_text.delta", delta
        elif text:
            self.logprobs += logprobs
            told = self._place(at) | {"delta": text, "logprobs": logprobs}
            yield "response.output_text.delta", told

    def ended(self, at: int) -> Iterator[Event]:
        text = "".join(self._text)
        if self.kind == "reasoning":
            yield "response.reasoning_summary_text.done", self._place(at) | {"text": text}
            return
        told = self._place(at) | {"text": text, "logprobs": self.logprobs}
        yield "response.output_text.done", told
        yield (
            "response.content_part.done",
            self._place(at) | {"part": self._part(text, self.logprobs)},
        )

    def item(self, status: str) -> dict[str, Any]:
        text = "".join(self._text)
        if self.kind == "reasoning":
            return self._item(status, [{"type": "summary_text", "text": text}])
        return self._item(status, [self._part(text, self.logprobs)])

    def _item(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        item = {"id": self._id, "type": self.kind, "status": status}
        if self.kind == "reasoning":
            return item | {"summary": parts}
        return item | {"role": "assistant", "content": parts}

    def _place(self, at: int) -> dict[str, Any]:
        index = "summary_index" if self.kind == "reasoning" else "content_index"
        return {"item_id": self._id, "output_index": at, index: 0}

    def _part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
