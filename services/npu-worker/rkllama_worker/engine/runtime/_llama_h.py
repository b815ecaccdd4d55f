"""The part of llama.cpp's C interface that the engine uses, declared item by item; no behaviour.

`llama.h` is exported whole by the shared object inside the `xllamacpp` wheel, and is the one of that
wheel's source distribution. Its structs change between builds, and functions gain arguments, so the
declarations hold for `XLLAMACPP_VERSION` alone; `bind` refuses any other.
"""

from __future__ import annotations

import ctypes as c
import importlib.util
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

XLLAMACPP_VERSION = "2026.10.11549"
"""The wheel whose header this module mirrors; `pyproject.toml` pins the same."""

MODEL = c.c_void_p
CONTEXT = c.c_void_p
VOCABULARY = c.c_void_p
MEMORY = c.c_void_p
SAMPLER = c.c_void_p
ADAPTER = c.c_void_p
TOKEN = c.c_int32

LOG_LEVEL_ERROR = 4  # enum ggml_log_level
LOAD_MODE_MMAP = 1  # enum llama_load_mode
DECODE_ABORTED = 2  # llama_decode, llama_encode
POOLING_NONE = 0  # enum llama_pooling_type

# typedef void (*ggml_log_callback)(enum ggml_log_level level, const char * text, void * user_data);
LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)


class ModelParams(c.Structure):
    """`struct llama_model_params`."""

    _fields_ = (
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


class ContextParams(c.Structure):
    """`struct llama_context_params`."""

    _fields_ = (
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int),
        ("rope_scaling_type", c.c_int),
        ("pooling_type", c.c_int),
        ("attention_type", c.c_int),
        ("flash_attn_type", c.c_int),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("moe_cache_size", c.c_size_t),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    )


class SamplerChainParams(c.Structure):
    """`struct llama_sampler_chain_params`."""

    _fields_ = (("no_perf", c.c_bool),)


class TokenDataArray(c.Structure):
    """`llama_token_data_array`; its elements are (int32 id, float32 logit, float32 p)."""

    _fields_ = (
        ("data", c.c_void_p),
        ("size", c.c_size_t),
        ("selected", c.c_int64),
        ("sorted", c.c_bool),
    )


