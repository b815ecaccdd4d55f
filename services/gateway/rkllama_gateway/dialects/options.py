"""`options` of a request and PARAMETERs of a model, typed, merged and turned into a job's fields.

Integers take any number and drop its fraction, a wrong type is Ollama's own 500, a name that Ollama
does not know is ignored, `null` is unset (contract 1.8). What tunes Ollama's engine and has no
meaning on an NPU (`num_gpu`, `use_mmap`, ...) is checked and then dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rkllama_protocol.messages import ResolvedModel, Sampling

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote

SMALLEST_CONTEXT = 4
SMALLEST_VISION_CONTEXT = 2048
NUM_KEEP = 4

_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT32 = 3.4028234663852886e38


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the options say about a run."""

    sampling: Sampling
    asked: tuple[str, ...]
    """Fields of `sampling` that the request or the model set."""
    num_predict: int
    num_keep: int
    num_ctx: int | None
    """What the model is loaded with."""
    asked_ctx: int | None
    """What was asked for, which may be less than any model is loaded with."""
    stop: tuple[str, ...]


def run_options(
    requested: Mapping[str, Any], model: ResolvedModel, *, seed: int, context_length: int
) -> RunOptions:
    """Request before model before server before default; `stop` is replaced, not merged.

    `seed` is taken where neither request nor model has one; a negative one means "any". So is
    `context_length`, for `num_ctx`; 0 means that the server has none.

    Raises:
        DialectError: 500, as Ollama has it, for an option of the wrong type.
    """
    served = {"num_ctx": context_length} if context_length else {}
    chosen = served | _typed(model.parameters) | _typed(requested)
    sampling = {name: chosen[name] for name in Sampling.model_fields.keys() & chosen.keys()}
    if sampling.get("seed", 0) < 0:
        # Any seed is as good as another: nothing is asked.
        del sampling["seed"]
    return RunOptions(
        sampling=Sampling(**{"seed": seed, **sampling}),
        asked=tuple(sorted(sampling)),
        num_predict=max(chosen.get("num_predict", -1), -1),
        num_keep=chosen.get("num_keep", NUM_KEEP),
        num_ctx=_context(chosen.get("num_ctx"), model),
        asked_ctx=chosen.get("num_ctx"),
        stop=chosen.get("stop", ()),
    )


def _context(wanted: int | None, model: ResolvedModel) -> int | None:
    if wanted is None:
        return None
    vision = "vision" in model.capabilities
    context = max(wanted, SMALLEST_VISION_CONTEXT if vision else SMALLEST_CONTEXT)
    trained = model.details.context_length
    return min(context, trained) if trained else context


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DialectError(500, f"option {quote(name)} must be of type integer")
    return int(max(-_LARGEST_INT, min(value, _LARGEST_INT)))


def _float32(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DialectError(500, f"option {quote(name)} must be of type float32")
    return float(max(-_LARGEST_FLOAT32, min(value, _LARGEST_FLOAT32)))


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise DialectError(500, f"option {quote(name)} must be of type boolean")
    return value


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise DialectError(500, f"option {quote(name)} must be of type array")
    if not all(isinstance(item, str) for item in value):
        raise DialectError(500, f"option {quote(name)} must be of an array of strings")
    return tuple(value)


KINDS: Mapping[str, Callable[[str, Any], Any]] = {
    "num_ctx": _integer,
    "num_batch": _integer,
    "num_gpu": _integer,
    "main_gpu": _integer,
    "use_mmap": _boolean,
    "num_thread": _integer,
    "draft_num_predict": _integer,
    "num_keep": _integer,
    "seed": _integer,
    "num_predict": _integer,
    "top_k": _integer,
    "top_p": _float32,
    "min_p": _float32,
    "typical_p": _float32,
    "repeat_last_n": _integer,
    "temperature": _float32,
    "repeat_penalty": _float32,
    "presence_penalty": _float32,
    "frequency_penalty": _float32,
    "stop": _strings,
}
"""Every option that Ollama knows; names are compared as they are, case included."""


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: KINDS[name](name, value)
        for name, value in options.items()
        if name in KINDS and value is not None
    }
