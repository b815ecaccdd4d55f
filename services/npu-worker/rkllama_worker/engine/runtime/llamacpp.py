"""The runtime of machines without an NPU: llama.cpp on the CPU, by its C interface.

The server that the same wheel offers is not used: it reports no id for a token that ends in the
middle of a character (`process_token` in llama.cpp's server-context.cpp; 13 of 23 ids were missing
for a line of emoji and CJK text), and it answers an abort only between two batches.

    ids held    |---- computed before ----|
    prompt      |---- same ----|--- new ---------|
                               ^ computed from here on, in batches; then one token at a time
"""

from __future__ import annotations

import ctypes as c
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError, UnsupportedError
from rkllama_protocol.messages import Sampling

from rkllama_worker.engine.runtime import _llama_h as h
from rkllama_worker.engine.runtime.base import Emit, GenerateRequest, RunStats

BATCH_TOKENS = 128
"""Prefill was as fast with 64, 128 and 512 (68 tokens/s on one core), and slower with 32 (56)."""
DEFAULT_CONTEXT_TOKENS = 4096
_RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: draws one, so no job may mean it

_ERRORS: deque[str] = deque(maxlen=3)
"""What llama.cpp complained of last. It returns a bare status and tells the reason to one callback for
the whole process, which therefore belongs to no model and is never freed."""


def _keep_error(level: int, text: bytes, _data: int | None) -> None:
    if level == h.LOG_LEVEL_ERROR:
        _ERRORS.append(text.decode(errors="replace").strip())


_LOG_CALLBACK = h.LogCallback(_keep_error)


def _reason() -> str:
    return "; ".join(_ERRORS) or "it does not say why"


