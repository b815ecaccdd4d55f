"""One answer: the runtime's ids on their way to chunks.

    ids -> EOS, repeats -> detokenizer -> stop strings -> output parser -> chunk

A pure function of the ids: durations are handed in, and how the ids were grouped changes only how the
text is spread over the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Job

from rkllama_worker.engine.detokenizer import Detokenizer
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.parsing.parser import Delta, Format, OutputParser
from rkllama_worker.engine.prompt import Prompt
from rkllama_worker.engine.runtime.base import RunStats
from rkllama_worker.engine.stops import StopMatcher

_BROKEN = "\ufffd"
MOST_REPEATS = 30
"""How often an answer that nobody bounded may say its last token again.

Ollama's limit (llm/llama_server.go, "token repeat limit reached"), there for every answer. A model that has
lost itself says one token until its context is full: minutes of a board.
"""


@dataclass(frozen=True, slots=True)
class Durations:
    """Nanoseconds of the run so far."""

    prefill_ns: int = 0
    decode_ns: int = 0

    def measured(self, stats: RunStats) -> Durations:
        """The runtime's own measurements, where it has any."""
        return Durations(
            prefill_ns=self.prefill_ns if stats.prefill_ns is None else stats.prefill_ns,
            decode_ns=self.decode_ns if stats.decode_ns is None else stats.decode_ns,
        )


class Answer:
    """The chunks of one run; `seq` counts up from 0."""

    def __init__(self, job: Job, prompt: Prompt, files: ModelFiles) -> None:
        self.ids: list[int] = []
        """Generated so far; EOS ids are no part of the answer."""
        self.ended = False
        """Whether an EOS id or a stop string has come, or it repeats itself: ids that follow are ignored."""
        self.seq = 0
        """Of the next chunk."""
        self.ignored_options: tuple[str, ...] = ()
        """What was asked for and the runtime cannot honour; told with the first chunk."""
        self._chunks: list[Chunk] = []
        self._text: list[str] = []
        """What the ids say, stop strings, thinking and calls included."""
        self._prompt = prompt
        self._eos_ids = files.eos_ids | prompt.ends
        self._most_repeats = math.inf if job.num_predict > 0 else MOST_REPEATS
        self._last = -1
        self._repeats = 0
        form = Format.of(job, prompt.template)
        self._detokenizer = Detokenizer(files.tokenizer, files.special_tokens, seen=form.words)
        self._stops = StopMatcher(job.stop)
        self._parser = OutputParser(
            form, job_id=job.job_id, prompt=prompt.text, hidden=self._detokenizer.seen
        )

    @property
    def said(self) -> Delta:
        """All that its chunks say so far."""
        return Delta(
            "".join(chunk.content for chunk in self._chunks),
            "".join(chunk.thinking for chunk in self._chunks),
            tuple(call for chunk in self._chunks for call in chunk.tool_calls),
        )

    def take(
        self,
        ids: Sequence[int],
        durations: Durations,
        logprobs: Sequence[dict[str, Any]] = (),
    ) -> Chunk | None:
        """The chunk of one emission, also where its text is held back; None if it has no id.

        `logprobs` has an entry for each id, or none at all.
        """
        taken: list[int] = []
        text = ""
        for group in self._groups(ids):
            taken += group
            text += self._detokenized(self._detokenizer.feed(group))
            if self._stops.matched:
                self.ended = True
                break
        if not taken:
            return None
        self.ids += taken
        return self._chunk(
            durations,
            self._parser.feed(text),
            ids=tuple(taken),
            logprobs=tuple(logprobs[: len(taken)]),
        )

    def replay(self, ids: Sequence[int]) -> None:
        """Take the ids of earlier attempts: they have been shown, so the chunks to come say none of it."""
        self.take(ids, Durations())
        self.seq = 0

    def finish(self, reason: str, durations: Durations) -> Chunk:
        """The terminal chunk, with the text that was held back."""
        # A stop string may be complete only with the text that the detokeniser still holds.
        text = self._detokenized(self._detokenizer.flush()) + self._stops.flush()
        return self._chunk(
            durations,
            self._parser.feed(text).then(self._parser.flush()),
            finish=self._finish(reason),
            stopped_by=self._stops.found,
            context=(*self._prompt.ids, *self.ids),
        )

    def fail(self, error: RkllamaError, durations: Durations) -> Chunk:
        """The terminal chunk of a run that failed."""
        return self._chunk(durations, error_code=error.code, error_message=error.message)

    def agrees_with(self, text: bytes) -> bool:
        """Whether `text` is what a runtime would make of the ids, EOS and more behind it aside.

        Tokenizers differ in a space at the begin, in characters that never became whole, and in which
        special tokens they show.
        """
        unsure = (_BROKEN, *self._detokenizer.seen)
        ours = _without(unsure, "".join(self._text))
        theirs = _without(unsure, text.decode(errors="replace"))
        return theirs.startswith(ours)

    def _finish(self, reason: str) -> str:
        """Why it ended, where the runtime says `reason`."""
        if self._stops.matched:
            return "stop"
        if self._repeats >= self._most_repeats:
            return "length"
        return "stop" if self.ended else reason

    def _groups(self, ids: Sequence[int]) -> Iterable[Sequence[int]]:
        """The ids before an end, as they may be read together: a stop string ends the answer at an id."""
        if self.ended:
            return ()
        for at, token in enumerate(ids):
            if token in self._eos_ids:
                self.ended = True
                ids = ids[:at]
                break
            self._repeats = self._repeats + 1 if token == self._last else 0
            self._last = token
            if self._repeats >= self._most_repeats:
                self.ended = True
                ids = ids[: at + 1]
                break
        if not ids:
            return ()
        return ([token] for token in ids) if self._stops.expected else (ids,)

    def _detokenized(self, piece: str) -> str:
        self._text.append(piece)
        return self._stops.feed(piece)

    def _chunk(
        self,
        durations: Durations,
        delta: Delta = Delta(),  # noqa: B008 - it cannot change
        *,
        ids: tuple[int, ...] = (),
        finish: str = "",
        stopped_by: str = "",
        error_code: str = "",
        error_message: str = "",
        context: tuple[int, ...] = (),
        logprobs: tuple[dict[str, Any], ...] = (),
    ) -> Chunk:
        seq, self.seq = self.seq, self.seq + 1
        chunk = Chunk(
            seq=seq,
            ids=ids,
            content=delta.content,
            thinking=delta.thinking,
            tool_calls=delta.tool_calls,
            prompt_tokens=0 if seq else len(self._prompt.ids),
            prompt_hash="" if seq else self._prompt.digest,
            ignored_options=() if seq else self.ignored_options,
            prefill_ns=durations.prefill_ns,
            decode_ns=durations.decode_ns,
            finish=finish,
            stopped_by=stopped_by,
            error_code=error_code,
            error_message=error_message,
            context=context,
            logprobs=logprobs,
        )
        self._chunks.append(chunk)
        return chunk


def _without(words: Iterable[str], text: str) -> str:
    for word in words:
        text = text.replace(word, "")
    return text.strip()
