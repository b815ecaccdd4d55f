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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import numpy as np
from rkllama_protocol.errors import RuntimeFailedError, UnsupportedError
from rkllama_protocol.messages import Sampling

from rkllama_worker.engine.runtime import _llama_h as h
from rkllama_worker.engine.runtime import context_file
from rkllama_worker.engine.runtime.base import (
    Constraint,
    Emit,
    GenerateRequest,
    Logprobs,
    PoolingKind,
    RunStats,
    RuntimeFinish,
)
from rkllama_worker.engine.runtime.llama_model import BATCH_TOKENS, LlamaModel, take_reason
from rkllama_worker.engine.runtime.logits import Floats, Ids, logprobs

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""
_RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: draws one, so no job may mean it


class LlamaCpp:
    """A GGUF model in memory."""

    def __init__(
        self, weights: Path, *, num_ctx: int | None, adapters: Sequence[Path] = ()
    ) -> None:
        """Load the model with a context of `num_ctx` tokens, or 4096, at most what it was trained for.

        Every run uses all the LoRA `adapters`, each in full strength.

        Raises:
            InvalidModelError: A file is missing, damaged, or of a kind llama.cpp does not know; or an
                adapter is another model's.
            UnsupportedError: It is no model that continues text.
            RuntimeFailedError: The library is missing or unknown, or there is no memory.
        """
        self._model = LlamaModel(weights)
        self._library = self._model.library
        self._vocabulary = self._model.vocabulary
        self._vocabulary_size = self._model.vocabulary_size
        self._held: list[int] = []
        self._prefilled_from = 0
        """Where the last batch of the newest prompt began."""
        self._context_length = self._model.context_length(num_ctx)
        self._context = self._open_context()
        self._memory = self._library.llama_get_memory(self._context)
        if self._memory is None or not self._library.llama_model_has_decoder(self._model.handle):
            raise UnsupportedError(
                "the model is an encoder; only models that continue text can run"
            )
        self._model.adapt(self._context, adapters)
        # The first decode reads every weight from the disk: that belongs to the load.
        self._decode([0])
        self._rewind_to(0)

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context_length

    @property
    def context_limit(self) -> int | None:
        """The file says it itself."""
        return None

    @property
    def usable_tokens(self) -> int:
        """All of them."""
        return self._context_length

    @property
    def embeddable_tokens(self) -> int:
        """All of them: nothing is written behind a text."""
        return self._context_length

    @property
    def accelerator_bytes(self) -> int:
        """Nothing: this runtime uses the CPU alone."""
        return 0

    @property
    def shows_logits(self) -> bool:
        """Yes."""
        return True

    @property
    def pooling(self) -> PoolingKind:
        """The last token, which has seen all the others."""
        return "last"

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """See `Runtime.generate`. Equal prompts with equal sampling get equal answers, run after run."""
        self._model.go_on()
        reused = self._reuse(prompt)
        with self._sampler(request.sampling, prompt) as sampler:
            if not self._prefill(prompt, reused):
                return RunStats(reused_tokens=reused, finish="aborted")
            finish = self._generate(sampler, request, emit)
        return RunStats(reused_tokens=reused, finish=finish)

    @property
    def saves_as(self) -> str:
        """The build: its states are no other's."""
        return f"llama.cpp-{h.XLLAMACPP_VERSION}"

    def save(self, path: Path) -> bool:
        """See `Runtime.save`; prompt and answer."""
        state = np.empty(self._library.llama_state_seq_get_size(self._context, 0), np.uint8)
        size = self._library.llama_state_seq_get_data(
            self._context, state.ctypes.data, state.nbytes, 0
        )
        # Where the last batch began decides how an equal prompt goes on.
        numbers = np.array([self._prefilled_from, *self._held], np.int32)
        return bool(size) and context_file.write(path, numbers, state[:size])

    def restore(self, path: Path) -> bool:
        """See `Runtime.restore`."""
        self._rewind_to(0)
        read = context_file.read(path)
        if read is None:
            return False
        numbers, state = read
        if len(numbers) > self._context_length or not self._library.llama_state_seq_set_data(
            self._context, state.ctypes.data, state.nbytes, 0
        ):
            # A part of it may have been taken.
            self._rewind_to(0)
            take_reason()
            return False
        self._prefilled_from, *self._held = numbers.tolist()
        return True

    def _generate(self, sampler: int, request: GenerateRequest, emit: Emit) -> RuntimeFinish:
        """Token after token, behind what is held; a constraint's forced ones are computed together."""
        constraint = request.constraint
        left = request.max_tokens
        while True:
            token, logprobs = self._choose(sampler, request)
            if self._library.llama_vocab_is_eog(self._vocabulary, token):
                return "stop"
            chosen = [token]
            if constraint is not None:
                constraint.accept(token)
                # Logprobs of forced tokens would have to be computed one by one.
                if not logprobs:
                    most = min(left, BATCH_TOKENS) - 1
                    chosen += self._forced(sampler, constraint, most)
            for one in chosen:
                if not emit((one,), logprobs):
                    return "aborted"
            left -= len(chosen)
            if constraint is not None and constraint.complete:
                return "stop"
            if not left:
                return "length"
            if not self._decode(chosen):
                return "aborted"

    def _forced(self, sampler: int, constraint: Constraint, most: int) -> list[int]:
        """Tokens that have to follow, taken."""
        forced = constraint.forced()[:most]
        for token in forced:
            constraint.accept(token)
            self._library.llama_sampler_accept(sampler, token)
        return forced

    def _choose(self, sampler: int, request: GenerateRequest) -> tuple[int, tuple[Logprobs, ...]]:
        """The next token, and what its place says if that was asked for."""
        if request.constraint is None and request.top_logprobs is None:
            return self._library.llama_sampler_sample(sampler, self._context, -1), ()
        row = self._library.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(row, shape=(self._vocabulary_size,))
        if request.constraint is None:
            token = self._library.llama_sampler_sample(sampler, self._context, -1)
        else:
            token = self._choose_among(sampler, logits, request.constraint.allowed())
        if request.top_logprobs is None:
            return token, ()
        return token, (logprobs(logits, token, request.top_logprobs),)

    def _choose_among(self, sampler: int, logits: Floats, allowed: Ids) -> int:
        """The chain's choice among some candidates: the others do not exist for it."""
        ids = allowed[allowed < self._vocabulary_size]
        candidates = np.zeros(len(ids), dtype=_CANDIDATE)
        candidates["id"], candidates["logit"] = ids, logits[ids]
        array = h.TokenDataArray(candidates.ctypes.data, len(ids), -1, False)  # noqa: FBT003
        self._library.llama_sampler_apply(sampler, c.byref(array))
        token = int(candidates["id"][array.selected])
        self._library.llama_sampler_accept(sampler, token)
        return token

    def ignored(self, request: GenerateRequest) -> frozenset[str]:
        """None: every option has its sampler."""
        return frozenset()

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> Floats:
        """See `Runtime.embed`; the last row alone.

        Nothing that is held is reused, before it or after: equal texts get equal vectors and equal
        prompts equal answers, whatever ran before.
        """
        if not last_only:
            raise UnsupportedError("a model that was loaded to continue text has one vector a text")
        self._model.go_on()
        self._model.check_ids(prompt)
        self._rewind_to(0)
        done = self._prefill(prompt[:-1], 0)
        self._library.llama_set_embeddings(self._context, True)  # noqa: FBT003 - a C prototype
        try:
            done = done and self._decode(prompt[-1:])
            row = self._library.llama_get_embeddings(self._context) if done else None
        finally:
            self._library.llama_set_embeddings(self._context, False)  # noqa: FBT003
            self._rewind_to(0)
        if row is None:
            raise RuntimeFailedError("the run was aborted")
        width = self._library.llama_model_n_embd_out(self._model.handle)
        return np.ctypeslib.as_array(row, shape=(1, width)).copy()

    def abort(self) -> None:
        """End the run under way, within one operation of its graph (5 ms in a prefill of 128)."""
        self._model.abort()

    def close(self) -> None:
        """Free the model."""
        self._library.llama_free(self._context)
        self._model.close()

    def _open_context(self) -> int:
        params = self._model.params()
        params.n_ctx = self._context_length
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_outputs_max = 1
        return self._model.open_context(params)

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
        self._model.check_ids(prompt)
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
        reason = take_reason()
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
