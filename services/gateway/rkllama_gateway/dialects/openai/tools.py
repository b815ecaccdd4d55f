"""Which tools a model is told of, and which of them it has to call.

    tool_choice  none                        no tools
                 auto, or nothing            all; it calls them or not
                 required                    all; it calls one of them
                 {"function": {"name"}}      all; it calls this one
                 {"allowed_tools": {...}}    these; `mode` says auto or required

The last two stand on the outer level in `/v1/responses`. Ollama ignores all of it (contract 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote

Tool = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """What comes of tools and the choice among them."""

    tools: tuple[Tool, ...]
    forced: tuple[str, ...] = ()
    """Names; the answer is a call of one of them."""


def named(given: Iterable[Tool]) -> tuple[Tool, ...]:
    """The tools of a chat; nothing in their place is none.

    Raises:
        DialectError: One is no function, or has no name, so that it could never be called.
    """
    tools = []
    for at, tool in enumerate(given):
        if not tool:
            continue
        if (kind := tool.get("type") or "function") != "function":
            raise unsupported(at, kind)
        if not name_of(tool):
            raise nameless(at)
        tools.append(tool)
    return tuple(tools)


def unsupported(at: int, kind: str) -> DialectError:
    """The refusal of a tool of a kind that is not known here."""
    return DialectError(400, f"tools[{at}]: unsupported tool type: {quote(kind)}")


def nameless(at: int) -> DialectError:
    """The refusal of a tool that cannot be called."""
    return DialectError(400, f"tools[{at}]: a tool has no name")


def name_of(tool: Tool) -> str:
    """A tool's name, in the shape that templates print."""
    function = tool.get("function") or {}
    name: str = function.get("name") or ""
    return name


def offered(tools: tuple[Tool, ...], choice: object) -> Offered:
    """The tools after the choice.

    Raises:
        DialectError: The choice is none, or names a tool that is not there.
    """
    match choice:
        case None | "auto":
            return Offered(tools)
        case "none":
            return Offered(())
        case "required":
            return Offered(tools, _forced(tools))
        case {"type": "function", "function": {"name": str(name)}} | {
            "type": "function",
            "name": str(name),
        }:
            return Offered(tools, _forced(_among(tools, [name])))
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": str(mode), "tools": list(allowed)},
        } | {
            "type": "allowed_tools",
            "mode": str(mode),
            "tools": list(allowed),
        } if mode in ("auto", "required"):
            left = _among(tools, map(_allowed_name, allowed))
            return Offered(left, _forced(left) if mode == "required" else ())
        case _:
            raise DialectError(
                400, 'invalid tool_choice (must be "none", "auto", "required", or name a function)'
            )


def _forced(tools: tuple[Tool, ...]) -> tuple[str, ...]:
    if not tools:
        raise DialectError(400, "tool_choice asks for a call, but there are no tools")
    return tuple(map(name_of, tools))


def _among(tools: tuple[Tool, ...], names: Iterable[str]) -> tuple[Tool, ...]:
    wanted = set(names)
    if missing := wanted - set(map(name_of, tools)):
        raise DialectError(400, f"tool_choice names no tool: {quote(min(missing))}")
    return tuple(tool for tool in tools if name_of(tool) in wanted)


def _allowed_name(tool: object) -> str:
    match tool:
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            raise DialectError(400, "invalid tool_choice: an allowed tool has no name")
