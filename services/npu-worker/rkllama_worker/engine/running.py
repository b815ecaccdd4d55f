"""One job on the loaded model: from its prompt to its terminal chunk.

    load      nothing to do
    embed     a vector a chunk
    generate  ids -> answer -> chunks, as they come
    checked   the same with the text held back until it is what the job requires; asked again if not

What a job requires of its answer (a format, the call of a tool) is held to by a grammar where the runtime
shows its logits, and else by checking. Either way no answer ends with `stop` that does not satisfy it; one
that a bound on tokens cuts off says `length`, or fails if nothing guarantees that its begin was right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

from rkllama_protocol.codec import Chunk, decode
from rkllama_protocol.errors import (
    InvalidJobError,
    RkllamaError,
    RuntimeFailedError,
    UnsupportedError,
)
from rkllama_protocol.messages import Job

from rkllama_worker.engine.answer import Answer, Durations
from rkllama_worker.engine.constraint import GrammarConstraint
from rkllama_worker.engine.grammar import Thinking
from rkllama_worker.engine.held_back import HeldBack
from rkllama_worker.engine.instruction import asking, asking_again
from rkllama_worker.engine.loaded_model import LoadedModel
from rkllama_worker.engine.parsing.parser import Format
from rkllama_worker.engine.prompt import Prompt
from rkllama_worker.engine.requirement import Requirement, required, unfenced
from rkllama_worker.engine.run_state import Run
from rkllama_worker.engine.runtime.base import GenerateRequest, Likely, Logprobs, RunStats
from rkllama_worker.engine.saving import Keeper
from rkllama_worker.engine.wire import RunEnded

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a runtime without a grammar is asked for what a job requires."""


@dataclass(frozen=True, slots=True)
class _Done:
    """One call of the runtime, joined."""

    stats: RunStats
    durations: Durations
    failure: RkllamaError | None
    aborted: bool


