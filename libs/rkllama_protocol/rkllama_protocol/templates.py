"""What a chat template shows of its model: whether it reads tools, and how it marks its thinking.

The store tells clients what a model can do, and a worker parses what it says; both go by this.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class ThinkingTags(NamedTuple):
    """What stands around a model's thinking."""

    open: str
    close: str


TAGS = (
    ThinkingTags("<think>", "</think>"),  # Qwen 3, DeepSeek R1, SmolLM 3 and most others
    ThinkingTags("<thinking>", "</thinking>"),
    ThinkingTags("<thought>", "</thought>"),  # EXAONE Deep
    ThinkingTags("<reasoning>", "</reasoning>"),
    ThinkingTags("<seed:think>", "</seed:think>"),  # Seed-OSS
    ThinkingTags("[THINK]", "[/THINK]"),  # Magistral, Ministral 3
    ThinkingTags("<|channel>thought", "<channel|>"),  # Gemma 4
    ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B
    ThinkingTags("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
    ThinkingTags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ThinkingTags("◁think▷", "◁/think▷"),  # Kimi-VL
)

_LITERAL = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_COMMENTS = re.compile(r"\{#.*?#\}", re.DOTALL)
_BLOCKS = re.compile(rf"\{{[{{%](?:{_LITERAL}|[^'\"])*?[%}}]\}}", re.DOTALL)
_LITERALS = re.compile(_LITERAL, re.DOTALL)
_TOOLS = re.compile(r"(?<![.\w])tools\b")


def thinking_tags(template: str) -> ThinkingTags | None:
    """The tags of a model with this chat template, or None if it shows none.

    The closing one is evidence enough: some templates only cut it off earlier answers.
    """
    return next((tags for tags in TAGS if tags.close in template), None)


def thinks(template: str) -> bool:
    """Whether the template shows both tags, as a model does that can be told to think (contract 6.2)."""
    tags = thinking_tags(template)
    return tags is not None and tags.open in template


def reads_tools(template: str) -> bool:
    """Whether the template does anything with the variable `tools`.

    Those that only print earlier calls never tell the model which tools there are.
    """
    blocks = " ".join(_BLOCKS.findall(_COMMENTS.sub("", template)))
    return _TOOLS.search(_LITERALS.sub("''", blocks)) is not None
