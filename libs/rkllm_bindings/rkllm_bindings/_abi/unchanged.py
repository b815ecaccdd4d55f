"""Structures that no release from 1.1.0 to 1.3.0 changed."""

from __future__ import annotations

import ctypes as c
from typing import ClassVar

LLMCallState = c.c_int
RKLLMInputType = c.c_int
RKLLMInferMode = c.c_int


class RKLLMLoraAdapter(c.Structure):
    """A LoRA file to load, and the name that runs call it by."""

    _fields_: ClassVar = [
        ("lora_adapter_path", c.c_char_p),
        ("lora_adapter_name", c.c_char_p),
        ("scale", c.c_float),
    ]


class RKLLMEmbedInput(c.Structure):
    """float[n_tokens][n_embd]."""

    _fields_: ClassVar = [
        ("embed", c.POINTER(c.c_float)),
        ("n_tokens", c.c_size_t),
    ]


class RKLLMTokenInput(c.Structure):
    """int32_t[n_tokens]."""

    _fields_: ClassVar = [
        ("input_ids", c.POINTER(c.c_int32)),
        ("n_tokens", c.c_size_t),
    ]


class RKLLMLoraParam(c.Structure):
    """The adapter of one run."""

    _fields_: ClassVar = [("lora_adapter_name", c.c_char_p)]


class RKLLMPromptCacheParam(c.Structure):
    """Whether, and where, a run writes its prompt cache."""

    _fields_: ClassVar = [
        ("save_prompt_cache", c.c_int),
        ("prompt_cache_path", c.c_char_p),
    ]


class RKLLMResultLastHiddenLayer(c.Structure):
    """float[num_tokens][embd_size], owned by the library, valid inside the callback."""

    _fields_: ClassVar = [
        ("hidden_states", c.POINTER(c.c_float)),
        ("embd_size", c.c_int),
        ("num_tokens", c.c_int),
    ]


STRUCTS: dict[str, type[c.Structure]] = {
    "RKLLMLoraAdapter": RKLLMLoraAdapter,
    "RKLLMEmbedInput": RKLLMEmbedInput,
    "RKLLMTokenInput": RKLLMTokenInput,
    "RKLLMLoraParam": RKLLMLoraParam,
    "RKLLMPromptCacheParam": RKLLMPromptCacheParam,
    "RKLLMResultLastHiddenLayer": RKLLMResultLastHiddenLayer,
}
