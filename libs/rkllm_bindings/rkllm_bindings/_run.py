"""One run seen from its callbacks: copies what dies with them, and never lets an exception into C.

A Python callback that raises or returns None hands C garbage (-1104981984 and -128 were seen),
which releases from 1.2.1 on take for "pause" or "release". So `take` catches everything and
returns an int.
"""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Callable
from typing import Any

from rkllm_bindings._abi.enums import LLMCallState
from rkllm_bindings._abi.family import Family
from rkllm_bindings.values import Mode, Perf, State, Step

_CONTINUE = 0
_RELEASE = 2
"""Free the hidden states or logits now; before 1.3.0 they stay allocated (rknn-llm#504)."""

_HIDDEN_OF_1_1 = LLMCallState.RKLLM_RUN_GET_LAST_HIDDEN_LAYER


class Run:
    """What the callbacks of one `rkllm_run` share. Callbacks come from one thread, whichever."""

    def __init__(
        self,
        serial: int,
        family: Family,
        on_step: Callable[[Step], None],
        *,
        mode: Mode,
        last_row_only: bool,
    ) -> None:
        self.serial = serial
        """Goes out as userdata, so that a callback of an earlier run is told apart."""
        self.finished = False
        self.errored = False
        self.aborted = False
        self.perf: Perf | None = None
        self.failure: BaseException | None = None
        """What `on_step` raised first."""
        self.callback_thread: int | None = None
        """The thread that is inside a callback at this moment."""
        self.helpers: list[threading.Thread] = []
        """Threads that call abort on behalf of a callback."""
        self._family = family
        self._on_step = on_step
        self._mode = mode
        self._last_row_only = last_row_only

    def take(self, result: Any, state: int) -> int:
        """Answer one callback. After `on_step` raised once, it is not called again."""
        self.callback_thread = threading.get_ident()
        try:
            answer = _CONTINUE
            if self.failure is None:
                answer = self._step(result.contents if result else None, state)
        except BaseException as error:  # noqa: BLE001 - it must not cross into C; run() raises it
            self.failure = error
            return _CONTINUE
        else:
            return answer
        finally:
            self.callback_thread = None

    def _step(self, result: Any, number: int) -> int:
        state = State.NORMAL if number == _HIDDEN_OF_1_1 else State(number)
        if state is State.ERROR:
            self.errored = True
        if state is State.FINISH:
            self.finished = True
            self.perf = self._perf(result)
        if result is None or state in (State.FINISH, State.ERROR):
            # The vendor's code never reads token or text here.
            self._on_step(Step(state=state, token_id=-1, text=None, perf=self.perf))
            return _CONTINUE
        if self._mode is Mode.GENERATE:
            self._on_step(Step(state=state, token_id=result.token_id, text=result.text))
            return _CONTINUE
        if self._mode is Mode.HIDDEN_STATES:
            layer = result.last_hidden_layer
            hidden = self._copy(layer.hidden_states, layer.num_tokens, layer.embd_size)
            self._on_step(Step(state=state, token_id=-1, text=None, hidden=hidden))
            return self._release(hidden)
        table = result.logits
        logits = self._copy(table.logits, table.num_tokens, table.vocab_size)
        self._on_step(Step(state=state, token_id=result.token_id, text=result.text, logits=logits))
        return self._release(logits)

    def _release(self, given: memoryview[float] | None) -> int:
        return _RELEASE if given is not None and self._family.releases_buffers else _CONTINUE

    def _perf(self, result: Any) -> Perf | None:
        if result is None or not self._family.gives_perf:
            return None
        perf = result.perf
        return Perf(
            prefill_ms=perf.prefill_time_ms,
            prefill_tokens=perf.prefill_tokens,
            generate_ms=perf.generate_time_ms,
            generate_tokens=perf.generate_tokens,
            memory_mb=perf.memory_usage_mb,
        )

    def _copy(self, values: Any, rows: int, width: int) -> memoryview[float] | None:
        """float[rows][width], or its last row, out of the library's memory."""
        if not values or rows <= 0 or width <= 0:
            return None
        start = 0
        if self._last_row_only:
            start, rows = rows - 1, 1
        address = c.addressof(values.contents) + start * width * c.sizeof(c.c_float)
        data = c.string_at(address, rows * width * c.sizeof(c.c_float))
        return memoryview(data).cast("f", (rows, width))
