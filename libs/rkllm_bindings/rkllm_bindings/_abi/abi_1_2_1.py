"""abi-1.2.1: runtimes 1.2.1, 1.2.2 and 1.2.3.

New since abi-1.2.1b1: role and enable_thinking stand in front of the input, n_batch and
use_cross_attn come out of reserved, results carry perf, the callback returns an int; functions for
the KV cache's size, tools, cross attention.
"""

from __future__ import annotations

import ctypes as c
from typing import ClassVar

from rkllm_bindings._abi.abi_1_2_0 import (
    RKLLMInferParam,
    RKLLMResultLogits,
)
from rkllm_bindings._abi.abi_1_2_1b1 import (
    RKLLMMultiModalInput,
)
from rkllm_bindings._abi.family import Family, LLMHandle, Prototype
from rkllm_bindings._abi.unchanged import (
    STRUCTS,
    LLMCallState,
    RKLLMEmbedInput,
    RKLLMInputType,
    RKLLMLoraAdapter,
    RKLLMResultLastHiddenLayer,
    RKLLMTokenInput,
)


class RKLLMExtendParam(c.Structure):
    """Options that came late."""

    _fields_: ClassVar = [
        ("base_domain_id", c.c_int32),
        ("embed_flash", c.c_int8),
        ("enabled_cpus_num", c.c_int8),
        ("enabled_cpus_mask", c.c_uint32),
        ("n_batch", c.c_uint8),
        ("use_cross_attn", c.c_int8),
        ("reserved", c.c_uint8 * 104),
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


class RKLLMInputUnion(c.Union):
    """The member that input_type names."""

    _fields_: ClassVar = [
        ("prompt_input", c.c_char_p),
        ("embed_input", RKLLMEmbedInput),
        ("token_input", RKLLMTokenInput),
        ("multimodal_input", RKLLMMultiModalInput),
    ]


class RKLLMInput(c.Structure):
    """What a run is given."""

    _anonymous_: ClassVar = ("input",)
    _fields_: ClassVar = [
        ("role", c.c_char_p),
        ("enable_thinking", c.c_bool),
        ("input_type", RKLLMInputType),
        ("input", RKLLMInputUnion),
    ]


class RKLLMCrossAttnParam(c.Structure):
    """Encoder output for models exported with cross attention."""

    _fields_: ClassVar = [
        ("encoder_k_cache", c.POINTER(c.c_float)),
        ("encoder_v_cache", c.POINTER(c.c_float)),
        ("encoder_mask", c.POINTER(c.c_float)),
        ("encoder_pos", c.POINTER(c.c_int32)),
        ("num_tokens", c.c_int),
    ]


class RKLLMPerfStat(c.Structure):
    """Filled in FINISH only. Times in ms; memory is the peak RSS of the process in MB."""

    _fields_: ClassVar = [
        ("prefill_time_ms", c.c_float),
        ("prefill_tokens", c.c_int),
        ("generate_time_ms", c.c_float),
        ("generate_tokens", c.c_int),
        ("memory_usage_mb", c.c_float),
    ]


class RKLLMResult(c.Structure):
    """One step, as the callback gets it. Everything it points to dies with the callback."""

    _fields_: ClassVar = [
        ("text", c.c_char_p),
        ("token_id", c.c_int32),
        ("last_hidden_layer", RKLLMResultLastHiddenLayer),
        ("logits", RKLLMResultLogits),
        ("perf", RKLLMPerfStat),
    ]


# int (*LLMResultCallback)(RKLLMResult *result, void *userdata, LLMCallState state);
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
    # int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt, int *start_pos, int
    #     *end_pos);
    "rkllm_clear_kv_cache": (c.c_int, [LLMHandle, c.c_int, c.POINTER(c.c_int), c.POINTER(c.c_int)]),
    # int rkllm_get_kv_cache_size(LLMHandle handle, int *cache_sizes);
    "rkllm_get_kv_cache_size": (c.c_int, [LLMHandle, c.POINTER(c.c_int)]),
    # int rkllm_set_chat_template(LLMHandle handle, const char *system, const char *prefix, const
    #     char *postfix);
    "rkllm_set_chat_template": (c.c_int, [LLMHandle, c.c_char_p, c.c_char_p, c.c_char_p]),
    # int rkllm_set_function_tools(LLMHandle handle, const char *system, const char *tools, const
    #     char *tool_response);
    "rkllm_set_function_tools": (c.c_int, [LLMHandle, c.c_char_p, c.c_char_p, c.c_char_p]),
    # int rkllm_set_cross_attn_params(LLMHandle handle, RKLLMCrossAttnParam *params);
    "rkllm_set_cross_attn_params": (c.c_int, [LLMHandle, c.POINTER(RKLLMCrossAttnParam)]),
}

FAMILY = Family(
    id="abi-1.2.1",
    versions=("1.2.1", "1.2.2", "1.2.3"),
    structs={
        **STRUCTS,
        "RKLLMExtendParam": RKLLMExtendParam,
        "RKLLMParam": RKLLMParam,
        "RKLLMMultiModalInput": RKLLMMultiModalInput,
        "RKLLMInput": RKLLMInput,
        "RKLLMInferParam": RKLLMInferParam,
        "RKLLMCrossAttnParam": RKLLMCrossAttnParam,
        "RKLLMPerfStat": RKLLMPerfStat,
        "RKLLMResultLogits": RKLLMResultLogits,
        "RKLLMResult": RKLLMResult,
    },
    prototypes=PROTOTYPES,
    result_callback=LLMResultCallback,
)
