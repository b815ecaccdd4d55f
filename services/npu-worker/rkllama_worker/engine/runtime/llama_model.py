"""A GGUF model in llama.cpp's memory, whatever its context is for: loading it, and stopping it.

llama.cpp returns a bare status and tells the reason to one callback for the whole process, which
therefore belongs to no model and is never freed; an engine process has one model.
"""

from __future__ import annotations

import ctypes as c
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rkllama_policy.context import DEFAULT_CONTEXT_TOKENS
from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError, UnsupportedError

from rkllama_worker.engine.runtime import _llama_h as h

BATCH_TOKENS = 128
"""Prefill was as fast with 64, 128 and 512 (68 tokens/s on one core), and slower with 32 (56)."""

_ERRORS: deque[str] = deque(maxlen=3)
"""What llama.cpp complained of last."""
_VALUE_BYTES = 256


def _keep_error(level: int, text: bytes, _data: int | None) -> None:
    if level == h.LOG_LEVEL_ERROR:
        _ERRORS.append(text.decode(errors="replace").strip())


_LOG_CALLBACK = h.LogCallback(_keep_error)


def reason() -> str:
    """Why the last call failed."""
    return "; ".join(_ERRORS) or "it does not say why"


def take_reason() -> str:
    """The same, forgotten: the failure was of one run."""
    said = reason()
    _ERRORS.clear()
    return said


class LlamaModel:
    """The weights, and the flag that ends what is computed with them."""

    def __init__(self, weights: Path) -> None:
        """Load them.

        Raises:
            InvalidModelError: The file is missing, damaged, or of a kind llama.cpp does not know.
            UnsupportedError: An encoder stands before its decoder.
            RuntimeFailedError: The library is missing or unknown.
        """
        try:
            self.library: Any = h.bind()
        except h.UnknownLibraryError as error:
            raise RuntimeFailedError(str(error)) from error
        # `llama_decode` asks between two operations, hundreds of times a token, whether to go on. libc's
        # strlen is that question without Python: 0 (no) for "", 1 (yes) for a byte before the NUL.
        self._abort_flag = c.create_string_buffer(2)
        self.library.llama_log_set(_LOG_CALLBACK, None)
        self.library.llama_backend_init()
        self.handle = self._load(weights)
        self.vocabulary: int = self.library.llama_model_get_vocab(self.handle)
        self.vocabulary_size: int = self.library.llama_vocab_n_tokens(self.vocabulary)

    def context_length(self, num_ctx: int | None) -> int:
        """Tokens of a context of `num_ctx`, or 4096, at most what the model was trained for."""
        trained: int = self.library.llama_model_n_ctx_train(self.handle)
        return min(num_ctx or DEFAULT_CONTEXT_TOKENS, trained or num_ctx or 1 << 30)

    def said(self, key: str) -> str:
        """A value of the file's metadata as text; empty if there is none. `{arch}` is its architecture."""
        if "{arch}" in key:
            key = key.format(arch=self.said("general.architecture"))
        value = c.create_string_buffer(_VALUE_BYTES)
        self.library.llama_model_meta_val_str(self.handle, key.encode(), value, _VALUE_BYTES)
        return value.value.decode(errors="replace")

    def params(self) -> h.ContextParams:
        """What contexts have in common."""
        params: h.ContextParams = self.library.llama_context_default_params()
        # One core is left alone: two threads on two cores with one other busy process fall from 63
        # tokens/s to 6.5, because llama.cpp's threads wait for each other spinning.
        params.n_threads = params.n_threads_batch = max(1, len(os.sched_getaffinity(0)) - 1)
        params.abort_callback = c.cast(c.CDLL(None).strlen, c.c_void_p)
        params.abort_callback_data = c.cast(self._abort_flag, c.c_void_p)
        return params

    def open_context(self, params: h.ContextParams) -> int:
        """A context.

        Raises:
            RuntimeFailedError: There is no memory for it.
        """
        context: int | None = self.library.llama_init_from_model(self.handle, params)
        if context is None:
            raise RuntimeFailedError(
                f"llama.cpp has no context of {params.n_ctx} tokens: {reason()}"
            )
        return context

    def adapt(self, context: int, paths: Sequence[Path]) -> None:
        """Put LoRA adapters on a context, each in full strength; the model frees them with itself.

        Raises:
            InvalidModelError: One is another model's.
        """
        adapters = (h.ADAPTER * len(paths))()
        for number, path in enumerate(paths):
            adapter = self.library.llama_adapter_lora_init(self.handle, os.fsencode(path))
            if adapter is None:
                raise InvalidModelError(f"llama.cpp cannot use the adapter {path.name}: {reason()}")
            adapters[number] = adapter
        scales = (c.c_float * len(paths))(*[1.0] * len(paths))
        if self.library.llama_set_adapters_lora(context, adapters, len(paths), scales):
            raise InvalidModelError(f"llama.cpp refuses the adapters: {reason()}")

    def check_ids(self, ids: Sequence[int]) -> None:
        """The library does not.

        Raises:
            RuntimeFailedError: One is outside the vocabulary.
        """
        if not all(0 <= token < self.vocabulary_size for token in ids):
            raise RuntimeFailedError(
                "the tokenizer is not the model's: an id is outside its vocabulary"
            )

    def go_on(self) -> None:
        """What is computed from here on is wanted."""
        self._abort_flag[0] = b"\0"

    def abort(self) -> None:
        """End what is being computed, within one operation of its graph."""
        self._abort_flag[0] = b"\1"

    def close(self) -> None:
        """Free the weights; contexts are freed before."""
        self.library.llama_model_free(self.handle)

    def _load(self, weights: Path) -> int:
        if not weights.is_file():
            raise InvalidModelError(f"the weights are missing: there is no file {weights.name}")
        params = self.library.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = h.LOAD_MODE_MMAP
        model: int | None = self.library.llama_model_load_from_file(os.fsencode(weights), params)
        if model is None:
            said = reason().replace(str(weights), weights.name)
            raise InvalidModelError(f"llama.cpp cannot load {weights.name}: {said}")
        if self.library.llama_model_has_encoder(model) and self.library.llama_model_has_decoder(
            model
        ):
            raise UnsupportedError(
                "the model has an encoder before its decoder; such models cannot run"
            )
        return model