class Runner:
    """Does the runs of one model, one at a time."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        send: Callable[[Run, Chunk], None],
        abortable: Callable[[Run], AbstractContextManager[None]],
    ) -> None:
        """`abortable` is entered around every call of the runtime."""
        self._model = model
        self._send = send
        self._abortable = abortable
        self._doubted = False
        """Whether it has been told that the tokenizer is not the model's."""

    def execute(self, run: Run) -> RunEnded:
        """Do a run, and send its chunks."""
        if run.aborted.is_set():
            return RunEnded(last_seq=-1, aborted=True)
        try:
            job = decode(Job, run.job)
            if job.kind == "load":
                self._send(run, Chunk(seq=0, finish="load"))
                return RunEnded(last_seq=0)
            if job.kind == "embed":
                return self._embed(run, job)
            if job.render_only:
                prompt = self._model.prompts.build(job)
                tokens = len(prompt.ids)
                self._send(
                    run, Chunk(seq=0, rendered=prompt.text, prompt_tokens=tokens, finish="stop")
                )
                return RunEnded(last_seq=0)
            return self._answer(run, job)
        except RkllamaError as error:
            # Nothing has been sent: everything behind the first chunk fails in a chunk of its own.
            chunk = Chunk(seq=0, error_code=error.code, error_message=error.message)
            self._send(run, chunk)
            return RunEnded(last_seq=0)

    def _embed(self, run: Run, job: Job) -> RunEnded:
        """A chunk for each text, then the terminal one."""
        model = self._model
        seq, tokens, prefill_ns = 0, 0, 0
        most = model.runtime.embeddable_tokens
        if job.most_input_tokens is not None:
            most = min(most, job.most_input_tokens)
        run.begun_ns = perf_counter_ns()
        try:
            with self._abortable(run):
                for text in job.inputs[job.resume.vectors if job.resume else 0 :]:
                    ids = model.prompts.embed(text, most_tokens=most, truncate=job.truncate)
                    rows = model.runtime.embed(ids, last_only=model.pooling.last_only)
                    if run.aborted.is_set():
                        break
                    vector = model.pooling.pool(rows)
                    # What an aborted text took would be learned as if it had no tokens.
                    prefill_ns = perf_counter_ns() - run.begun_ns
                    chunk = Chunk(
                        seq=seq, prompt_tokens=len(ids), prefill_ns=prefill_ns, vector=vector
                    )
                    self._send(run, chunk)
                    seq, tokens = seq + 1, tokens + len(ids)
            last = Chunk(seq=seq, prefill_ns=prefill_ns, finish="stop")
        except RkllamaError as error:
            last = Chunk(seq=seq, error_code=error.code, error_message=error.message)
        aborted = run.aborted.is_set()
        if not aborted:
            self._send(run, last)
        return RunEnded(
            last_seq=-1 if aborted else seq,
            aborted=aborted,
            prompt_tokens=tokens,
            prefill_ns=prefill_ns,
        )

    def _answer(self, run: Run, job: Job) -> RunEnded:
        runtime = self._model.runtime
        if job.top_logprobs is not None and not runtime.shows_logits:
            raise UnsupportedError("the runtime of this model does not tell logprobs")
        requirement = required(job)
        if requirement is not None and not runtime.shows_logits:
            return self._checked(run, job, requirement)
        return self._generate(run, job, requirement)

    def _generate(self, run: Run, job: Job, requirement: Requirement | None) -> RunEnded:
        prompt = self._model.prompts.build(job)
        made = _made(job, prompt)
        constraint = self._constraint(job, prompt, requirement)
        if constraint is not None:
            for token in made:
                constraint.accept(token)
        answer = Answer(job, prompt, self._model.files)
        answer.replay(made)
        keeper = Keeper(self._model.runtime, run.saving)
        request = self._request(job, len(prompt.ids), constraint=constraint, made=len(made))
        request = replace(request, save_to=keeper.part)
        self._note_ignored(job, answer, request)
        if answer.ended or request.max_tokens <= 0:
            # The attempt before this one ended between its last id and its terminal chunk.
            self._send(run, answer.finish("length", Durations()))
            return RunEnded(last_seq=answer.seq - 1)
        ids = prompt.ids + made
        keeper.restore()
        done = self._call(run, answer, ids, request, lambda chunk: self._send(run, chunk))
        if not done.aborted:
            last = self._terminal(job, answer, done, requirement)
            self._send(run, replace(last, reused_tokens=done.stats.reused_tokens))
        # Behind the terminal chunk: no client waits for a file.
        keeper.save(whole=not done.aborted and done.failure is None)
        return keeper.told(_ended(answer, done, prompt_tokens=len(ids), made=len(made)))

    def _terminal(
        self, job: Job, answer: Answer, done: _Done, requirement: Requirement | None
    ) -> Chunk:
        if done.failure is not None:
            return answer.fail(done.failure, done.durations)
        chunk = answer.finish(done.stats.finish, done.durations)
        if requirement is None:
            return chunk
        # It may have been cut off; and grammars know some words of schemas less exactly, or not at all.
        problem = requirement.problem(answer.said.content, answer.said.tool_calls)
        return _unkept(chunk, job, answer, problem) if problem else chunk

    def _checked(self, run: Run, job: Job, requirement: Requirement) -> RunEnded:
        """Ask for it, generate with the text held back, check; ask again with what was wrong.

        An earlier board's attempts are of no use: nothing of them was shown. Ids are sent as they come, so
        that they count, and that the gateway sees the board at work.
        """
        model = self._model
        held = HeldBack(lambda chunk: self._send(run, chunk))
        asked = asking(job, requirement)
        left = model.runtime.usable_tokens
        prompt = model.prompts.build(asked)
        attempts = 0
        while True:
            attempts += 1
            answer = Answer(job, prompt, model.files)
            request = self._request(job, len(prompt.ids), most=left)
            self._note_ignored(job, answer, request)
            done = self._call(run, answer, prompt.ids, request, held.hold)
            held.count(_ended(answer, done, prompt_tokens=len(prompt.ids)))
            if done.aborted:
                return held.aborted()
            if done.failure is not None:
                return held.end(answer.fail(done.failure, done.durations))
            last = answer.finish(done.stats.finish, done.durations)
            said = answer.said
            content = said.content if said.tool_calls else unfenced(said.content)
            problem = requirement.problem(content, said.tool_calls)
            if not problem:
                return held.end(
                    replace(
                        last,
                        content=content,
                        thinking=said.thinking,
                        tool_calls=said.tool_calls,
                    )
                )
            left -= len(answer.ids)
            if last.finish == "length":
                return held.end(_unkept(last, job, answer, problem))
            if attempts == ATTEMPTS:
                break
            asked = asking_again(asked, requirement, answer=said.content, problem=problem)
            try:
                prompt = model.prompts.build(asked)
            except InvalidJobError:
                # The conversation with its wrong answers fills the context.
                break
            held.next_attempt()
        text = f"the model did not answer as asked in {attempts} attempts: {problem}"
        return held.end(_failed(last, RuntimeFailedError(text)))

    def _constraint(
        self, job: Job, prompt: Prompt, requirement: Requirement | None
    ) -> GrammarConstraint | None:
        if requirement is None:
            return None
        tags = Format.of(job, prompt.template).tags
        thinking: Thinking = "none"
        if tags is not None:
            thinking = "begun" if prompt.text.rstrip().endswith(tags.open) else "possible"
        return requirement.constraint(
            self._model.vocabulary, template=prompt.template, thinking=thinking, tags=tags
        )

    def _request(
        self,
        job: Job,
        prompt_tokens: int,
        *,
        made: int = 0,
        most: int | None = None,
        constraint: GrammarConstraint | None = None,
    ) -> GenerateRequest:
        """What the runtime is asked for behind `made` tokens, for at most `most`."""
        bounds = [self._model.runtime.usable_tokens - prompt_tokens - made]
        if job.num_predict > 0:
            bounds.append(job.num_predict - made)
        if most is not None:
            bounds.append(most)
        return GenerateRequest(
            sampling=job.sampling,
            max_tokens=min(bounds),
            constraint=constraint,
            top_logprobs=job.top_logprobs,
        )

    def _note_ignored(self, job: Job, answer: Answer, request: GenerateRequest) -> None:
        ignored = self._model.runtime.ignored(request) & set(job.asked_options)
        answer.ignored_options = tuple(sorted(ignored))

    def _call(
        self,
        run: Run,
        answer: Answer,
        ids: Sequence[int],
        request: GenerateRequest,
        on_chunk: Callable[[Chunk], None],
    ) -> _Done:
        """Let the runtime go on behind `ids`, and join it."""

        def say(ids: Sequence[int], logprobs: Sequence[Logprobs]) -> bool:
            told = [self._told(one) for one in logprobs]
            chunk = answer.take(ids, run.durations(), told)
            if answer.ended:
                # Else the model would make another token before it hears of it.
                self._model.runtime.abort()
            if chunk is not None:
                on_chunk(chunk)
            return chunk is not None

        def emit(ids: Sequence[int], logprobs: Sequence[Logprobs] = (), /) -> bool:
            run.first_ns = run.first_ns or perf_counter_ns()
            if run.aborted.is_set():
                return False
            run.window.put(ids, logprobs)
            return not (answer.ended or run.window.failed)

        failure: RkllamaError | None = None
        stats = RunStats(reused_tokens=0, finish="aborted")
        run.begun_ns, run.first_ns = perf_counter_ns(), 0
        with run.window.passing(say), self._abortable(run):
            try:
                stats = self._model.runtime.generate(ids, request, emit)
            except RkllamaError as error:
                failure = error
        stopped = stats.finish == "aborted" and not answer.ended
        if failure is None and stopped and not run.aborted.is_set():
            failure = RuntimeFailedError("the runtime ended the run unasked")
        if failure is None:
            self._cross_check(answer, stats)
        return _Done(
            stats=stats,
            durations=run.durations().measured(stats),
            failure=failure,
            aborted=run.aborted.is_set() and stopped,
        )

    def _told(self, logprobs: Logprobs) -> dict[str, Any]:
        """One place, as clients read it (contract 2.7)."""
        entry = self._told_one(logprobs.chosen)
        if logprobs.top:
            entry["top_logprobs"] = [self._told_one(likely) for likely in logprobs.top]
        return entry

    def _told_one(self, likely: Likely) -> dict[str, Any]:
        text = self._model.vocabulary.bytes_of(likely.token)
        return {
            "token": text.decode(errors="replace"),
            "logprob": likely.logprob,
            "bytes": list(text),
        }

    def _cross_check(self, answer: Answer, stats: RunStats) -> None:
        """Tell once of a model whose tokenizer is not the one inside its weights."""
        if self._doubted or stats.text is None or answer.agrees_with(stats.text):
            return
        self._doubted = True
        log.warning(
            "tokenizer disagrees with the runtime's text", extra={"model": self._model.name}
        )


