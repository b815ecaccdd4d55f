"""Ollama's own variables, where they mean something here: each stands in for one of ours.

Ours comes first, where both are set. As in Ollama, values are trimmed of blanks and quotes, and one that
does not fit is as if it were not there (contract 5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

FOREVER_S = -1.0
NEVER_S = 365 * 24 * 3600.0
"""A time that is not waited for."""
LARGEST = 2**31 - 1

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_STEP = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:{_STEP.pattern})+")
_SECONDS = re.compile(r"[+-]?[0-9]{1,18}")
_OFF = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def seconds(text: str) -> float | None:
    """Seconds of a Go duration (`1h30m`), or of a whole number; None if it is neither."""
    if _SECONDS.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    return -total if text.startswith("-") else total


def _keep_alive(text: str) -> float | None:
    value = seconds(text)
    return FOREVER_S if value is not None and value < 0 else value


def _load_timeout(text: str) -> float | None:
    value = seconds(text)
    return NEVER_S if value is not None and value <= 0 else value


def _count(text: str) -> int | None:
    return min(int(text), LARGEST) if text.isascii() and text.isdigit() else None


def _at_least_one(text: str) -> int | None:
    return _count(text) or None


def _flag(text: str) -> bool:
    """Any text that is neither on nor off is on."""
    return text not in _OFF


STAND_INS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "OLLAMA_CONTEXT_LENGTH": ("RKLLAMA_GATEWAY_CONTEXT_LENGTH", _count),
    "OLLAMA_DEBUG": ("RKLLAMA_DEBUG", _flag),
    "OLLAMA_KEEP_ALIVE": ("RKLLAMA_WORKER_KEEP_ALIVE_S", _keep_alive),
    "OLLAMA_LOAD_TIMEOUT": ("RKLLAMA_WORKER_LOAD_TIMEOUT_S", _load_timeout),
    "OLLAMA_MAX_LOADED_MODELS": ("RKLLAMA_WORKER_MAX_MODELS", _count),
    "OLLAMA_MAX_QUEUE": ("RKLLAMA_GATEWAY_MAX_WAITING", _at_least_one),
    "OLLAMA_ORIGINS": ("RKLLAMA_GATEWAY_ORIGINS", str),
}
"""Ollama's variable to ours, and what its text means there; None is as if it were not set."""


def stand_ins(environ: Mapping[str, str], prefix: str, fields: Collection[str]) -> dict[str, Any]:
    """What Ollama's variables say of those of `fields` whose own variable, `prefix` and name, is not set."""
    ours = {name.upper() for name in environ}
    found: dict[str, Any] = {}
    for name, (variable, meaning) in STAND_INS.items():
        text = environ.get(name, "").strip().strip("\"'")
        field = variable.removeprefix(prefix).lower()
        if not text or variable in ours or field not in fields:
            continue
        value = meaning(text)
        if value is not None:
            found[field] = value
    return found
