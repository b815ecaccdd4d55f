"""Vectors out of hidden states: those of the model, in order, whatever goes wrong between them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.messages import Job

if TYPE_CHECKING:
    from conftest import Answered, Emulate, Emulated, Family

MakeJob = Callable[..., Job]
LONGEST = 59
"""Tokens of an input: 64 of the context without the library's four, and one."""
KEYS: dict[str, Any] = {
    "context_limit": 64,
    "embd_size": 512,
    "answer_tokens": 10,
    "prefill_tokens_per_s": 20000,
    "fault": "error",
    "fault_when": "FAIL",
}


@pytest.fixture(scope="module")
def embedder(
    family: Family, emulate_shared: Callable[..., Iterator[Emulated]]
) -> Iterator[Emulated]:
    yield from emulate_shared(family.library, **KEYS)


@pytest.fixture(scope="session")
def embed(make_job: MakeJob) -> Callable[..., Job]:
    def make(*texts: str, **fields: Any) -> Job:
        return make_job(kind="embed", inputs=texts, **fields)

    return make


def vectors(answer: Answered) -> list[list[float]]:
    made = [array("f", base64.b64decode(c.vector)) for c in answer.chunks if c.vector]
    return [vector.tolist() for vector in made]


def row(model: Emulated, text: str) -> list[float]:
    """The hidden state at the last token, as float32."""
    return array("f", model.script.hidden_row(model.script.tokenize(text))).tolist()


def test_a_vector_is_the_hidden_state_of_the_last_token(
    embedder: Emulated, family: Family, embed: MakeJob
) -> None:
    texts = ("Why is the sky blue?", "x", "Why is the sky red? 🦉", "Why is the sky blue?")

    answer = embedder.ask(embed(*texts))

    counts = [len(text.encode()) for text in texts]
    assert vectors(answer) == [row(embedder, text) for text in texts]
    assert [chunk.prompt_tokens for chunk in answer.chunks] == [*counts, 0]
    assert [chunk.seq for chunk in answer.chunks] == [0, 1, 2, 3, 4]
    assert answer.last.finish == "stop"
    assert (answer.ended.last_seq, answer.ended.prompt_tokens) == (4, sum(counts))
    assert answer.ended.prefill_ns > 0
    run, end = embedder.trace("run")[-1], embedder.trace("run_end")[-1]
    assert (run["mode"], run["input"], end["reused"], end["generated"]) == (1, "tokens", 0, [])
    assert end["released"] == (1 if family.samples_per_run else 0)


@pytest.mark.parametrize("release", ["abi-1.1", "abi-1.3.0"])
def test_a_vector_is_the_mean_where_the_model_says_so(
    emulate: Emulate, libraries: dict[str, Path], embed: MakeJob, release: str
) -> None:
    """1.1 has a callback state of its own for hidden states."""
    model = emulate(libraries[release], pooling="pooling_mode_mean_tokens", **KEYS)
    model.load()
    texts = ("mean", "mean and more")

    answer = model.ask(embed(*texts))

    for text, vector in zip(texts, vectors(answer), strict=True):
        rows = [row(model, text[: i + 1]) for i in range(len(text))]
        mean = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        assert vector == pytest.approx(mean, rel=1e-6, abs=1e-6)


def test_a_long_input_is_cut(embedder: Emulated, embed: MakeJob) -> None:
    answer = embedder.ask(embed("a" * 30 + "b" * 70))

    assert vectors(answer) == [row(embedder, "a" * 30 + "b" * (LONGEST - 30))]
    assert answer.ended.prompt_tokens == LONGEST


def test_a_long_input_that_may_not_be_cut_is_refused(embedder: Emulated, embed: MakeJob) -> None:
    answer = embedder.ask(embed("short", "a" * LONGEST, "a" * (LONGEST + 1), truncate=False))

    assert vectors(answer) == [row(embedder, "short"), row(embedder, "a" * LONGEST)]
    assert answer.last.error_code == "prompt_too_long"
    assert answer.last.error_message == "the input length exceeds the context length"
    assert answer.ended.last_seq == 2


def test_an_error_ends_the_answer_and_the_next_one_is_whole(
    embedder: Emulated, embed: MakeJob
) -> None:
    failed = embedder.ask(embed("first", "FAIL", "third"))
    after = embedder.ask(embed("after"))

    assert vectors(failed) == [row(embedder, "first")]
    assert failed.last.error_code == "runtime_failed"
    assert (failed.ended.last_seq, failed.ended.aborted) == (1, False)
    assert vectors(after) == [row(embedder, "after")]


def test_an_abort_ends_the_answer_and_the_next_one_is_whole(
    embedder: Emulated, embed: MakeJob, raw: MakeJob
) -> None:
    """Wherever it lands: between two inputs, or within one, which then has no hidden states."""
    run = embedder.begin(embed(*["input " * 9] * 1000))
    embedder.engine.chunk()
    embedder.engine.abort(run)
    aborted = embedder.rest(run)
    after = embedder.ask(embed("after"))
    text = embedder.ask(raw("after"))

    assert (aborted.ended.aborted, aborted.ended.last_seq) == (True, -1)
    assert len(aborted.chunks) < 999
    assert not any(chunk.terminal for chunk in aborted.chunks)
    assert vectors(after) == [row(embedder, "after")]
    assert text.ids == embedder.twin("after")


def test_memory_stays_flat(embedder: Emulated, embed: MakeJob, raw: MakeJob) -> None:
    """Over 300 embeddings, each of a buffer of 35 KB, and 300 runs."""

    def resident_kb() -> int:
        lines = Path(f"/proc/{embedder.engine.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def work(count: int) -> None:
        texts = [f"number {i} of many" for i in range(count)]
        assert len(vectors(embedder.ask(embed(*texts)))) == count
        for text in texts:
            assert embedder.ask(raw(text, num_predict=2)).ids == embedder.twin(text, 2)

    work(50)
    before = resident_kb()
    work(300)

    assert resident_kb() - before < 1024
