"""abi-1.2.1b1: runtime 1.2.1b1.

New since abi-1.2.0: the multimodal input grows. For text the two are the same.
"""

from __future__ import annotations

import ctypes as c
from typing import ClassVar

from rkllm_bindings._abi.abi_1_2_0 import (
    LLMResultCallback,
    RKLLMExtendParam,
    RKLLMInferParam,
    RKLLMParam,
    RKLLMResult,
    RKLLMResultLogits,
)
from rkllm_bindings._abi.family import Family, LLMHandle, Prototype
from rkllm_bindings._abi.unchanged import (
    STRUCTS,
    RKLLMEmbedInput,
    RKLLMInputType,
    RKLLMLoraAdapter,
    RKLLMTokenInput,
)


class RKLLMMultiModalInput(c.Structure):
    """A prompt with `<image>` marks, and float[n_image * n_image_tokens][n_embd]."""

    _fields_: ClassVar = [
        ("prompt", c.c_char_p),
        ("image_embed", c.POINTER(c.c_float)),
        ("n_image_tokens", c.c_size_t),
        ("n_image", c.c_size_t),
        ("image_width", c.c_size_t),
        ("image_height", c.c_size_t),
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
        ("input_type", RKLLMInputType),
        ("input", RKLLMInputUnion),
    ]


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
    id="abi-1.2.1b1",
    versions=("1.2.1b1",),
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
)
