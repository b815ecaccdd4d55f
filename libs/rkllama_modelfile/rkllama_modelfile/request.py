"""The body of a `POST /api/create` that a Modelfile asks for; values get their types here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rkllama_modelfile.modelfile import Modelfile, ModelfileError

_INTEGER = re.compile(r"[+-]?[0-9]+")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
# https://semver.org, item 2, 9 and 10; Go's golang.org/x/mod/semver lets the end be left out.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)(\.(0|[1-9]\d*)(\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?",
    re.ASCII,
)

VERSION_CHARS = 64

STOP = "stop"
DEPRECATED = frozenset(
    {
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
    }
)
"""Parameters that Ollama once had: skipped, and warned about (contract 6.1)."""


def _integer(text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) and len(text) < 21 else 2**63
    if not -(2**63) <= value < 2**63:
        raise ModelfileError(f"invalid int value [{text}]")
    return value


def _number(text: str) -> float:
    try:
        # Python would take 1_000, and JSON has no word for infinity.
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ModelfileError(f"invalid float value [{text}]")
    return value


def _flag(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ModelfileError(f"invalid bool value [{text}]")
    return text in _TRUE


_TYPES: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        (
            "num_ctx",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "num_keep",
            "num_predict",
            "draft_num_predict",
            "seed",
            "top_k",
            "repeat_last_n",
            "image_width",
            "image_height",
            "image_tokens",
        ),
        _integer,
    ),
    **dict.fromkeys(
        (
            "temperature",
            "top_p",
            "min_p",
            "typical_p",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
        ),
        _number,
    ),
    **dict.fromkeys(("use_mmap", "think"), _flag),
    **dict.fromkeys(("image_start", "image_end", "image_content"), str),
}


def typed_parameters(parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters with the types that the API wants; `stop` gathers, of the others the last counts.

    Raises:
        ModelfileError: One is unknown, or its value is not of its type.
    """
    found: dict[str, Any] = {}
    for name, text in parameters:
        if name == STOP:
            found.setdefault(STOP, []).append(text)
        elif name in _TYPES:
            found[name] = _TYPES[name](text)
        elif name not in DEPRECATED:
            raise ModelfileError(f"unknown parameter '{name}'")
    return found


def is_version(text: str) -> bool:
    """Whether `text` can stand after REQUIRES: a semantic version, whose end may be left out."""
    return len(text) <= VERSION_CHARS and _SEMVER.fullmatch(text) is not None


def to_create(
    modelfile: Modelfile,
    *,
    files: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The body of a create, but for the new model's name.

    Args:
        modelfile: What is asked for.
        files: The uploaded files that FROM means, name to digest; without any, the body's `from`
            is the last FROM.
        adapters: The uploaded files that ADAPTER means, name to digest.

    Raises:
        ModelfileError: A parameter is unknown or of a wrong type, or REQUIRES is no version.
    """
    if modelfile.requires and not is_version(modelfile.requires):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    body: dict[str, Any] = {}
    if files:
        body["files"] = dict(files)
    elif modelfile.sources:
        body["from"] = modelfile.sources[-1]
    said: dict[str, Any] = {
        "adapters": dict(adapters or {}),
        "template": modelfile.template,
        "system": modelfile.system,
        "license": list(modelfile.licenses),
        "parameters": typed_parameters(modelfile.parameters),
        "messages": [{"role": m.role, "content": m.content} for m in modelfile.messages],
        "renderer": modelfile.renderer,
        "parser": modelfile.parser,
        "requires": modelfile.requires,
        "tokenizer_repo": modelfile.tokenizer_repo,
    }
    return body | {key: value for key, value in said.items() if value}


def warnings(modelfile: Modelfile) -> tuple[str, ...]:
    """What `to_create` leaves out: a sentence for each."""
    names = dict.fromkeys(name for name, _ in modelfile.parameters if name in DEPRECATED)
    return (
        *(f"parameter '{name}' is deprecated and was skipped" for name in names),
        *(
            f"DRAFT {draft} was skipped: there are no draft models here"
            for draft in modelfile.drafts
        ),
        *(f"key {key} means nothing here and was skipped" for key in modelfile.ignored),
    )
