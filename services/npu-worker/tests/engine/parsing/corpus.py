"""What models really say, written out, and what it means: the files in `outputs/`.

=== a title            --- thinking, --- content    what each of them is; nothing if left out
the output             --- same                     the content is the output
                       --- calls                    a line each: the name, then the arguments as JSON
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "outputs"
TEMPLATES = {
    "hermes": "<tool_call> </tool_call>",
    "coder": "<tool_call> <function= </tool_call>",
    "llama": "<|python_tag|>",
    "mistral": "[TOOL_CALLS]",
    "generic": "",
    "thinking": "<tool_call> </tool_call> <think> </think>",
}
"""What the parser goes by in each family's chat template."""


def _tool(name: str, /, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TEXT = {"type": "string"}
TOOLS = (
    _tool("get_weather", city=TEXT, days={"type": "integer"}),
    _tool("get_time", zone=TEXT),
    _tool("get_timer", name=TEXT),
    _tool("set_timer", at={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    _tool("search", query=TEXT, limit={"type": "integer"}, filters={"type": "object"}),
    _tool("write_file", path=TEXT, content=TEXT),
    _tool("run_python", code=TEXT),
    _tool(
        "set_light",
        room=TEXT,
        brightness={"type": "number"},
        color={"type": ["string", "null"]},
    ),
    _tool("send_message", to={"type": "array"}, body=TEXT, urgent={"type": "boolean"}),
    _tool("calculate", a={"type": "number"}),
    {"type": "function", "function": {"name": "list_devices"}},
)


@dataclass(frozen=True)
class Output:
    """One output and what it means."""

    family: str
    title: str
    text: str
    thinking: str = ""
    content: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()

    def __str__(self) -> str:
        return f"{self.family}: {self.title}"


def outputs() -> list[Output]:
    """All of them."""
    return [output for family in TEMPLATES for output in _read(family)]


def _read(family: str) -> list[Output]:
    text = (FOLDER / f"{family}.txt").read_text(encoding="utf-8").removesuffix("\n")
    blocks = ("\n" + text).split("\n=== ")
    return [_parsed(family, block) for block in blocks[1:]]


def _parsed(family: str, block: str) -> Output:
    title, _, rest = block.partition("\n")
    parts = ("\n" + rest).split("\n--- ")
    text = parts[0].removeprefix("\n")
    fields: dict[str, Any] = {}
    for part in parts[1:]:
        kind, _, value = part.partition("\n")
        match kind:
            case "same":
                fields["content"] = text
            case "thinking" | "content":
                fields[kind] = value
            case "calls":
                lines = (line.split(" ", 1) for line in value.split("\n"))
                fields["calls"] = tuple((name, json.loads(said)) for name, said in lines)
            case _:
                raise ValueError(f"{family}, {title}: what is {kind!r}?")
    return Output(family, title, text, **fields)
