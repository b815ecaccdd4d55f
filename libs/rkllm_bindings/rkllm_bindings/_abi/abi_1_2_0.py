"""abi-1.2.0: runtime 1.2.0.

New since abi-1.1: n_keep (everything behind it moves), embed_flash, the CPU mask, keep_history,
logits; functions to clear the KV cache and to set the chat template.
"""

from __future__ import annotations

import ctypes as c
from typing import ClassVar

from rkllm_bindings._abi.abi_1_1 import (
    RKLLMInput,
    RKLLMMultiModalInput,
)
from rkllm_bindings._abi.family import Family, LLMHandle, Prototype
from rkllm_bindings._abi.unchanged import (
    STRUCTS,
    LLMCallState,
    RKLLMInferMode,
    RKLLMLoraAdapter,
    RKLLMLoraParam,
    RKLLMPromptCacheParam,
    RKLLMResultLastHiddenLayer,
)


class RKLLMExtendParam(c.Structure):
    """Options that came late."""

    _fields_: ClassVar = [
        ("base_domain_id", c.c_int32),
        ("embed_flash", c.c_int8),
        ("enabled_cpus_num", c.c_int8),
        ("enabled_cpus_mask", c.c_uint32),
        ("reserved", c.c_uint8 * 106),
    ]


class RKLLMParam(c.Structure):
    """What rkllm_init is told. Start from zero, not from its defaults, and set every field."""

    _fields_: ClassVar = [
        ("model_path", c.c_char_p),
        ("max_context_len", c.c_int32),
        ("max_new_tokens", c.c_int32),
        ("top_k", c.c_int32),
        ("n_keep", c.c_int32),
        ("top_p", c.c_float),
        ("temperature", c.c_float),
        ("repeat_penalty", c.c_float),
        ("frequency_penalty", c.c_float),
        ("presence_penalty", c.c_float),
        ("mirostat", c.c_int32),
        ("mirostat_tau", c.c_float),
        ("mirostat_eta", c.c_float),
        ("skip_special_token", c.c_bool),
        ("is_async", c.c_bool),
        ("img_start", c.c_char_p),
        ("img_end", c.c_char_p),
        ("img_content", c.c_char_p),
        ("extend_param", RKLLMExtendParam),
    ]


class RKLLMInferParam(c.Structure):
    """How a run goes."""

    _fields_: ClassVar = [
        ("mode", RKLLMInferMode),
        ("lora_params", c.POINTER(RKLLMLoraParam)),
        ("prompt_cache_params", c.POINTER(RKLLMPromptCacheParam)),
        ("keep_history", c.c_int),
    ]


class RKLLMResultLogits(c.Structure):
    """float[num_tokens][vocab_size], owned by the library, valid inside the callback."""

    _fields_: ClassVar = [
        ("logits", c.POINTER(c.c_float)),
        ("vocab_size", c.c_int),
        ("num_tokens", c.c_int),
    ]


class RKLLMResult(c.Structure):
    """One step, as the callback gets it. Everything it points to dies with the callback."""

    _fields_: ClassVar = [
        ("text", c.c_char_p),
        ("token_id", c.c_int32),
        ("last_hidden_layer", RKLLMResultLastHiddenLayer),
        ("logits", RKLLMResultLogits),
    ]


# void (*LLMResultCallback)(RKLLMResult *result, void *userdata, LLMCallState state); an int is
#     ignored here.
LLMResultCallback = c.CFUNCTYPE(c.c_int, c.POINTER(RKLLMResult), c.c_void_p, LLMCallState)


PROTOTYPES: dict[str, Prototype] = {
    # RKLLMParam rkllm_createDefaultParam(void);
    "rkllm_createDefaultParam": (RKLLMParam, []),
    # int rkllm_init(LLMHandle *handle, RKLLMParam *param, LLMResultCallback callback);
    "rkllm_init": (c.c_int, [c.POINTER(LLMHandle), c.POINTER(RKLLMParam), LLMResultCallback]),
    # int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter *adapter);
    "rkllm_load_lora": (c.c_int, [LLMHandle, c.POINTER(RKLLMLoraAdapter)]),
    # int rkllm_load_prompt_cache(LLMHandle handle, const char *path);
    "rkllm_load_prompt_cache": (c.c_int, [LLMHandle, c.c_char_p]),
    # int rkllm_release_prompt_cache(LLMHandle handle);
    "rkllm_release_prompt_cache": (c.c_int, [LLMHandle]),
    # int rkllm_destroy(LLMHandle handle);
    "rkllm_destroy": (c.c_int, [LLMHandle]),
    # int rkllm_run(LLMHandle handle, RKLLMInput *input, RKLLMInferParam *infer, void *userdata);
    "rkllm_run": (
        c.c_int,
        [LLMHandle, c.POINTER(RKLLMInput), c.POINTER(RKLLMInferParam), c.c_void_p],
    ),
    # int rkllm_run_async(LLMHandle handle, RKLLMInput *input, RKLLMInferParam *infer, void
    #     *userdata);
    "rkllm_run_async": (
        c.c_int,
        [LLMHandle, c.POINTER(RKLLMInput), c.POINTER(RKLLMInferParam), c.c_void_p],
    ),
    # int rkllm_abort(LLMHandle handle);
    "rkllm_abort": (c.c_int, [LLMHandle]),
    # int rkllm_is_running(LLMHandle handle);
    "rkllm_is_running": (c.c_int, [LLMHandle]),
    # int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt);
    "rkllm_clear_kv_cache": (c.c_int, [LLMHandle, c.c_int]),
    # int rkllm_set_chat_template(LLMHandle handle, const char *system, const char *prefix, const
    #     char *postfix);
    "rkllm_set_chat_template": (c.c_int, [LLMHandle, c.c_char_p, c.c_char_p, c.c_char_p]),
}

FAMILY = Family(
    id="abi-1.2.0",
    versions=("1.2.0",),
    structs={
        **STRUCTS,
        "RKLLMExtendParam": RKLLMExtendParam,
        "RKLLMParam": RKLLMParam,
        "RKLLMMultiModalInput": RKLLMMultiModalInput,
        "RKLLMInput": RKLLMInput,
        "RKLLMInferParam": RKLLMInferParam,
        "RKLLMResultLogits": RKLLMResultLogits,
        "RKLLMResult": RKLLMResult,
    },
    prototypes=PROTOTYPES,
    result_callback=LLMResultCallback,
    gives_perf=False,
    has_role=False,
    counts_images=False,
)