class Batch(c.Structure):
    """`struct llama_batch`."""

    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(TOKEN)),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    )


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    # struct llama_model_params llama_model_default_params(void);
    "llama_model_default_params": (ModelParams, []),
    # struct llama_context_params llama_context_default_params(void);
    "llama_context_default_params": (ContextParams, []),
    # void llama_backend_init(void);
    "llama_backend_init": (None, []),
    # struct llama_model * llama_model_load_from_file(const char * path, struct llama_model_params);
    "llama_model_load_from_file": (MODEL, [c.c_char_p, ModelParams]),
    # void llama_model_free(struct llama_model * model);
    "llama_model_free": (None, [MODEL]),
    # struct llama_context * llama_init_from_model(model *, struct llama_context_params);
    "llama_init_from_model": (CONTEXT, [MODEL, ContextParams]),
    # void llama_free(struct llama_context * ctx);
    "llama_free": (None, [CONTEXT]),
    # llama_memory_t llama_get_memory(const struct llama_context * ctx);
    "llama_get_memory": (MEMORY, [CONTEXT]),
    # const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
    "llama_model_get_vocab": (VOCABULARY, [MODEL]),
    # int32_t llama_model_n_ctx_train(const struct llama_model * model);
    "llama_model_n_ctx_train": (c.c_int32, [MODEL]),
    # bool llama_model_has_encoder(const struct llama_model * model);
    "llama_model_has_encoder": (c.c_bool, [MODEL]),
    # bool llama_model_has_decoder(const struct llama_model * model);
    "llama_model_has_decoder": (c.c_bool, [MODEL]),
    # int32_t llama_model_n_embd_out(const struct llama_model * model);
    "llama_model_n_embd_out": (c.c_int32, [MODEL]),
    # int32_t llama_model_meta_val_str(const struct llama_model * model, const char * key,
    #     char * buf, size_t buf_size);
    "llama_model_meta_val_str": (c.c_int32, [MODEL, c.c_char_p, c.c_char_p, c.c_size_t]),
    # int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
    "llama_vocab_n_tokens": (c.c_int32, [VOCABULARY]),
    # bool llama_vocab_is_eog(const struct llama_vocab * vocab, llama_token token);
    "llama_vocab_is_eog": (c.c_bool, [VOCABULARY, TOKEN]),
    # void llama_memory_clear(llama_memory_t mem, bool data);
    "llama_memory_clear": (None, [MEMORY, c.c_bool]),
    # bool llama_memory_seq_rm(llama_memory_t, llama_seq_id, llama_pos p0, llama_pos p1);
    "llama_memory_seq_rm": (c.c_bool, [MEMORY, c.c_int32, c.c_int32, c.c_int32]),
    # size_t llama_state_seq_get_size(struct llama_context * ctx, llama_seq_id seq_id);
    "llama_state_seq_get_size": (c.c_size_t, [CONTEXT, c.c_int32]),
    # size_t llama_state_seq_get_data(struct llama_context * ctx, uint8_t * dst, size_t size,
    #     llama_seq_id seq_id);
    "llama_state_seq_get_data": (c.c_size_t, [CONTEXT, c.c_void_p, c.c_size_t, c.c_int32]),
    # size_t llama_state_seq_set_data(struct llama_context * ctx, const uint8_t * src, size_t size,
    #     llama_seq_id dest_seq_id);
    "llama_state_seq_set_data": (c.c_size_t, [CONTEXT, c.c_void_p, c.c_size_t, c.c_int32]),
    # struct llama_batch llama_batch_get_one(llama_token * tokens, int32_t n_tokens);
    "llama_batch_get_one": (Batch, [c.POINTER(TOKEN), c.c_int32]),
    # int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);
    "llama_decode": (c.c_int32, [CONTEXT, Batch]),
    # int32_t llama_encode(struct llama_context * ctx, struct llama_batch batch);
    "llama_encode": (c.c_int32, [CONTEXT, Batch]),
    # void llama_set_embeddings(struct llama_context * ctx, bool embeddings);
    "llama_set_embeddings": (None, [CONTEXT, c.c_bool]),
    # bool llama_get_causal_attn(const struct llama_context * ctx);
    "llama_get_causal_attn": (c.c_bool, [CONTEXT]),
    # float * llama_get_embeddings(struct llama_context * ctx);
    "llama_get_embeddings": (c.POINTER(c.c_float), [CONTEXT]),
    # float * llama_get_logits_ith(struct llama_context * ctx, int32_t i);
    "llama_get_logits_ith": (c.POINTER(c.c_float), [CONTEXT, c.c_int32]),
    # struct llama_adapter_lora * llama_adapter_lora_init(struct llama_model *, const char * path);
    "llama_adapter_lora_init": (ADAPTER, [MODEL, c.c_char_p]),
    # int32_t llama_set_adapters_lora(struct llama_context * ctx,
    #     struct llama_adapter_lora ** adapters, size_t n_adapters, float * scales);
    "llama_set_adapters_lora": (
        c.c_int32,
        [CONTEXT, c.POINTER(ADAPTER), c.c_size_t, c.POINTER(c.c_float)],
    ),
    # struct llama_sampler_chain_params llama_sampler_chain_default_params(void);
    "llama_sampler_chain_default_params": (SamplerChainParams, []),
    # struct llama_sampler * llama_sampler_chain_init(struct llama_sampler_chain_params params);
    "llama_sampler_chain_init": (SAMPLER, [SamplerChainParams]),
    # void llama_sampler_chain_add(struct llama_sampler * chain, struct llama_sampler * smpl);
    "llama_sampler_chain_add": (None, [SAMPLER, SAMPLER]),
    # void llama_sampler_free(struct llama_sampler * smpl);
    "llama_sampler_free": (None, [SAMPLER]),
    # void llama_sampler_accept(struct llama_sampler * smpl, llama_token token);
    "llama_sampler_accept": (None, [SAMPLER, TOKEN]),
    # void llama_sampler_apply(struct llama_sampler * smpl, llama_token_data_array * cur_p);
    "llama_sampler_apply": (None, [SAMPLER, c.POINTER(TokenDataArray)]),
    # llama_token llama_sampler_sample(struct llama_sampler *, struct llama_context *, int32_t idx);
    "llama_sampler_sample": (TOKEN, [SAMPLER, CONTEXT, c.c_int32]),
    # struct llama_sampler * llama_sampler_init_penalties(int32_t n_vocab, int32_t penalty_last_n,
    #     float penalty_repeat, float penalty_freq, float penalty_present);
    "llama_sampler_init_penalties": (
        SAMPLER,
        [c.c_int32, c.c_int32, c.c_float, c.c_float, c.c_float],
    ),
    # struct llama_sampler * llama_sampler_init_top_k(int32_t k);
    "llama_sampler_init_top_k": (SAMPLER, [c.c_int32]),
    # struct llama_sampler * llama_sampler_init_typical(float p, size_t min_keep);
    "llama_sampler_init_typical": (SAMPLER, [c.c_float, c.c_size_t]),
    # struct llama_sampler * llama_sampler_init_top_p(float p, size_t min_keep);
    "llama_sampler_init_top_p": (SAMPLER, [c.c_float, c.c_size_t]),
    # struct llama_sampler * llama_sampler_init_min_p(float p, size_t min_keep);
    "llama_sampler_init_min_p": (SAMPLER, [c.c_float, c.c_size_t]),
    # struct llama_sampler * llama_sampler_init_temp(float t);
    "llama_sampler_init_temp": (SAMPLER, [c.c_float]),
    # struct llama_sampler * llama_sampler_init_greedy(void);
    "llama_sampler_init_greedy": (SAMPLER, []),
    # struct llama_sampler * llama_sampler_init_dist(uint32_t seed);
    "llama_sampler_init_dist": (SAMPLER, [c.c_uint32]),
    # void llama_log_set(ggml_log_callback log_callback, void * user_data);
    "llama_log_set": (None, [LogCallback, c.c_void_p]),
}

