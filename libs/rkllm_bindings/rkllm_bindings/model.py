"""A loaded model: the one owner of a handle, its callbacks and every buffer that the library sees.

    with Model(library, ModelConfig(path=path)) as model:
        result = model.run(Tokens(ids=[1, 2, 3]), on_step)

Threads: one call at a time; `run` blocks until the run is over, so give it a thread of its own.
`abort` alone may be called during a run, from any thread, also from inside `on_step`. The library's
callbacks may come on the thread of `run` or on one of the library's (not documented).

Memory the library reads:

    init parameters, the callback, its RKLLMCallback    until the handle is destroyed
    prompt, ids, embeddings, role, sampling, LoRA name  until `rkllm_run` returned
    cross attention buffers                             until replaced, or the handle is destroyed

Memory the library gives (text, hidden states, logits) is copied inside the callback.
"""

from __future__ import annotations

import ctypes as c
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rkllm_bindings import _marshal
from rkllm_bindings._library import Library
from rkllm_bindings._run import Run
from rkllm_bindings.errors import (
    BusyError,
    ClosedError,
    InitError,
    RkllmError,
    RunError,
    StatusError,
    UnsupportedError,
)
from rkllm_bindings.values import Input, Mode, ModelConfig, RunResult, Sampling, Step

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def _check(function: str, status: int) -> None:
    if status != 0:
        raise StatusError(function, status)


