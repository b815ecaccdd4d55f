"""What one ABI family is: its structures, its functions, and what it can do."""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Private to typeshed: what CFUNCTYPE returns, and what a pointer to a structure is.
    from ctypes import _CData, _FuncPointer

    CType = type[_CData]
    FunctionType = type[_FuncPointer]

Prototype = tuple["CType", list["CType"]]
"""Result type and argument types of a function, as ctypes wants them."""

LLMHandle = c.c_void_p


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The C interface that a range of releases shares."""

    id: str
    versions: tuple[str, ...]
    """Releases with exactly this interface."""
    structs: Mapping[str, type[c.Structure]]
    """By the header's name. Only those that this family has."""
    prototypes: Mapping[str, Prototype]
    result_callback: FunctionType
    """`int (RKLLMResult *, void *userdata, LLMCallState)`; the int is ignored before 1.2.1."""
    callback_struct: bool = False
    """`rkllm_init` takes an RKLLMCallback and not the function itself (rkllm.h 1.3.0)."""
    keeps_history: bool = True
    """RKLLMInferParam has keep_history (from 1.2.0)."""
    gives_logits: bool = True
    """RKLLMResult has logits (from 1.2.0)."""
    gives_perf: bool = True
    """RKLLMResult has perf (from 1.2.1)."""
    has_role: bool = True
    """RKLLMInput has role and enable_thinking (from 1.2.1)."""
    counts_images: bool = True
    """The multimodal input tells how many images there are, and their size (from 1.2.1b1)."""
    samples_per_run: bool = False
    """Sampling values and max_new_tokens may change with each run (from 1.3.0)."""
    has_video: bool = False
    """The multimodal input has a video part (from 1.3.0)."""
    ignores_eos: bool = False
    """RKLLMParam has ignore_eos_token (from 1.3.0)."""
    releases_buffers: bool = False
    """A callback may return 2 to free the hidden states or logits it was given (from 1.3.0)."""

    def new(self, struct: str) -> Any:
        """A zeroed structure of this family. Its fields are typed by ctypes alone."""
        return self.structs[struct]()

    def has_field(self, struct: str, field: str) -> bool:
        """Whether the structure has that field in this family."""
        return any(name == field for name, *_ in self.structs[struct]._fields_)
