"""A conversation as Hugging Face chat templates read it, calls of tools and their results above all.

    client                                        template
    call    id and index, or neither              id, always; name; arguments as an object
    result  tool_call_id, tool_name, or neither   tool_call_id and name, of the call that it answers
    answer  thinking apart, or in its tags        reasoning_content; no tags before the last user's turn

What templates do with calls differs, and some cannot do it at all in the usual shape: a `CallShape` says
what one needs, found by trying (`call_shape`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.messages import ChatMessage, Job
from rkllama_protocol.templates import ThinkingTags

Shaped = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallShape:
    """What a template needs of messages with calls; by default what transformers documents."""

    one_by_one: bool = False
    """A call a message (Llama 3 refuses more)."""
    short_ids: bool = False
    """Ids of nine letters and digits (Mistral)."""
    no_content: bool = False
    """None, where nothing was said beside the calls (DeepSeek R1)."""
    text_arguments: bool = False
    """Arguments as JSON text (DeepSeek R1)."""


_NEEDLE = {"name": "needle_in_haystack", "arguments": {"sharp": "very_sharp"}}
_TRIAL = (
    ChatMessage(role="user", content="Look."),
    ChatMessage(
        role="assistant",
        tool_calls=(
            {"id": "call_00000000", "function": _NEEDLE},
            {"id": "call_11111111", "function": _NEEDLE},
        ),
    ),
    ChatMessage(role="tool", content="found", tool_call_id="call_00000000"),
    ChatMessage(role="tool", content="found", tool_call_id="call_11111111"),
)


def call_shape(render: Callable[[list[Shaped]], str]) -> CallShape:
    """The plainest shape in which a template, given as what renders it, shows two calls and all of them."""
    for text, none, short, single in product((False, True), repeat=4):
        shape = CallShape(one_by_one=single, short_ids=short, no_content=none, text_arguments=text)
        shown = _tried(render, shape)
        if shown is None:
            continue
        # Some make an empty turn of the empty text.
        emptier = replace(shape, no_content=True)
        other = _tried(render, emptier)
        return emptier if other is not None and len(other) < len(shown) else shape
    return CallShape()


def _tried(render: Callable[[list[Shaped]], str], shape: CallShape) -> str | None:
    try:
        shown = render(shaped(_TRIAL, shape))
    except InvalidJobError:
        return None
    whole = min(shown.count("needle_in_haystack"), shown.count("very_sharp")) >= 2
    return shown if whole else None


def shaped(
    messages: Sequence[ChatMessage],
    shape: CallShape,
    tags: ThinkingTags | None = None,
) -> list[Shaped]:
    """The messages as a template reads them; fields that are empty are left out."""
    last_asked = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    ids = _Ids(short=shape.short_ids)
    out = []
    for i, message in enumerate(messages):
        content = message.content
        if tags is not None and i < last_asked and message.role == "assistant":
            content = without_thinking(content, tags)
        out.append(_shaped(message, content, shape, ids))
    return _one_by_one(out) if shape.one_by_one else out


def without_thinking(content: str, tags: ThinkingTags) -> str:
    """An earlier answer whose thinking the client sent back inside its tags (contract 2.8)."""
    pattern = rf"\s*{re.escape(tags.open)}.*?{re.escape(tags.close)}\s*"
    return re.sub(rf"\A{pattern}", "", content, flags=re.DOTALL)


def thinking_variables(job: Job, template: str, tags: ThinkingTags | None) -> dict[str, object]:
    """What templates of thinking models ask for. Unsaid, such a model thinks (contract 2.7)."""
    think = job.think
    if think is None:
        return {"enable_thinking": True, "thinking": True} if tags else {}
    if think is False:
        return {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
    on: dict[str, object] = {"enable_thinking": True, "thinking": True}
    if isinstance(think, str):
        known = re.search(rf"['\"]{re.escape(think)}['\"]", template) is not None
        # Ollama has one level more than most templates, some of which refuse what they do not know.
        on["reasoning_effort"] = "high" if think == "max" and not known else think
    return on


def _shaped(message: ChatMessage, content: str, shape: CallShape, ids: _Ids) -> Shaped:
    out: Shaped = {"role": message.role, "content": content}
    if message.images:
        images = [{"type": "image"} for _ in message.images]
        out["content"] = [*images, {"type": "text", "text": content}]
    if message.thinking:
        out["reasoning_content"] = message.thinking
    if message.tool_calls:
        out["tool_calls"] = [_call(call, shape, ids) for call in message.tool_calls]
        if shape.no_content and not out["content"]:
            out["content"] = None
    if message.tool_name:
        out["name"] = message.tool_name
    if message.role == "tool":
        out["tool_call_id"], name = ids.answered(message)
        if name:
            out["name"] = name
    return out


def _call(call: Mapping[str, Any], shape: CallShape, ids: _Ids) -> Shaped:
    function = call.get("function", {})
    name, arguments = function.get("name", ""), function.get("arguments", {})
    text = json.dumps(arguments, ensure_ascii=False)
    return {
        "type": "function",
        "id": ids.called(str(call.get("id") or ""), name, text),
        "function": {"name": name, "arguments": text if shape.text_arguments else arguments},
    }


class _Ids:
    """Which result belongs to which call; calls without an id get one."""

    def __init__(self, *, short: bool) -> None:
        self._short = short
        self._given: set[str] = set()
        self._names: dict[str, str] = {}
        self._open: list[str] = []
        """Calls that have no result, in their order."""

    def called(self, call_id: str, name: str, arguments: str) -> str:
        """The id of a call."""
        if not call_id:
            # Made of what was called, so that it stays the same when older messages are dropped.
            call_id, again = _digest(f"{name} {arguments}"), 0
            while call_id in self._given:
                call_id, again = _digest(f"{name} {arguments} {again}"), again + 1
        self._given.add(call_id)
        self._names[call_id] = name
        self._open.append(call_id)
        return self._written(call_id)

    def answered(self, result: ChatMessage) -> tuple[str, str]:
        """The id and the name of the call that a result answers."""
        call_id = result.tool_call_id
        if call_id not in self._names:
            alike = (one for one in self._open if result.tool_name in ("", self._names[one]))
            call_id = next(alike, call_id)
        if call_id in self._open:
            self._open.remove(call_id)
        name = result.tool_name or self._names.get(call_id, "")
        return self._written(call_id or _digest(result.content)), name

    def _written(self, call_id: str) -> str:
        if not self._short or re.fullmatch("[A-Za-z0-9]{9}", call_id):
            return call_id
        return _digest(call_id)


def _digest(text: str) -> str:
    """Nine letters and digits."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:9]


def _one_by_one(messages: list[Shaped]) -> list[Shaped]:
    """Each call a message of its own, with its result behind it."""
    out: list[Shaped] = []
    waiting: list[Shaped] = []
    for message in messages:
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            own = [i for i, one in enumerate(waiting) if one["tool_calls"][0]["id"] == call_id]
            if own:
                out.append(waiting.pop(own[0]))
            out.append(message)
            continue
        out += waiting
        calls = message.get("tool_calls", ())
        if not calls:
            out.append(message)
        waiting = [
            message | {"tool_calls": [call]} if i == 0 else _only(message, call)
            for i, call in enumerate(calls)
        ]
    return out + waiting


def _only(message: Shaped, call: Shaped) -> Shaped:
    content = None if message["content"] is None else ""
    return {"role": message["role"], "content": content, "tool_calls": [call]}
