"""The runtime of Rockchip's NPUs: the vendor's library, through `rkllm_bindings`.

The whole token list goes in every time, with the history off: the library reuses the prefix it has in
common with what it computed last (rknn-llm#432). The end of a run is the return of `rkllm_run`, never a
callback (semantics.md section 4). Nothing here was run on an NPU; it is proven against the emulator.

The library has no grammar, and tells no probabilities. An experiment, off unless `RkllmSpec.constrained`,
gets both out of it by asking for the logits of the whole list after every token: GET_LOGITS, one token at
a time (rknn-llm#446, #278). What that costs on a board, and whether it works there, nobody has shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from time import monotonic

import numpy as np
from rkllama_policy.context import DEFAULT_CONTEXT_TOKENS
from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError, UnsupportedError
from rkllama_protocol.messages import Sampling
from rkllm_bindings import (
    LibraryError,
    Mode,
    ModelConfig,
    Perf,
    RkllmError,
    RunResult,
    State,
    Step,
    Tokens,
    load_library,
)
from rkllm_bindings import Sampling as VendorSampling

from rkllama_worker.engine.output import Output
from rkllama_worker.engine.runtime.base import (
    Emit,
    GenerateRequest,
    PoolingKind,
    RunStats,
    RuntimeFinish,
)
from rkllama_worker.engine.runtime.logits import Floats, Sampler
from rkllama_worker.engine.runtime.prompt_cache import PromptCache
from rkllama_worker.engine.runtime.rkllm_loading import load_adapter, load_model
from rkllama_worker.engine.runtime.rkllm_values import believable, nanoseconds, vendor_sampling
from rkllama_worker.engine.runtime.stepping import step_by_step
from rkllama_worker.engine.wire import RkllmSpec

log = logging.getLogger(__name__)

RESERVED_TOKENS = 4
"""Positions the library keeps for itself (rkllama#25: 1024 configured, 1020 usable)."""
ABORT_INTERVAL_S = 0.1
NEVER_HONOURED = frozenset({"seed", "min_p", "typical_p", "repeat_last_n"})
"""No release has them (rkllm.h; rknn-llm#443 for the seed)."""
_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)


