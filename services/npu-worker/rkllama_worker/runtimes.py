"""Which runtimes this machine can offer, found without loading any of them."""

from __future__ import annotations

import ctypes.util
import importlib.util
from enum import StrEnum

from rkllama_service.process import SetupError


class RuntimeChoice(StrEnum):
    """What the operator asks for."""

    AUTO = "auto"
    RKLLM = "rkllm"
    CPU = "cpu"


def _why_no_cpu() -> str:
    if importlib.util.find_spec("xllamacpp") is None:
        return "the CPU runtime is not installed (the extra `cpu`)"
    if ctypes.util.find_library("gomp") is None:
        return "the CPU runtime needs the system package libgomp1 (apt install libgomp1)"
    return ""


def offered(choice: RuntimeChoice) -> tuple[str, ...]:
    """The model formats this worker runs.

    Raises:
        SetupError: The runtime asked for, or any at all, is not here; the sentence names the mend.
    """
    if choice is RuntimeChoice.RKLLM:
        raise SetupError("the RKLLM runtime is not part of this build")
    if reason := _why_no_cpu():
        raise SetupError(reason)
    return ("gguf",)
