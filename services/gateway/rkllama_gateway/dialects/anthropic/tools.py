"""Tools as templates print them, and what comes of the choice among them.

`any` and `tool` force a call, which Ollama does not (contract 4); `none` leaves the tools away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote

Tool = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The tools that the model gets."""

    tools: tuple[Tool, ...] = ()
    forced: tuple[str, ...] = ()
    """Names; the answer is a call of one of them."""
    one_call: bool = False
    """Whether only the first call counts."""


def offered(given: Sequence[Mapping[str, Any]], choice: Mapping[str, Any] | None) -> Offered:
    """The tools after the choice.

    Raises:
        DialectError: A tool has no name or is one of Anthropic's own servers, or the choice is none
            that can be made.
    """
    tools = tuple(map(_tool, given))
    choice = choice or {}
    one_call: bool = choice.get("disable_parallel_tool_use", False)
    match choice.get("type", "") or "auto":
        case "auto":
            return Offered(tools=tools, one_call=one_call)
        case "none":
            return Offered()
        case "any":
            if not tools:
                raise DialectError(400, "tool_choice asks for a call, but there are no tools")
            forced = tuple(tool["function"]["name"] for tool in tools)
            return Offered(tools=tools, forced=forced, one_call=one_call)
        case "tool":
            name = choice.get("name", "")
            if name not in (tool["function"]["name"] for tool in tools):
                raise DialectError(400, f"tool_choice names no tool: {quote(name)}")
            return Offered(tools=tools, forced=(name,), one_call=one_call)
        case other:
            raise DialectError(
                400,
                f'invalid tool_choice type: {quote(other)} (must be "auto", "any", "tool", or "none")',
            )


def _tool(given: Mapping[str, Any]) -> Tool:
    kind = given.get("type", "")
    if kind not in ("", "custom"):
        raise DialectError(400, f"tools: type {quote(kind)} is not supported by this server")
    if not given.get("name"):
        raise DialectError(400, "tools: a tool has no name")
    schema = {"type": "object", "properties": {}} | given.get("input_schema", {})
    described = {"description": given["description"]} if given.get("description") else {}
    function = {"name": given["name"], **described, "parameters": schema}
    return {"type": "function", "function": function}
