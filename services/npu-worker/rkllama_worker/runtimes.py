"""Which runtimes this machine can offer, found without loading any of them."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from rkllama_board.board import Board
from rkllama_service.process import SetupError
from rkllm_bindings import Identity, LibraryError, find_library, identify

from rkllama_worker.npu import Npu, take

log = logging.getLogger(__name__)


class RuntimeChoice(StrEnum):
    """What the operator asks for."""

    AUTO = "auto"
    RKLLM = "rkllm"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The model formats this worker runs, and the NPU if `rkllm` is among them."""

    formats: tuple[str, ...]
    npu: Npu | None


def why_no_cpu() -> str:
    """Why llama.cpp cannot run here, or empty."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "the CPU runtime is not installed (the extra `cpu`)"
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "the CPU runtime needs the system package libgomp1 (apt install libgomp1)"
    return ""


def offered(
    choice: RuntimeChoice,
    board: Board,
    *,
    library: Path | None,
    abi: str,
    constrained: bool = False,
    saves: bool = False,
) -> Offered:
    """What to offer; `auto` is every runtime that can be loaded. May block for the NPU's lock.

    `constrained` switches the experiment of constrained runs on the NPU on, `saves` the saving of
    conversations there.

    Raises:
        SetupError: The runtime asked for, or any at all, is not here; the sentence names the mend.
    """
    formats: list[str] = []
    npu: Npu | None = None
    reasons: list[str] = []
    if choice is not RuntimeChoice.CPU:
        try:
            identity = _identify(library, abi=abi)
            taken = take(board, identity, abi=abi, explicit=library is not None)
            npu = replace(taken, constrained=constrained, saves=saves)
        except SetupError as error:
            # What was named is meant: it is not passed over.
            if choice is RuntimeChoice.RKLLM or library is not None:
                raise
            reasons.append(str(error))
        else:
            formats.append("rkllm")
            log.info(
                "rkllm library found",
                extra={
                    "path": str(identity.path),
                    "family": identity.family,
                    "version": identity.version,
                    "emulator": identity.emulator,
                },
            )
    if choice is not RuntimeChoice.RKLLM:
        if reason := why_no_cpu():
            reasons.append(reason)
        else:
            formats.append("gguf")
    if not formats:
        raise SetupError("; ".join(reasons))
    return Offered(formats=tuple(formats), npu=npu)


def _identify(library: Path | None, *, abi: str) -> Identity:
    try:
        return identify(find_library(library), abi=abi or None)
    except LibraryError as error:
        raise SetupError(str(error)) from error
