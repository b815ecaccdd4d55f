"""abi-1.3.0: runtime 1.3.0.

New since abi-1.2.1: init takes a struct of callbacks; image tags move from init into the
multimodal input, which gets video; ignore_eos_token pushes is_async and extend_param; sampling
values and max_new_tokens per run. No function was added, so symbols cannot tell the two apart.
"""

from __future__ import annotations

import ctypes as c
from typing import ClassVar

from rkllm_bindings._abi.abi_1_2_0 import (
    RKLLMResultLogits,
)
from rkllm_bindings._abi.abi_1_2_1 import (
    LLMResultCallback,
    RKLLMCrossAttnParam,
    RKLLMExtendParam,
    RKLLMPerfStat,
    RKLLMResult,
)
from rkllm_bindings._abi.family import Family, LLMHandle, Prototype
from rkllm_bindings._abi.unchanged import (
    STRUCTS,
    RKLLMEmbedInput,
    RKLLMInferMode,
    RKLLMInputType,
    RKLLMLoraAdapter,
    RKLLMLoraParam,
    RKLLMPromptCacheParam,
    RKLLMTokenInput,
)


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
        ("ignore_eos_token", c.c_bool),
        ("is_async", c.c_bool),
        ("extend_param", RKLLMExtendParam),
    ]


class RKLLMImage(c.Structure):
    """The unnamed struct `image`: float[n_image * n_image_tokens][n_embd], and its tags."""

    _fields_: ClassVar = [
        ("image_embed", c.POINTER(c.c_float)),
        ("n_image_tokens", c.c_size_t),
        ("n_image", c.c_size_t),
        ("image_start", c.c_char_p),
        ("image_end", c.c_char_p),
        ("image_content", c.c_char_p),
        ("image_width", c.c_size_t),
        ("image_height", c.c_size_t),
    ]


class RKLLMVideo(c.Structure):
    """The unnamed struct `video`: float[n_video * n_frame_per_video * n_frame_tokens][n_embd]."""

    _fields_: ClassVar = [
        ("video_embed", c.POINTER(c.c_float)),
        ("n_frame_tokens", c.c_size_t),
        ("n_frame_per_video", c.c_size_t),
        ("n_video", c.c_size_t),
        ("video_start", c.c_char_p),
        ("video_end", c.c_char_p),
        ("video_content", c.c_char_p),
        ("frame_width", c.c_size_t),
        ("frame_height", c.c_size_t),
    ]


class RKLLMMultiModalInput(c.Structure):
    """A prompt with `<image>` or `<video>` marks, and the embeddings for them."""

    _fields_: ClassVar = [
        ("prompt", c.c_char_p),
        ("image", RKLLMImage),
        ("video", RKLLMVideo),
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


class RKLLMSamplingParam(c.Structure):
    """Sampling values of one run; all nine replace those of init together."""

    _fields_: ClassVar = [
        ("top_k", c.c_int32),
        ("top_p", c.c_float),
        ("temperature", c.c_float),
        ("repeat_penalty", c.c_float),
        ("frequency_penalty", c.c_float),
        ("presence_penalty", c.c_float),
        ("mirostat", c.c_int32),
        ("mirostat_tau", c.c_float),
        ("mirostat_eta", c.c_float),
    ]


class RKLLMInferParam(c.Structure):
    """How a run goes."""

    _fields_: ClassVar = [
        ("mode", RKLLMInferMode),
        ("lora_params", c.POINTER(RKLLMLoraParam)),
        ("prompt_cache_params", c.POINTER(RKLLMPromptCacheParam)),
        ("sampling_params", c.POINTER(RKLLMSamplingParam)),
        ("keep_history", c.c_int),
        ("max_new_tokens", c.c_int32),
    ]


# int (*LLMTokenizerCallback)(void *userdata, const char *text, int32_t text_len, int32_t *tokens,
#     int32_t n_max);
LLMTokenizerCallback = c.CFUNCTYPE(
    c.c_int, c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32
)
# int (*LLMGetEmbedCallback)(void *userdata, int32_t *tokens, uint64_t n_tokens, void *embed,
#     uint64_t embed_size);
LLMGetEmbedCallback = c.CFUNCTYPE(
    c.c_int, c.c_void_p, c.POINTER(c.c_int32), c.c_uint64, c.c_void_p, c.c_uint64
)


class RKLLMCallback(c.Structure):
    """The callbacks of a handle. The last two are for models without tokenizer or embedding."""

    _fields_: ClassVar = [
        ("result_callback", LLMResultCallback),
        ("result_userdata", c.c_void_p),
        ("tokenizer_callback", LLMTokenizerCallback),
        ("tokenizer_userdata", c.c_void_p),
        ("embed_callback", LLMGetEmbedCallback),
        ("embed_userdata", c.c_void_p),
    ]


PROTOTYPES: dict[str, Prototype] = {
    # RKLLMParam rkllm_createDefaultParam(void);
    "rkllm_createDefaultParam": (RKLLMParam, []),
    # int rkllm_init(LLMHandle *handle, RKLLMParam *param, RKLLMCallback *callback);
    "rkllm_init": (
        c.c_int,
        [c.POINTER(LLMHandle), c.POINTER(RKLLMParam), c.POINTER(RKLLMCallback)],
    ),
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
    id="abi-1.3.0",
    versions=("1.3.0",),
    structs={
        **STRUCTS,
        "RKLLMExtendParam": RKLLMExtendParam,
        "RKLLMParam": RKLLMParam,
        "RKLLMMultiModalInput": RKLLMMultiModalInput,
        "RKLLMInput": RKLLMInput,
        "RKLLMSamplingParam": RKLLMSamplingParam,
        "RKLLMInferParam": RKLLMInferParam,
        "RKLLMCrossAttnParam": RKLLMCrossAttnParam,
        "RKLLMPerfStat": RKLLMPerfStat,
        "RKLLMResultLogits": RKLLMResultLogits,
        "RKLLMResult": RKLLMResult,
        "RKLLMCallback": RKLLMCallback,
    },
    prototypes=PROTOTYPES,
    result_callback=LLMResultCallback,
    callback_struct=True,
    samples_per_run=True,
    has_video=True,
    ignores_eos=True,
    releases_buffers=True,
)
