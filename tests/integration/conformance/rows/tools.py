"""Tool calls, out and in (contract 2.8)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import ABSENT, Match, Partial, both
from tests.integration.conformance.rows.chat import prompt, said_by
from tests.integration.conformance.rows.errors import TOOL
from tests.integration.conformance.shapes import answered, call, chat, chat_stream, refused
from tests.integration.conformance.table import Row, post, row, whole

RICH = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <here> & there",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "$defs": {"unit": {"type": "string"}},
            "properties": {
                "city": {"type": ["string", "null"], "description": "Which"},
                "unit": {"anyOf": [{"type": "string"}, {"type": "integer"}], "enum": ["C", "F"]},
                "deep": {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
            },
        },
    },
}


def asks(content: str, *, tools: Any = (TOOL,), **more: Any) -> Any:
    """A chat with tools."""
    messages = said_by(("user", content))
    return whole("/api/chat", model="tools", messages=messages, tools=list(tools), **more)


def streams(content: str, **more: Any) -> Any:
    """The same, streamed."""
    body = {"model": "tools", "messages": said_by(("user", content)), "tools": [TOOL], **more}
    return post("/api/chat", body)


def tells(*messages: dict[str, Any], **more: Any) -> Any:
    """A conversation with calls in it."""
    question = {"role": "user", "content": "in Paris"}
    return whole("/api/chat", model="tools", messages=[question, *messages], tools=[TOOL], **more)


def called(**function: Any) -> dict[str, Any]:
    """An answer of before, with a call."""
    calls = [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}} | function}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


PARIS, ROME = call("get_weather", {"city": "Paris"}), call("get_weather", {"city": "Rome"}, index=1)
RESULT = {"role": "tool", "content": "22 degrees"}
ANSWER = chat("tools", "It is 22 degrees.")

ROWS: tuple[Row, ...] = (
    row("2.8", "a call", asks("in Paris"), chat("tools", "", tool_calls=[PARIS])),
    row("2.8", "a call's arguments are an object", asks("in Bonn"), chat(
        "tools", "", tool_calls=[call("get_weather", {"city": "Bonn", "days": 3, "deep": {"a": [1]}})])),
    row("2.8", "two calls", asks("in both"), chat("tools", "", tool_calls=[PARIS, ROME])),
    row("2.8", "text before a call", asks("in Oslo"), chat(
        "tools", Match("Let me look. ?"), tool_calls=[call("get_weather", {"city": "Oslo"})])),
    row("2.8", "a call in a stream", streams("in Paris"),
        chat_stream("tools", "", tool_calls=(PARIS,), pieces=0)),
    row("2.8", "two calls in a stream", streams("in both"),
        chat_stream("tools", "", tool_calls=(PARIS, ROME), pieces=0)),
    row("2.8", "text before a call in a stream", streams("in Oslo"), chat_stream(
        "tools", Match("Let me look. ?"), tool_calls=(call("get_weather", {"city": "Oslo"}),))),
    row("2.8", "no call", asks("hi"), chat("tools", "Hello.")),
    row("2.8", "no call in a stream", streams("hi"), chat_stream("tools", "Hello.")),
    row("2.8", "what turns out to be no call is said", asks("half a call"),
        chat("tools", '<tool_call>\n{"name": "no such thing')),
    row("2.8", "what turns out to be no call is said in a stream", streams("half a call"),
        chat_stream("tools", '<tool_call>\n{"name": "no such thing')),
    row("2.8", "JSON is no call", asks("some JSON"), chat("tools", '{"a": [1, 2]} is JSON.')),
    row("2.8", "without tools there are no calls", asks("in Paris", tools=()), answered(Partial({
        "message": Partial({"content": Match(".*get_weather.*"), "tool_calls": ABSENT})}))),
    row("2.8", "calls end with stop", asks("in Paris"), answered(Partial({"done_reason": "stop"}))),
    row("2.8", "tools in the prompt", asks("hi", _debug_render_only=True),
        prompt(Match(r'.*<tools>\n\{"type": "function", "function": \{"name": "get_weather".*'))),
    row("2.8", "all of a tool in the prompt", asks("hi", tools=[RICH], _debug_render_only=True),
        prompt(both(*(Match(f".*{text}.*") for text in (
            r'"\$defs": \{"unit"', r'\["string", "null"\]', '"anyOf"', r'"enum": \["C", "F"\]',
            r'"deep": \{"type": "object"', "<here> & there"))))),
    row("2.8", "no tools in the prompt", asks("hi", tools=(), _debug_render_only=True),
        prompt(Match(r"((?!<tools>).)*"))),
    row("2.8", "a result", tells(called(), RESULT), ANSWER),
    row("2.8", "a result with a name", tells(called(), RESULT | {"tool_name": "get_weather"}), ANSWER),
    row("2.8", "a result with an id", tells(
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "function": {
            "index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}}]},
        RESULT | {"tool_call_id": "call_1"}), ANSWER),
    row("2.8", "calls of before in the prompt", tells(called(), RESULT, _debug_render_only=True),
        prompt(Match(r'.*\{"name": "get_weather", "arguments": \{"city": "Paris"\}\}\n</tool_call><\|im_end\|>\n'
                     r"<\|im_start\|>tool\n22 degrees.*"))),
    row("2.8", "calls as OpenAI shapes them", tells(
        {"role": "assistant", "content": "", "tool_calls": [{"id": "x", "type": "function", "function": {
            "name": "get_weather", "arguments": {"city": "Paris"}}}]}, RESULT), ANSWER),
    row("2.8", "null instead of content beside a call", tells(called() | {"content": None}, RESULT), ANSWER),
    row("2.8", "arguments that are missing", tells(
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather"}}]}, RESULT), ANSWER),
    row("2.8", "a tool's name is a text", asks("hi", tools=[{"type": "function", "function": {"name": 1}}]),
        refused(400, Match(r"json: cannot unmarshal number into Go struct field .*name of type string"))),
    row("2.8", "tools are a list", post("/api/chat", {"model": "tools", "tools": {}}),
        refused(400, "json: cannot unmarshal object into Go struct field ChatRequest.tools of type api.Tools")),
)  # fmt: skip