class Rkllm:
    """A `.rkllm` model on the NPU."""

    def __init__(
        self,
        weights: Path,
        *,
        spec: RkllmSpec,
        num_ctx: int | None,
        sampling: Sampling,
        output: Output,
        adapters: Sequence[Path] = (),
    ) -> None:
        """Load the model; `sampling` is what releases before 1.3.0 keep for all runs.

        Every run uses the LoRA adapter, of which there may be one: a run names one (rkllm.h).

        Raises:
            InvalidModelError: The library refuses the file or the adapter, or its first run fails.
            UnsupportedError: There are several adapters.
            RuntimeFailedError: The library is missing, unknown, or has no NPU or memory.
        """
        if not weights.is_file() or not weights.stat().st_size:
            raise InvalidModelError(
                f"the weights are missing: {weights.name} is not there, or empty"
            )
        if len(adapters) > 1:
            raise UnsupportedError("the RKLLM runtime uses one LoRA adapter at a time")
        self._output = output
        self._sampling = sampling
        self._weights_bytes = weights.stat().st_size
        self._aborted_at = -inf
        self._cache_is_good = True
        self._unwanted = False
        """The run under way is to end, also where the library is between two steps of it."""
        try:
            self._library = load_library(Path(spec.library), abi=spec.abi or None)
        except LibraryError as error:
            raise RuntimeFailedError(str(error)) from error
        wanted = max(num_ctx or DEFAULT_CONTEXT_TOKENS, 2 * RESERVED_TOKENS)
        config = ModelConfig(
            path=weights,
            max_context_len=wanted,
            sampling=vendor_sampling(sampling),
            base_domain_id=spec.base_domain_id,
            enabled_cpus_mask=spec.cpu_mask,
        )
        self._model, said = load_model(self._library, config, output)
        self._context_length = self._model.config.max_context_len
        self._context_limit = said.context_limit
        log.info(
            "rkllm model loaded",
            extra={
                "family": self._library.identity.family,
                "emulator": self._library.identity.emulator,
                **asdict(said),
            },
        )
        self._steps = spec.constrained and self._library.family.gives_logits
        self._prompt_cache = PromptCache(self._model, wanted=spec.saves)
        self._lora = load_adapter(self._model, adapters[0], output) if adapters else None
        if self._library.family.id == "abi-1.1":
            self._warm_up()

    @property
    def context_length(self) -> int:
        """Tokens of the context, those the library reserves included."""
        return self._context_length

    @property
    def context_limit(self) -> int | None:
        """What the model was converted for, as the library prints it when it loads the model."""
        return self._context_limit

    @property
    def usable_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context_length - RESERVED_TOKENS

    @property
    def embeddable_tokens(self) -> int:
        """One less: the runtime goes on behind a text, whatever it is asked for."""
        return self.usable_tokens - 1

    @property
    def accelerator_bytes(self) -> int:
        """The weights, which the driver holds outside of the process (platform.md section 6)."""
        return self._weights_bytes

    @property
    def shows_logits(self) -> bool:
        """If the experiment is on, and the release gives logits (from 1.2.0)."""
        return self._steps

    @property
    def pooling(self) -> PoolingKind:
        """The last token, as in the vendor's example of Qwen3-Embedding (rknn-llm#504)."""
        return "last"

    @property
    def saves_as(self) -> str:
        """The release, if it saves prompts."""
        return self._prompt_cache.written_as

    def save(self, path: Path) -> bool | None:
        """See `Runtime.save`; the prompt, which the library has written in the run."""
        return self._prompt_cache.written(path)

    def restore(self, path: Path) -> bool:
        """See `Runtime.restore`."""
        # What a load that failed leaves behind is not built upon.
        self._cache_is_good = self._prompt_cache.load(path)
        return self._cache_is_good

    def ignored(self, request: GenerateRequest) -> frozenset[str]:
        """Sampling options that the run does not get; one of single steps gets all."""
        if _wants_logits(request):
            return frozenset()
        if self._model.supports_sampling_per_run:
            return NEVER_HONOURED
        differing = (
            name
            for name in _NAMES
            if getattr(request.sampling, name) != getattr(self._sampling, name)
        )
        return NEVER_HONOURED | frozenset(differing)

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """See `Runtime.generate`."""
        self._unwanted = False
        self._prompt_cache.run(whole=False)
        if _wants_logits(request):
            return self._generate_by_steps(prompt, request, emit)
        per_run = self._model.supports_sampling_per_run
        made = 0
        wanted = True
        said = bytearray()

        def on_step(step: Step) -> None:
            nonlocal made, wanted
            if step.state not in (State.NORMAL, State.WAITING) or step.token_id < 0:
                return
            if wanted and made < request.max_tokens:
                made += 1
                if step.state is State.NORMAL:
                    said.extend(step.text or b"")
                wanted = emit((step.token_id,))
                # From 1.3.0 the library knows the bound, and ends without an abort: the cache stays good.
                if wanted and (made < request.max_tokens or per_run):
                    return
            self.abort()

        result = self._run(
            prompt,
            on_step,
            sampling=vendor_sampling(request.sampling) if per_run else None,
            max_new_tokens=request.max_tokens if per_run else None,
            save_to=request.save_to,
        )
        self._prompt_cache.run(whole=not result.aborted)
        finish: RuntimeFinish = "aborted" if not wanted or result.aborted else "stop"
        perf = believable(result.perf, len(prompt))
        return RunStats(
            reused_tokens=len(prompt) - perf.prefill_tokens if perf else 0,
            finish="length" if wanted and made == request.max_tokens else finish,
            prefill_ns=nanoseconds(perf.prefill_ms) if perf else None,
            decode_ns=nanoseconds(perf.generate_ms) if perf else None,
            text=bytes(said) or None,
        )

    def _generate_by_steps(
        self, prompt: Sequence[int], request: GenerateRequest, emit: Emit
    ) -> RunStats:
        first: list[Perf | None] = []

        def logits_of(ids: Sequence[int]) -> Floats | None:
            row, perf = self._logits(ids)
            first.append(perf)
            return row

        finish = step_by_step(
            prompt,
            request,
            emit,
            logits_of=logits_of,
            sampler=Sampler(request.sampling, prompt, context_length=self._context_length),
        )
        perf = believable(first[0], len(prompt)) if first else None
        return RunStats(
            reused_tokens=len(prompt) - perf.prefill_tokens if perf else 0, finish=finish
        )

    def _logits(self, ids: Sequence[int]) -> tuple[Floats | None, Perf | None]:
        """The logits behind `ids`, float32 [vocabulary], or None if that was aborted."""
        if self._unwanted:
            return None, None
        rows: list[memoryview[float]] = []
        per_run = self._model.supports_sampling_per_run

        def on_step(step: Step) -> None:
            if step.logits is not None:
                rows.append(step.logits)
            elif step.state in (State.NORMAL, State.WAITING) and not per_run:
                # Whether it goes on to generate is not documented. To pause would be worse: the next
                # run would go on with it (rknn-llm#534).
                self._model.abort()

        result = self._run(
            ids,
            on_step,
            mode=Mode.LOGITS,
            max_new_tokens=1 if per_run else None,
            last_row_only=True,
        )
        if self._unwanted:
            return None, None
        if not rows:
            raise RuntimeFailedError("the RKLLM runtime gave no logits")
        return np.asarray(rows[0])[-1], result.perf

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> Floats:
        """See `Runtime.embed`."""
        rows: list[memoryview[float]] = []

        def on_step(step: Step) -> None:
            if step.hidden is not None:
                rows.append(step.hidden)

        # Rows of a reused prefix are not delivered again (semantics.md section 8, for logits).
        self._cache_is_good = False
        self._run(prompt, on_step, mode=Mode.HIDDEN_STATES, last_row_only=last_only)
        if last_only:
            del rows[:-1]
        count = sum(len(some) for some in rows)
        if count != (1 if last_only else len(prompt)):
            raise RuntimeFailedError(
                f"the RKLLM runtime gave {count} hidden states for {len(prompt)} tokens"
            )
        return np.concatenate([np.asarray(some) for some in rows])

    def abort(self) -> None:
        """End the run under way; it is asked again and again, so not every time reaches the library."""
        self._unwanted = True
        now = monotonic()
        if now - self._aborted_at >= ABORT_INTERVAL_S and self._model.abort():
            self._aborted_at = now

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def _warm_up(self) -> None:
        """1.1 returns 0 from an init that failed, and crashes in the first run (rknn-llm#156)."""
        request = GenerateRequest(sampling=self._sampling, max_tokens=1)
        try:
            self.generate((0,), request, lambda _ids, _logprobs=(): True)
        except RuntimeFailedError as error:
            raise InvalidModelError(f"the model does not run: {error.message}") from error

    def _run(
        self,
        prompt: Sequence[int],
        on_step: Callable[[Step], None],
        *,
        mode: Mode = Mode.GENERATE,
        sampling: VendorSampling | None = None,
        max_new_tokens: int | None = None,
        save_to: Path | None = None,
        last_row_only: bool = False,
    ) -> RunResult:
        """One run, and the end of whatever ran before it."""
        self._output.trim()
        self._aborted_at = -inf
        if not self._cache_is_good:
            self._clear_cache()
        # What a failed or aborted run leaves in the cache is not documented: it is not built upon.
        self._cache_is_good = False
        try:
            result = self._model.run(
                Tokens(ids=prompt),
                on_step,
                mode=mode,
                sampling=sampling,
                max_new_tokens=max_new_tokens,
                lora=self._lora,
                save_prompt_cache=save_to,
                last_row_only=last_row_only,
            )
        except RkllmError as error:
            raise RuntimeFailedError(f"the RKLLM runtime failed: {error}") from error
        self._cache_is_good = not result.aborted
        return result

    def _clear_cache(self) -> None:
        if not self._library.has("rkllm_clear_kv_cache"):
            return
        try:
            self._model.clear_kv_cache()
        except RkllmError as error:
            # The library still compares a prompt with what it holds.
            log.warning("kv cache was not cleared", extra={"reason": str(error)})


def _wants_logits(request: GenerateRequest) -> bool:
    return request.constraint is not None or request.top_logprobs is not None
