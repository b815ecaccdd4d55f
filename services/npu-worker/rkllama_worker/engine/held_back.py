"""Several attempts as one answer: their ids at once, the text of the one that is shown at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rkllama_protocol.codec import Chunk

from rkllama_worker.engine.answer import Durations
from rkllama_worker.engine.wire import RunEnded


class HeldBack:
    """Renumbers the chunks of the attempts, and adds their durations up."""

    def __init__(self, send: Callable[[Chunk], None]) -> None:
        self._send = send
        self._seq = 0
        self._before = Durations()
        self._ended = RunEnded(last_seq=-1)
        self._reused_tokens: int | None = None
        """Of the client's prompt, which only the first attempt reads."""

    def hold(self, chunk: Chunk) -> None:
        """Send a chunk without its text."""
        self._pass_on(replace(chunk, content="", thinking="", tool_calls=()))

    def end(self, chunk: Chunk) -> RunEnded:
        """Send the terminal chunk, text and all."""
        self._pass_on(replace(chunk, reused_tokens=self._reused_tokens or 0))
        return self._ended.model_copy(update={"last_seq": self._seq - 1})

    def aborted(self) -> RunEnded:
        """The end without a terminal chunk."""
        return self._ended.model_copy(update={"aborted": True})

    def count(self, attempt: RunEnded) -> None:
        """An attempt's call of the runtime has been joined."""
        both = {
            name: getattr(self._ended, name) + getattr(attempt, name)
            for name in (
                "prompt_tokens",
                "reused_tokens",
                "generated_tokens",
                "prefill_ns",
                "decode_ns",
            )
        }
        self._ended = self._ended.model_copy(update=both)
        if self._reused_tokens is None:
            self._reused_tokens = attempt.reused_tokens

    def next_attempt(self) -> None:
        """What follows is of another attempt, behind all that was counted."""
        self._before = Durations(self._ended.prefill_ns, self._ended.decode_ns)

    def _pass_on(self, chunk: Chunk) -> None:
        first = self._seq == 0
        self._send(
            replace(
                chunk,
                seq=self._seq,
                # What was read for asking again is no part of the client's prompt.
                prompt_tokens=chunk.prompt_tokens if first else 0,
                prompt_hash=chunk.prompt_hash if first else "",
                ignored_options=chunk.ignored_options if first else (),
                prefill_ns=self._before.prefill_ns + chunk.prefill_ns,
                decode_ns=self._before.decode_ns + chunk.decode_ns,
            )
        )
        self._seq += 1