class Model:
    """One model on the NPU (or the emulator). A process should hold only one (rknn-llm#367)."""

    def __init__(self, library: Library, config: ModelConfig) -> None:
        self._library = library
        self._family = library.family
        self._config = config
        self._handle = c.c_void_p()
        self._turn = threading.Lock()
        """Held by whoever is inside a call that is not abort."""
        self._state = threading.Lock()
        """Guards `_run` against an abort that would hit the next run."""
        self._run: Run | None = None
        self._runs = 0
        # Kept alive for the handle: C calls the first, reads the others.
        self._callback = self._family.result_callback(self._on_result)
        self._init_param: _marshal.Marshalled | None = None
        self._callbacks: Any = None
        self._cross_attention: _marshal.Marshalled | None = None

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def library(self) -> Library:
        """The library it runs on."""
        return self._library

    @property
    def config(self) -> ModelConfig:
        """What it was loaded with."""
        return self._config

    @property
    def loaded(self) -> bool:
        """Whether there is a handle."""
        return bool(self._handle)

    @property
    def supports_sampling_per_run(self) -> bool:
        """Whether `run` takes `sampling` and `max_new_tokens` (from 1.3.0)."""
        return self._family.samples_per_run

    def load(self) -> None:
        """Load the model; `with` does it. Seconds long: 16 for 3 to 4 B weights (rknn-llm#431).

        On 1.1 a return is no promise: a model that could not be loaded crashes the process in its
        first run (rknn-llm#156); warm it up.

        Raises:
            InitError: The library refused; its reason is on stdout.
            UnsupportedError: The configuration asks for what the family has not.
            RkllmError: It is loaded already.
        """
        with self._call(loaded=False):
            param = _marshal.init_param(self._family, self._config)
            given: Any = self._callback
            if self._family.callback_struct:
                # Tokenizer and embedding callbacks stay NULL: models carry their own.
                self._callbacks = self._family.new("RKLLMCallback")
                self._callbacks.result_callback = self._callback
                given = c.byref(self._callbacks)
            handle = c.c_void_p()
            status = self._library.function("rkllm_init")(
                c.byref(handle), c.byref(param.struct), given
            )
            if status != 0 or not handle:
                # What is left of a failed init belongs to the library (#522).
                raise InitError("rkllm_init", status, f"{self._config.path} was not loaded")
            self._init_param = param
            self._handle = handle

    def close(self) -> None:
        """Free the model. Harmless twice. A run in progress is aborted and waited for.

        Raises:
            StatusError: The library could not; the handle is given up all the same.
        """
        while not self._turn.acquire(timeout=0.1):
            self.abort()
        try:
            if not self._handle:
                return
            handle, self._handle = self._handle, c.c_void_p()
            status = self._library.function("rkllm_destroy")(handle)
            self._init_param = self._cross_attention = None
            _check("rkllm_destroy", status)
        finally:
            self._turn.release()

    def run(
        self,
        source: Input,
        on_step: Callable[[Step], None],
        *,
        mode: Mode = Mode.GENERATE,
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        keep_history: bool = False,
        lora: str | None = None,
        save_prompt_cache: Path | None = None,
        role: str = "user",
        enable_thinking: bool = False,
        last_row_only: bool = False,
    ) -> RunResult:
        """Run the model on an input and return when the run is over.

        Args:
            source: What it is given.
            on_step: Called for each callback, perhaps on another thread, and never after the
                return. If it raises, the run is aborted and the exception raised here.
            mode: Text, hidden states or logits.
            sampling: All nine values for this run; None takes those of init. From 1.3.0.
            max_new_tokens: Of this run; None or 0 takes that of init. From 1.3.0.
            keep_history: Add to the conversation in the KV cache (from 1.2.0). False discards it,
                but its tokens are still matched with the next prompt.
            lora: Name of a loaded adapter.
            save_prompt_cache: Where to write the prompt cache after the run.
            role: `user` or `tool`; text input only (from 1.2.1).
            enable_thinking: For Qwen3's template; text input only (from 1.2.1).
            last_row_only: Copy only the last row of hidden states or logits.

        Raises:
            RunError: It failed: a status other than 0, or ERROR, without an abort.
            UnsupportedError: The family cannot do what was asked; nothing ran.
            ValueError: The input is empty or malformed; nothing ran.
            BusyError: A call is in progress on this model.
            ClosedError: It is not loaded.
        """
        given = _marshal.run_input(
            self._family, source, self._config, role=role, enable_thinking=enable_thinking
        )
        infer = _marshal.infer_param(
            self._family,
            mode=mode,
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            keep_history=keep_history,
            lora=lora,
            save_prompt_cache=save_prompt_cache,
        )
        with self._call():
            self._runs += 1
            run = Run(self._runs, self._family, on_step, mode=mode, last_row_only=last_row_only)
            with self._state:
                self._run = run
            try:
                status = self._library.function("rkllm_run")(
                    self._handle, c.byref(given.struct), c.byref(infer.struct), run.serial
                )
            finally:
                # From here on neither an abort nor a late callback finds the run.
                with self._state:
                    self._run = None
                for helper in run.helpers:
                    helper.join()
        if run.failure is not None:
            raise run.failure
        if (status != 0 or run.errored) and not run.aborted:
            detail = "ERROR in the callback" if run.errored else ""
            raise RunError("rkllm_run", status, detail)
        return RunResult(status=status, finished=run.finished, aborted=run.aborted, perf=run.perf)

    def abort(self) -> bool:
        """Ask the run in progress to stop; the return of `run` says when it has.

        Harmless when idle. It does not cut prefill short (rknn-llm#400), and one that comes before
        the library has begun is lost: repeat it until `run` returns. Afterwards clear the KV cache.

        Returns:
            Whether there was a run to ask.
        """
        run = self._run
        if run is not None and run.callback_thread == threading.get_ident():
            # Whether a callback may call rkllm_abort itself is not documented: another thread does.
            self._abort_from_helper(run)
            return True
        with self._state:
            if self._run is None:
                return False
            self._run.aborted = True
            self._library.function("rkllm_abort")(self._handle)
            return True

    def clear_kv_cache(self, *, keep_system_prompt: bool = False) -> None:
        """Empty the KV cache, or all of it but the system prompt of the library's template.

        From 1.2.0. It returns no memory to the system (rknn-llm#504).

        Raises:
            UnsupportedError: abi-1.1 has no such function.
            StatusError: The library could not.
        """
        # Pointers for ranges, which only a paused run may name; the type table says how many there
        #     are.
        rest = self._family.prototypes.get("rkllm_clear_kv_cache", (None, []))[1][2:]
        self._plain("rkllm_clear_kv_cache", int(keep_system_prompt), *[None for _ in rest])

    def kv_cache_size(self) -> int:
        """Positions that the KV cache holds. From 1.2.1.

        Raises:
            UnsupportedError: The family has no such function.
            StatusError: The library could not.
        """
        sizes = (c.c_int * 1)()
        self._plain("rkllm_get_kv_cache_size", sizes)
        return sizes[0]

    def load_lora(self, path: Path, name: str, *, scale: float = 1.0) -> None:
        """Load an adapter; runs ask for it by name. One that does not match the model is refused.

        Raises:
            StatusError: The library could not.
        """
        adapter = self._family.new("RKLLMLoraAdapter")
        adapter.lora_adapter_path = os.fsencode(path)
        adapter.lora_adapter_name = _marshal.text_bytes(name)
        adapter.scale = scale
        self._plain("rkllm_load_lora", c.byref(adapter))

    def load_prompt_cache(self, path: Path) -> None:
        """Fill the KV cache from a file; the next prompt reuses what it has in common with it.

        Whether a file of another release is valid is not documented: name files by model and
        version.

        Raises:
            StatusError: It is missing, empty, or of another model.
        """
        self._plain("rkllm_load_prompt_cache", os.fsencode(path))

    def release_prompt_cache(self) -> None:
        """Let go of the loaded prompt cache; needed before another is loaded (manual 1.3.0, 3.2.9).

        Raises:
            StatusError: The library could not.
        """
        self._plain("rkllm_release_prompt_cache")

    def set_chat_template(self, system: str, prefix: str, postfix: str) -> None:
        """Replace the library's template of text and multimodal input; all empty: raw text.

        From 1.2.0. Clears the KV cache, and switches enable_thinking off (rknn-llm#377, #431).

        Raises:
            UnsupportedError: abi-1.1 has no such function.
            StatusError: The library could not.
        """
        texts = [_marshal.text_bytes(text) for text in (system, prefix, postfix)]
        self._plain("rkllm_set_chat_template", *texts)

    def set_function_tools(self, system: str, tools_json: str, tool_response: str) -> None:
        """Let the library build a system prompt with tools; text input only. From 1.2.1.

        It overrides the system prompt of `set_chat_template`; with a template set by hand the tools
        were not inserted (rknn-llm#377).

        Raises:
            UnsupportedError: The family has no such function.
            StatusError: The library could not.
        """
        texts = [_marshal.text_bytes(text) for text in (system, tools_json, tool_response)]
        self._plain("rkllm_set_function_tools", *texts)

    def set_cross_attention(
        self,
        *,
        k_cache: ReadableBuffer,
        v_cache: ReadableBuffer,
        mask: ReadableBuffer,
        positions: list[int],
    ) -> None:
        """Give the encoder's output to a model that was exported and loaded with cross attention.

        From 1.2.1. Buffers are float32 in the layouts of the manual (1.3.0, 3.2.13); `mask` and
        `positions` have one value per encoder token.

        Raises:
            UnsupportedError: The family has no such function.
            ValueError: A buffer is too short.
            StatusError: The library could not.
        """
        if "RKLLMCrossAttnParam" not in self._family.structs:
            raise UnsupportedError("rkllm_set_cross_attn_params", self._family.id)
        made = _marshal.Marshalled(self._family.new("RKLLMCrossAttnParam"))
        count = len(positions)
        for name, data in (
            ("encoder_k_cache", k_cache),
            ("encoder_v_cache", v_cache),
            ("encoder_mask", mask),
        ):
            values = _marshal.floats(data, count)
            made.kept.append(values)
            setattr(made.struct, name, values)
        ids = _marshal.int32s(positions)
        made.kept.append(ids)
        made.struct.encoder_pos = ids
        made.struct.num_tokens = count
        self._plain("rkllm_set_cross_attn_params", c.byref(made.struct))
        self._cross_attention = made

    def _plain(self, name: str, *arguments: Any) -> None:
        """Call a function that takes the handle and returns a status."""
        function = self._library.function(name)
        with self._call():
            _check(name, function(self._handle, *arguments))

    @contextmanager
    def _call(self, *, loaded: bool = True) -> Iterator[None]:
        """Nothing but abort is documented as callable during another call: one at a time."""
        if not self._turn.acquire(blocking=False):
            raise BusyError("a call is in progress on this model")
        try:
            if loaded and not self._handle:
                raise ClosedError("the model is not loaded")
            if not loaded and self._handle:
                raise RkllmError("the model is loaded already")
            yield
        finally:
            self._turn.release()

    def _on_result(self, result: Any, userdata: int | None, state: int) -> int:
        """The callback of the handle, on whatever thread. Never raises, always an int."""
        run = self._run
        # A library that loses userdata gives NULL; any other number is an earlier run's.
        if run is None or userdata not in (None, run.serial):
            return 0
        failed = run.failure is not None
        answer = run.take(result, state)
        if run.failure is not None and not failed:
            self._abort_from_helper(run)
        return answer

    def _abort_from_helper(self, run: Run) -> None:
        run.aborted = True
        helper = threading.Thread(target=self._abort_run, args=(run,), daemon=True)
        run.helpers.append(helper)
        helper.start()

    def _abort_run(self, run: Run) -> None:
        with self._state:
            if self._run is run:
                self._library.function("rkllm_abort")(self._handle)
