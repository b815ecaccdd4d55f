"""The runtime of Rockchip's NPUs: the vendor's library, through `rkllm_bindings`.

The whole token list goes in every time, with the history off: the library reuses the prefix it has in
common with what it computed last (rknn-llm#432). The end of a run is the return of `rkllm_run`, never a
callback (semantics.md section 4). Nothing here was run on an NPU; it is proven against the emulator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from time import monotonic

from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError
from rkllama_protocol.messages import Sampling
from rkllm_bindings import (
    InitError,
    LibraryError,
    Mode,
    Model,
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
    RunStats,
    RuntimeFinish,
)
from rkllama_worker.engine.runtime.init_log import InitLog, parse
from rkllama_worker.engine.wire import RkllmSpec

log = logging.getLogger(__name__)

DEFAULT_CONTEXT_TOKENS = 4096
"""What the vendor's demos load with, and what most models are converted for."""
RESERVED_TOKENS = 4
"""Positions the library keeps for itself (rkllama#25: 1024 configured, 1020 usable)."""
UNLIMITED_TOP_K = 1000
"""For Ollama's 0, which no release documents."""
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
    ) -> None:
        """Load the model; `sampling` is what releases before 1.3.0 keep for all runs.

        Raises:
            InvalidModelError: The library refuses the file, or its first run fails.
            RuntimeFailedError: The library is missing, unknown, or has no NPU or memory.
        """
        if not weights.is_file() or not weights.stat().st_size:
            raise InvalidModelError(
                f"the weights are missing: {weights.name} is not there, or empty"
            )
        self._output = output
        self._sampling = sampling
        self._weights_bytes = weights.stat().st_size
        self._aborted_at = -inf
        self._cache_is_good = True
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
        self._model, said = self._open(config)
        self._context_length = self._model.config.max_context_len
        log.info(
            "rkllm model loaded",
            extra={
                "family": self._library.identity.family,
                "emulator": self._library.identity.emulator,
                **asdict(said),
            },
        )
        if self._library.family.id == "abi-1.1":
            self._warm_up()

    @property
    def context_length(self) -> int:
        """Tokens of the context, those the library reserves included."""
        return self._context_length

    @property
    def usable_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context_length - RESERVED_TOKENS

    @property
    def accelerator_bytes(self) -> int:
        """The weights, which the driver holds outside of the process (platform.md section 6)."""
        return self._weights_bytes

    def ignored(self, sampling: Sampling) -> frozenset[str]:
        """Sampling options that a run with these values does not get."""
        if self._model.supports_sampling_per_run:
            return NEVER_HONOURED
        differing = (
            name for name in _NAMES if getattr(sampling, name) != getattr(self._sampling, name)
        )
        return NEVER_HONOURED | frozenset(differing)

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """See `Runtime.generate`."""
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
        )
        finish: RuntimeFinish = "aborted" if not wanted or result.aborted else "stop"
        perf = believable(result.perf, len(prompt))
        return RunStats(
            reused_tokens=len(prompt) - perf.prefill_tokens if perf else 0,
            finish="length" if wanted and made == request.max_tokens else finish,
            prefill_ns=_nanoseconds(perf.prefill_ms) if perf else None,
            decode_ns=_nanoseconds(perf.generate_ms) if perf else None,
            text=bytes(said) or None,
        )

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> memoryview[float]:
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
        width = rows[0].nbytes // rows[0].itemsize // len(rows[0])
        return memoryview(b"".join(rows)).cast("f", (count, width))

    def abort(self) -> None:
        """End the run under way; it is asked again and again, so not every time reaches the library."""
        now = monotonic()
        if now - self._aborted_at >= ABORT_INTERVAL_S and self._model.abort():
            self._aborted_at = now

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def _open(self, config: ModelConfig) -> tuple[Model, InitLog]:
        """Load; a context longer than the model was converted for is tried again with its limit."""
        mark = self._output.mark()
        model = Model(self._library, config)
        try:
            model.load()
        except InitError as error:
            said = parse(self._output.since(mark))
            limit = said.context_limit
            if limit is not None and limit < config.max_context_len:
                return self._open(replace(config, max_context_len=limit))
            reason = said.reason or str(error)
            raise InvalidModelError(f"the RKLLM runtime cannot load the model: {reason}") from error
        return model, parse(self._output.since(mark))

    def _warm_up(self) -> None:
        """1.1 returns 0 from an init that failed, and crashes in the first run (rknn-llm#156)."""
        request = GenerateRequest(sampling=self._sampling, max_tokens=1)
        try:
            self.generate((0,), request, lambda _: True)
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


def believable(perf: Perf | None, prompt_tokens: int) -> Perf | None:
    """The library's measurements, if it made any: builds of others may not fill them in."""
    return perf if perf is not None and 0 < perf.prefill_tokens <= prompt_tokens else None


def _nanoseconds(time_ms: float) -> int | None:
    return round(time_ms * 1e6) if 0 < time_ms < inf else None


def vendor_sampling(sampling: Sampling) -> VendorSampling:
    """All values set explicitly, as the vendor asks for repeatable results (rknn-llm#443)."""
    greedy = sampling.temperature <= 0
    return VendorSampling(
        top_k=1 if greedy else sampling.top_k if sampling.top_k > 0 else UNLIMITED_TOP_K,
        top_p=sampling.top_p,
        temperature=max(0.0, sampling.temperature),
        repeat_penalty=sampling.repeat_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
    )