def _made(job: Job, prompt: Prompt) -> tuple[int, ...]:
    """The ids of earlier attempts.

    Raises:
        RuntimeFailedError: They are not behind this prompt: the boards' model files differ.
    """
    if job.resume is None:
        return ()
    if job.resume.prompt_hash not in ("", prompt.digest):
        raise RuntimeFailedError("this board makes another prompt of the request than the last one")
    return job.resume.ids


def _ended(answer: Answer, done: _Done, *, prompt_tokens: int, made: int = 0) -> RunEnded:
    return RunEnded(
        last_seq=-1 if done.aborted else answer.seq - 1,
        aborted=done.aborted,
        prompt_tokens=prompt_tokens,
        reused_tokens=done.stats.reused_tokens,
        generated_tokens=len(answer.ids) - made,
        prefill_ns=done.durations.prefill_ns,
        decode_ns=done.durations.decode_ns,
    )


def _unkept(last: Chunk, job: Job, answer: Answer, problem: str) -> Chunk:
    """The end of an answer that is not what was required; who bounded it may allow more."""
    if last.finish != "length":
        text = f"the answer is not what was asked for: {problem}"
        return _failed(last, RuntimeFailedError(text))
    made = len(answer.ids)
    text = f"the answer was cut off after {made} tokens, and is not what was asked for: {problem}"
    bounded = 0 < job.num_predict <= made
    return _failed(last, InvalidJobError(text) if bounded else RuntimeFailedError(text))


def _failed(chunk: Chunk, error: RkllamaError) -> Chunk:
    """A terminal chunk that says so instead."""
    return replace(chunk, finish="", context=(), error_code=error.code, error_message=error.message)
