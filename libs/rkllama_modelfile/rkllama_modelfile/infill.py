"""How a model is asked to fill in what stands between a prompt and a suffix.

By special tokens of its tokenizer, which each family places in its own way; or by a chat template that
has a place for the suffix, which then says everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_IN_TEMPLATE = re.compile(r"\{[{%][^}]*\bsuffix\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Infill:
    """One family's layout: prompt and suffix, with its tokens before, between and behind them."""

    marks: tuple[str, ...]
    """Tokens that a tokenizer of the family has."""
    before: str
    between: str
    behind: str = ""
    suffix_first: bool = False
    ends: tuple[str, ...] = ()
    """Tokens that end the middle, where the tokenizer has them; a model's usual ends do, too."""

    def text(self, prompt: str, suffix: str) -> str:
        """The prompt of a model of this family."""
        first, second = (suffix, prompt) if self.suffix_first else (prompt, suffix)
        return self.before + first + self.between + second + self.behind


def _middle_last(prefix: str, suffix: str, middle: str, *, ends: tuple[str, ...] = ()) -> Infill:
    return Infill(
        marks=(prefix, suffix, middle), before=prefix, between=suffix, behind=middle, ends=ends
    )


FAMILIES = (
    # https://qwenlm.github.io/blog/qwen2.5-coder-family/; CodeGemma has the same (ai.google.dev/gemma).
    _middle_last(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ends=(
            "<|endoftext|>",
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|file_sep|>",
            "<|file_separator|>",
        ),
    ),
    # StarCoder 1 and 2, Granite code, code models of SmolLM's tokenizer (arXiv:2305.06161).
    _middle_last(
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        ends=("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>"),
    ),
    # https://github.com/deepseek-ai/DeepSeek-Coder, "Code Insertion".
    _middle_last(
        "<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"
    ),
    # CodeLlama (arXiv:2308.12950): transformers' CodeLlamaTokenizer, `suffix_first=False`.
    _middle_last("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", ends=("\u2581<EOT>",)),
    # Codestral: mistral-common, `encode_fim`, puts the suffix first.
    Infill(
        marks=("[PREFIX]", "[SUFFIX]"), before="[SUFFIX]", between="[PREFIX]", suffix_first=True
    ),
)


def infill_of(tokens: Collection[str]) -> Infill | None:
    """The layout of the family that a tokenizer's added tokens are of; None if it has no such tokens."""
    return next((family for family in FAMILIES if set(family.marks) <= set(tokens)), None)


def fills_in(template: str) -> bool:
    """Whether a Jinja template has a place for the suffix."""
    return _IN_TEMPLATE.search(template) is not None