class LlamaCpp:
    """A GGUF model in memory."""

    def __init__(self, weights: Path, *, num_ctx: int | None) -> None:
        """Load the model with a context of `num_ctx` tokens, or 4096, at most what it was trained for.

        Raises:
            InvalidModelError: The file is missing, damaged, or of a kind llama.cpp does not know.
            UnsupportedError: It is no model that continues text.
            RuntimeFailedError: The library is missing or unknown, or there is no memory.
        """
        try:
            self._library = h.bind()
        except h.UnknownLibraryError as error:
            raise RuntimeFailedError(str(error)) from error
        # `llama_decode` asks between two operations, hundreds of times a token, whether to go on. libc's
        # strlen is that question without Python: 0 (no) for "", 1 (yes) for a byte before the NUL.
        self._abort_flag = c.create_string_buffer(2)
        self._library.llama_log_set(_LOG_CALLBACK, None)
        self._library.llama_backend_init()
        self._held: list[int] = []
        self._prefilled_from = 0
        """Where the last batch of the newest prompt began."""
        self._model = self._load(weights)
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self._vocabulary_size = self._library.llama_vocab_n_tokens(self._vocabulary)
        trained = self._library.llama_model_n_ctx_train(self._model)
        self._context_length = min(num_ctx or DEFAULT_CONTEXT_TOKENS, trained or num_ctx or 1 << 30)
        self._context = self._open_context()
        self._memory = self._library.llama_get_memory(self._context)
        # The first decode reads every weight from the disk: that belongs to the load.
        self._decode([0])
        self._rewind_to(0)

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context_length

    @property
    def usable_tokens(self) -> int:
        """All of them."""
        return self._context_length

    @property
    def accelerator_bytes(self) -> int:
        """Nothing: this runtime uses the CPU alone."""
        return 0

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """See `Runtime.generate`. Equal prompts with equal sampling get equal answers, run after run."""
        self._abort_flag[0] = b"\0"
        reused = self._reuse(prompt)
        with self._sampler(request.sampling, prompt) as sampler:
            if not self._prefill(prompt, reused):
                return RunStats(reused_tokens=reused, finish="aborted")
            for made in range(1, request.max_tokens + 1):
                token = self._library.llama_sampler_sample(sampler, self._context, -1)
                if self._library.llama_vocab_is_eog(self._vocabulary, token):
                    return RunStats(reused_tokens=reused, finish="stop")
                if not emit((token,)):
                    return RunStats(reused_tokens=reused, finish="aborted")
                if made < request.max_tokens and not self._decode([token]):
                    return RunStats(reused_tokens=reused, finish="aborted")
        return RunStats(reused_tokens=reused, finish="length")

    def ignored(self, sampling: Sampling) -> frozenset[str]:
        """None: every option has its sampler."""
        return frozenset()

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> memoryview[float]:
        """Not from a model that was loaded to continue text."""
        raise UnsupportedError("the CPU runtime of this build makes no embeddings")

    def abort(self) -> None:
        """End the run under way, within one operation of its graph (5 ms in a prefill of 128)."""
        self._abort_flag[0] = b"\1"

    def close(self) -> None:
        """Free the model."""
        self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    def _load(self, weights: Path) -> int:
        if not weights.is_file():
            raise InvalidModelError(f"the weights are missing: there is no file {weights.name}")
        params = self._library.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = h.LOAD_MODE_MMAP
        model: int | None = self._library.llama_model_load_from_file(os.fsencode(weights), params)
        if model is None:
            reason = _reason().replace(str(weights), weights.name)
            raise InvalidModelError(f"llama.cpp cannot load {weights.name}: {reason}")
        if self._library.llama_model_has_encoder(model):
            raise UnsupportedError(
                "the model has an encoder; only models that continue text can run"
            )
        return model

    def _open_context(self) -> int:
        params = self._library.llama_context_default_params()
        params.n_ctx = self._context_length
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_outputs_max = 1
        # One core is left alone: two threads on two cores with one other busy process fall from 63
        # tokens/s to 6.5, because llama.cpp's threads wait for each other spinning.
        params.n_threads = params.n_threads_batch = max(1, len(os.sched_getaffinity(0)) - 1)
        params.abort_callback = c.cast(c.CDLL(None).strlen, c.c_void_p)
        params.abort_callback_data = c.cast(self._abort_flag, c.c_void_p)
        context: int | None = self._library.llama_init_from_model(self._model, params)
        if context is None:
            raise RuntimeFailedError(
                f"llama.cpp has no context of {self._context_length} tokens: {_reason()}"
            )
        return context

    def _reuse(self, prompt: Sequence[int]) -> int:
        """Forget what is not a prefix of the prompt; how many tokens of it are left."""
        pairs = zip(self._held, prompt, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if same == len(prompt):
            # Logits are needed, so something is computed again. A token alone and the same token at
            # the end of a batch differ in the last bits, and equal prompts would get unequal answers.
            same = min(self._prefilled_from, len(prompt) - 1)
        return self._rewind_to(same)

    def _rewind_to(self, length: int) -> int:
        """Keep the first `length` tokens, or none where the architecture cannot forget a part."""
        if length and self._library.llama_memory_seq_rm(self._memory, 0, length, -1):
            del self._held[length:]
        else:
            self._library.llama_memory_clear(self._memory, False)  # noqa: FBT003 - a C prototype
            self._held.clear()
        return len(self._held)

    def _prefill(self, prompt: Sequence[int], reused: int) -> bool:
        if not all(0 <= token < self._vocabulary_size for token in prompt):
            raise RuntimeFailedError(
                "the tokenizer is not the model's: an id is outside its vocabulary"
            )
        for start in range(reused, len(prompt), BATCH_TOKENS):
            self._prefilled_from = start
            if not self._decode(prompt[start : start + BATCH_TOKENS]):
                return False
        return True

    def _decode(self, tokens: Sequence[int]) -> bool:
        """Compute the tokens after those held; False if that was aborted."""
        ids = (h.TOKEN * len(tokens))(*tokens)
        batch = self._library.llama_batch_get_one(ids, len(tokens))
        status = self._library.llama_decode(self._context, batch)
        if status == 0:
            self._held.extend(tokens)
            return True
        # A part of the batch may have been computed: without this the next run would stand on it.
        self._rewind_to(len(self._held))
        # The decode has been logged as failed in either case.
        reason = _reason()
        _ERRORS.clear()
        if status == h.DECODE_ABORTED:
            return False
        raise RuntimeFailedError(f"llama.cpp failed with status {status}: {reason}")

    @contextmanager
    def _sampler(self, sampling: Sampling, prompt: Sequence[int]) -> Iterator[int]:
        """A chain in the order of llama.cpp's own default; greedy at temperature 0."""
        library = self._library
        chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        last = self._context_length if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        stages = [
            library.llama_sampler_init_penalties(
                self._vocabulary_size,
                last,
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            )
        ]
        if sampling.temperature <= 0:
            stages.append(library.llama_sampler_init_greedy())
        else:
            seed = sampling.seed & 0xFFFFFFFF
            stages += [
                library.llama_sampler_init_top_k(sampling.top_k),
                library.llama_sampler_init_typical(sampling.typical_p, 1),
                library.llama_sampler_init_top_p(sampling.top_p, 1),
                library.llama_sampler_init_min_p(sampling.min_p, 1),
                library.llama_sampler_init_temp(sampling.temperature),
                library.llama_sampler_init_dist(min(seed, _RANDOM_SEED - 1)),
            ]
        for stage in stages:
            library.llama_sampler_chain_add(chain, stage)
        # Penalties see the end of the prompt too, as in Ollama's runner.
        for token in prompt[-last:] if last else ():
            library.llama_sampler_accept(chain, token)
        try:
            yield chain
        finally:
            library.llama_sampler_free(chain)
