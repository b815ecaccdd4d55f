"""Short names for RKLLM files: `Qwen2.5-3B-Instruct-rk3588-w8a8-opt-1-hybrid-ratio-0.5` is `qwen2.5:3b`.

The family is what stands before the count of parameters, which is the tag. Where that name means
another model already, the tag grows by what the file name says, in this order, and always by all of
it so far:

    qwen2.5:3b
    qwen2.5:3b-w8a8                         quantisation
    qwen2.5:3b-w8a8-opt1                    optimisation level
    qwen2.5:3b-w8a8-opt1-hybrid0.5          hybrid ratio
    qwen2.5:3b-w8a8-opt1-hybrid0.5-2        a number

A file name that says no size has no short name: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rkllama_board import FACTS
from rkllama_protocol.names import InvalidNameError, ModelName

ENDING = ".rkllm"
NUMBERS = range(2, 100)

_SIZE = re.compile(r"(?:\d+x|e)?\d+(?:\.\d+)?[bm]")
_COUNT = re.compile(r"(\d+x)?(\d+(?:\.\d+)?[bm])")
_SIZE_WORDS = frozenset({"nano", "tiny", "mini", "small", "medium", "large"})
_VERSION = re.compile(r"v?\d+(?:\.\d+)*n?")
_CHIPS = frozenset(part for facts in FACTS.values() for part in facts.parts)
_NOISE = _CHIPS | {"meta", "instruct", "chat", "it", "rkllm", "rk"}
"""Words that are no part of a family."""

_QUANTISATION = re.compile(r"(?<![a-z0-9])(w\d+a\d+)(?:[_-](g\d+))?(?![a-z0-9])")
_OPTIMISATION = re.compile(r"(?<![a-z0-9])opt[_-]?(\d)(?!\d|\.\d)")
_HYBRID = re.compile(r"(?<![a-z0-9])hybrid[_-]?(?:ratio)?[_-]?(\d+(?:\.\d+)?)")
_DECIMAL = re.compile(r"(?<=\d)_(?=\d+b(?![a-z0-9]))")


def candidates(file_name: str) -> Iterator[ModelName]:
    """The short names that this file can have, best first; none for what is no RKLLM file."""
    if not file_name.lower().endswith(ENDING):
        return
    stem = _stem(file_name)
    family, size = _family_and_size(_words(stem))
    if not family or not size:
        return
    tag = size
    yield from _named(family, tag)
    for detail in _details(stem):
        tag += f"-{detail}"
        yield from _named(family, tag)
    for number in NUMBERS:
        yield from _named(family, f"{tag}-{number}")


def choose(file_name: str, *, is_free: Callable[[ModelName], bool]) -> ModelName | None:
    """The best of the `candidates` that is free, if there is one."""
    return next((name for name in candidates(file_name) if is_free(name)), None)


def quantisation(file_name: str) -> str:
    """What an RKLLM file's name says about its weights, such as `w8a8_g128`, or empty."""
    match = _QUANTISATION.search(file_name.lower())
    return "_".join(part for part in match.groups() if part) if match else ""


def optimisation(file_name: str) -> int | None:
    """The optimisation level that a file's name says, or None."""
    match = _OPTIMISATION.search(file_name.lower())
    return int(match[1]) if match else None


def hybrid_ratio(file_name: str) -> float | None:
    """The share of groups in higher precision that a file's name says, or None."""
    match = _HYBRID.search(file_name.lower())
    return float(match[1]) if match else None


def parameter_size(file_name: str) -> str:
    """The count of parameters that an RKLLM file's name says, as `1.5B` or `8x7B`, or empty.

    `E2B` is none: so makers call a model that has more parameters than it uses at once.
    """
    _, size = _family_and_size(_words(_stem(file_name)))
    match = _COUNT.fullmatch(size)
    return f"{match[1] or ''}{match[2].upper()}" if match else ""


def _stem(file_name: str) -> str:
    stem = file_name.rsplit("/", 1)[-1].lower().removesuffix(ENDING)
    return _DECIMAL.sub(".", stem)


def _words(stem: str) -> list[str]:
    return re.split(r"[-_ ]+", stem)


def _details(stem: str) -> Iterator[str]:
    if quantised := quantisation(stem):
        yield quantised
    if (level := optimisation(stem)) is not None:
        yield f"opt{level}"
    if (ratio := hybrid_ratio(stem)) is not None:
        yield f"hybrid{ratio:g}"


def _family_and_size(words: list[str]) -> tuple[str, str]:
    at = next((at for at, word in enumerate(words) if _SIZE.fullmatch(word)), None)
    if at is None:
        at = next((at for at, word in enumerate(words) if word in _SIZE_WORDS), None)
    if at is None:
        return "", ""
    family: list[str] = []
    for word in words[:at]:
        if word.startswith("distill"):
            # DeepSeek-R1-Distill-Qwen-1.5B: whose shape it has is no part of what it is called.
            break
        if word in _NOISE or _QUANTISATION.fullmatch(word):
            continue
        if family and _VERSION.fullmatch(word) and not family[-1][-1].isdigit():
            family[-1] += word.removeprefix("v")
        elif word:
            family.append(word)
    return "-".join(family), words[at]


def _named(family: str, tag: str) -> Iterator[ModelName]:
    try:
        yield ModelName.parse(f"{family}:{tag}")
    except InvalidNameError:
        # Too long, or letters that names do not have.
        return