_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "use_extra_bufts": True}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "flash_attn_type": -1,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "abort_callback": None,
    "offload_kqv": True,
    "no_perf": True,
    "n_samplers": 0,
}


class UnknownLibraryError(Exception):
    """The llama.cpp on this machine is missing, or is not the one declared here."""


def bind() -> Any:
    """llama.cpp's functions, each with the types of its prototype; no Python of the wheel is run.

    Raises:
        UnknownLibraryError: The wheel, or a library it needs, is not installed, or it is another
            build; the text is one sentence.
    """
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise UnknownLibraryError("the CPU runtime is not installed (the extra `cpu`)")
    installed = metadata.version("xllamacpp")
    if installed != XLLAMACPP_VERSION:
        raise UnknownLibraryError(
            f"the CPU runtime needs xllamacpp {XLLAMACPP_VERSION}, and {installed} is installed"
        )
    path = Path(spec.submodule_search_locations[0]) / "xllamacpp.abi3.so"
    try:
        library = c.CDLL(str(path))
    except OSError as error:
        if "libgomp" in str(error):
            raise UnknownLibraryError(
                "the CPU runtime needs the system package libgomp1 (apt install libgomp1)"
            ) from error
        raise UnknownLibraryError(f"the CPU runtime does not load: {error}") from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    _check(library.llama_model_default_params(), _MODEL_DEFAULTS)
    _check(library.llama_context_default_params(), _CONTEXT_DEFAULTS)
    return library


def _check(struct: c.Structure, defaults: Mapping[str, object]) -> None:
    """Values the header's build is known to return: a struct laid out otherwise reads as others."""
    for name, expected in defaults.items():
        if (found := getattr(struct, name)) != expected:
            raise UnknownLibraryError(
                f"llama.cpp in xllamacpp is another build: {name} is {found}, not {expected}"
            )
