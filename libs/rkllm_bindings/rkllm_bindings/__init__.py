"""Rockchip's librkllmrt.so in Python: every release from 1.1.0 to 1.3.0.

    load_library(find_library())     find, identify, load; refuses what it does not know
    Model(library, ModelConfig(...)) load a model, run it, abort it
    rkllm_bindings.emulator          a librkllmrt.so of our own with the same interface

Importing it loads nothing. Nothing here was run on an NPU: the layouts are measured from the
vendor's headers, the behaviour is proven against the emulator only.
"""

from __future__ import annotations

from rkllm_bindings._abi import FAMILIES, FAMILY_OF_VERSION
from rkllm_bindings._identify import OVERRIDE, Identity, identify
from rkllm_bindings._library import STANDARD_PLACES, Library, find_library, load_library
from rkllm_bindings.errors import (
    BusyError,
    ClosedError,
    ContradictoryLibraryError,
    InitError,
    LibraryError,
    LibraryLoadError,
    LibraryNotFoundError,
    RkllmError,
    RunError,
    StatusError,
    UnknownLibraryError,
    UnsupportedError,
)
from rkllm_bindings.model import Model
from rkllm_bindings.values import (
    Embeddings,
    Images,
    ImageTags,
    Input,
    Mode,
    ModelConfig,
    Multimodal,
    Perf,
    RunResult,
    Sampling,
    State,
    Step,
    Text,
    Tokens,
    Videos,
)

__all__ = [
    "FAMILIES",
    "FAMILY_OF_VERSION",
    "OVERRIDE",
    "STANDARD_PLACES",
    "BusyError",
    "ClosedError",
    "ContradictoryLibraryError",
    "Embeddings",
    "Identity",
    "ImageTags",
    "Images",
    "InitError",
    "Input",
    "Library",
    "LibraryError",
    "LibraryLoadError",
    "LibraryNotFoundError",
    "Mode",
    "Model",
    "ModelConfig",
    "Multimodal",
    "Perf",
    "RkllmError",
    "RunError",
    "RunResult",
    "Sampling",
    "State",
    "StatusError",
    "Step",
    "Text",
    "Tokens",
    "UnknownLibraryError",
    "UnsupportedError",
    "Videos",
    "find_library",
    "identify",
    "load_library",
]
