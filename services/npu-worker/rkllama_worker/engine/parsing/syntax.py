"""How a model marks its calls, by what its chat template shows.

    mark                  calls behind it
    <tool_call>           JSON, or functions where the template shows those    Qwen, Hermes, SmolLM, Granite
    <function=            functions                                            Qwen 3 Coder without its mark
    <|python_tag|>        JSON                                                 Llama 3
    [TOOL_CALLS]          JSON, or a name and JSON                             Mistral
    <|tool_call|>, ...    JSON                                                 Phi 4 mini, Nemotron, Seed-OSS

Every model may also leave the mark out and begin its answer with JSON.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

FUNCTION = "<function="
ARGS = "[ARGS]"
CALL_ID = "[CALL_ID]"
FENCE = "```"


class Mark(NamedTuple):
    """What stands before calls, and what may stand there."""

    open: str
    close: str = ""
    """Behind them; empty if there is nothing."""
    named: bool = False
    functions: bool = False


_MARKS = (
    Mark("<tool_call>", "</tool_call>", functions=True),
    Mark("<seed:tool_call>", "</seed:tool_call>", functions=True),
    Mark("<|tool_call|>", "<|/tool_call|>"),
    Mark("<TOOLCALL>", "</TOOLCALL>"),
    Mark("<|python_tag|>"),
    Mark("[TOOL_CALLS]", named=True),
)


def marks_of(template: str) -> tuple[Mark, ...]:
    """The marks that a model with this chat template uses; none if it shows none."""
    functions = FUNCTION in template
    found = [
        mark._replace(functions=mark.functions and functions)
        for mark in _MARKS
        if mark.open in template
    ]
    if functions:
        # Forgotten by the models themselves now and then, where the closing mark is not.
        closes = [mark.close for mark in found if mark.functions]
        found.append(Mark(FUNCTION, closes[0] if closes else ""))
    return tuple(found)


def words_of(marks: tuple[Mark, ...]) -> AbstractSet[str]:
    """Every text that parsing them depends on; some tokenizers take it for special tokens."""
    words = {word for mark in marks for word in (mark.open, mark.close) if word}
    return words | ({ARGS, CALL_ID} if any(mark.named for mark in marks) else set())
