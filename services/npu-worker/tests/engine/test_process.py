"""The engine as its worker sees it: frames over a socket, and a process that surely ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Fault, Job, Sampling
from rkllama_worker.engine.channel import Channel, ClosedError
from rkllama_worker.engine.wire import Kind, LoadSpec, pack

if TYPE_CHECKING:
    from conftest import EngineUnderTest

MakeJob = Callable[..., Job]
FRANCE = "What is the capital of France?"


def content(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


@pytest.fixture(scope="module")
def endless(make_job: MakeJob) -> Job:
    """Seconds of decoding."""
    return make_job(kind="completion", prompt="1, 2, 3, 4, 5, 6, 7, 8,", num_predict=1500)


@pytest.fixture(scope="module")
def long(make_job: MakeJob) -> Job:
    """Seconds of prefill."""
    return make_job(" ".join(map(str, range(460))), num_predict=1)


def test_a_loaded_engine_tells_its_size(engine: EngineUnderTest) -> None:
    ready = engine.ready

    assert ready.context_length == 2048
    assert ready.load_ns > 0
    assert 100e6 < ready.memory_bytes < 1e9
    assert ready.accelerator_bytes == 0


def test_a_chat_is_answered(engine: EngineUnderTest, make_job: MakeJob) -> None:
    chunks, ended = engine.answer(1, make_job(FRANCE, num_predict=60))

    first, last = chunks[0], chunks[-1]
    ids = [token for chunk in chunks for token in chunk.ids]
    assert "Paris" in content(chunks)
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.terminal for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    assert last.finish == "stop"
    assert (ended.prompt_tokens, ended.generated_tokens) == (first.prompt_tokens, len(ids))
    assert (ended.last_seq, ended.aborted) == (last.seq, False)
    assert len(last.context) == first.prompt_tokens + len(ids)
    assert first.prefill_ns == last.prefill_ns == ended.prefill_ns > 0
    assert 0 < last.decode_ns == ended.decode_ns


def test_a_prompt_that_is_only_shown_is_counted(engine: EngineUnderTest, make_job: MakeJob) -> None:
    ran, _ = engine.answer(20, make_job(FRANCE, num_predict=1))
    chunks, ended = engine.answer(21, make_job(FRANCE, render_only=True))

    assert [(chunk.prompt_tokens, chunk.finish) for chunk in chunks] == [
        (ran[0].prompt_tokens, "stop")
    ]
    assert FRANCE in chunks[0].rendered
    assert (ended.last_seq, ended.generated_tokens) == (0, 0)


def test_num_predict_is_exact(engine: EngineUnderTest, make_job: MakeJob) -> None:
    chunks, ended = engine.answer(2, make_job("Tell me a story.", num_predict=9))

    assert (chunks[-1].finish, ended.generated_tokens) == ("length", 9)


def test_an_answer_ends_where_the_context_does(
    fresh_engine: EngineUnderTest, spec: LoadSpec, make_job: MakeJob
) -> None:
    fresh_engine.load(spec.model_copy(update={"num_ctx": 30}))

    chunks, ended = fresh_engine.answer(1, make_job(kind="completion", prompt="1, 2, 3, 4, 5,"))

    assert chunks[-1].finish == "length"
    assert ended.prompt_tokens + ended.generated_tokens == 30


def test_a_stop_string_ends_the_answer_before_it(
    engine: EngineUnderTest, make_job: MakeJob
) -> None:
    job = make_job(kind="completion", prompt="1, 2, 3, 4, 5,", stop=("8,",))

    chunks, _ = engine.answer(4, job)

    assert content(chunks) == " 6, 7, "
    assert chunks[-1].finish == "stop"


def test_the_same_seed_gives_the_same_answer(engine: EngineUnderTest, make_job: MakeJob) -> None:
    job = make_job("Tell me a story.", num_predict=10, sampling=Sampling(temperature=1.2, seed=3))

    assert content(engine.answer(5, job)[0]) == content(engine.answer(6, job)[0])


def test_a_load_job_is_over_at_once(engine: EngineUnderTest, make_job: MakeJob) -> None:
    chunks, ended = engine.answer(7, make_job(kind="load"))

    assert [(chunk.seq, chunk.finish) for chunk in chunks] == [(0, "load")]
    assert ended.last_seq == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "completion", "prompt": "word " * 3000, "truncate": False}, "prompt_too_long"),
        ({"kind": "completion", "prompt": ""}, "invalid_job"),
    ],
)
def test_a_job_that_cannot_succeed_fails_with_a_code(
    engine: EngineUnderTest, make_job: MakeJob, fields: dict[str, Any], code: str
) -> None:
    chunks, ended = engine.answer(8, make_job(**fields))

    assert [(chunk.seq, chunk.error_code) for chunk in chunks] == [(0, code)]
    assert ended.last_seq == 0


def test_what_is_no_job_fails_alone(engine: EngineUnderTest, make_job: MakeJob) -> None:
    engine.channel.send(Kind.RUN, 9, b"{}")

    chunks, _ = engine.rest(9)

    assert chunks[0].error_code == "malformed_message"
    assert "Paris" in content(engine.answer(10, make_job(FRANCE))[0])


def test_an_abort_ends_a_run_and_the_next_answer_is_whole(
    engine: EngineUnderTest, make_job: MakeJob, endless: Job
) -> None:
    whole = content(engine.answer(11, make_job(FRANCE))[0])

    engine.begin(12, endless)
    engine.chunk()
    engine.abort(12)
    chunks, ended = engine.rest(12)
    after, _ = engine.answer(13, make_job(FRANCE))

    assert (ended.aborted, ended.last_seq) == (True, -1)
    assert 0 < ended.generated_tokens < 1000
    assert not any(chunk.terminal for chunk in chunks)
    assert content(after) == whole


def test_an_abort_ends_a_prefill(engine: EngineUnderTest, make_job: MakeJob, long: Job) -> None:
    """Both frames are sent at once: wherever the abort lands, before or in the prefill, it works."""
    engine.begin(14, long)
    engine.abort(14)

    chunks, ended = engine.rest(14)

    assert (chunks, ended.aborted) == ([], True)
    assert "Paris" in content(engine.answer(15, make_job(FRANCE))[0])


def test_a_run_that_is_aborted_before_it_begins_never_does(
    engine: EngineUnderTest, make_job: MakeJob, endless: Job
) -> None:
    engine.begin(16, endless)
    engine.chunk()
    engine.begin(17, endless)
    engine.begin(18, make_job(FRANCE))
    engine.abort(17)
    engine.abort(16)

    _, first = engine.rest(16)
    chunks, second = engine.rest(17)
    answer, third = engine.rest(18)

    assert first.aborted
    assert (chunks, second.aborted, second.prompt_tokens) == ([], True, 0)
    assert not third.aborted
    assert "Paris" in content(answer)


def test_an_abort_of_a_run_that_is_over_is_harmless(
    engine: EngineUnderTest, make_job: MakeJob
) -> None:
    engine.answer(19, make_job(FRANCE, num_predict=1))
    engine.begin(20, make_job(FRANCE))
    engine.abort(19)
    engine.abort(99)

    chunks, ended = engine.rest(20)

    assert not ended.aborted
    assert "Paris" in content(chunks)


def test_runs_that_wait_are_done_in_order(engine: EngineUnderTest, make_job: MakeJob) -> None:
    for run in (21, 22, 23):
        engine.begin(run, make_job(FRANCE, num_predict=3))

    assert [engine.rest(run)[1].generated_tokens for run in (21, 22, 23)] == [3, 3, 3]


# ------------------------------------------------------------------ the end of the process


@pytest.mark.parametrize("job", ["endless", "long"])
def test_closing_the_socket_ends_the_process_whatever_it_does(
    fresh_engine: EngineUnderTest, spec: LoadSpec, job: str, request: pytest.FixtureRequest
) -> None:
    fresh_engine.load(spec)
    fresh_engine.begin(1, request.getfixturevalue(job))
    if job == "endless":
        fresh_engine.chunk()

    assert fresh_engine.close() == 0


def test_closing_the_socket_ends_a_load(fresh_engine: EngineUnderTest, spec: LoadSpec) -> None:
    fresh_engine.socket.sendall(pack(Kind.LOAD, 0, spec.model_dump_json().encode()))

    assert fresh_engine.close() == 0


def test_a_frame_that_makes_no_sense_ends_the_process(fresh_engine: EngineUnderTest) -> None:
    fresh_engine.socket.sendall(b"\xff" * 64)

    assert fresh_engine.process.wait() == 1


STARTER = """
import subprocess, sys, os
fd = int(sys.argv[1])
command = [sys.executable, "-m", "rkllama_worker.engine", "--fd", str(fd)]
engine = subprocess.Popen([*command, "--parent", str(os.getpid())], pass_fds=(fd,))
print(engine.pid, flush=True)
engine.wait()
"""


def test_the_engine_dies_with_its_parent(
    spec: LoadSpec, long: Job, wait_for_end: Callable[[int], None]
) -> None:
    """In the middle of a prefill, and though the socket is still open at our end."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            fd = theirs.fileno()
            parent = subprocess.Popen(
                [sys.executable, "-c", STARTER, str(fd)], pass_fds=(fd,), stdout=subprocess.PIPE
            )
        with parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            channel = Channel(ours)
            channel.send(Kind.LOAD, 0, spec.model_dump_json().encode())
            assert channel.receive().kind is Kind.READY
            channel.send(Kind.RUN, 1, long.model_dump_json().encode())
            os.kill(parent.pid, signal.SIGKILL)

            wait_for_end(pid)


# ------------------------------------------------------------------ models that do not load


def failure(engine: EngineUnderTest, spec: LoadSpec) -> Fault:
    frame = engine.load(spec)
    assert frame.kind is Kind.FAILED
    assert engine.process.wait() == 1
    return Fault.model_validate_json(frame.payload)


def test_missing_weights_fail_with_a_sentence(
    fresh_engine: EngineUnderTest, spec: LoadSpec, tmp_path: Path
) -> None:
    gone = spec.model_copy(update={"weights": str(tmp_path / "gone.gguf")})

    fault = failure(fresh_engine, gone)

    assert (fault.code, "no file gone.gguf" in fault.message) == ("invalid_model", True)


def test_a_missing_tokenizer_fails_with_a_sentence(
    fresh_engine: EngineUnderTest, spec: LoadSpec
) -> None:
    fault = failure(fresh_engine, spec.model_copy(update={"files": {}}))

    assert (fault.code, fault.message) == ("invalid_model", "the model has no tokenizer.json")


def test_a_format_without_a_runtime_fails_with_a_sentence(
    fresh_engine: EngineUnderTest, spec: LoadSpec
) -> None:
    fault = failure(fresh_engine, spec.model_copy(update={"model_format": "onnx"}))

    assert (fault.code, "'onnx'" in fault.message) == ("unsupported", True)


@pytest.mark.parametrize("damage", ["cut short", "no gguf", "wrong counts"])
def test_damaged_weights_fail_or_end_the_process_and_never_hang(
    fresh_engine: EngineUnderTest, spec: LoadSpec, weights: Path, tmp_path: Path, damage: str
) -> None:
    """llama.cpp may abort the process on some; the worker reads either as a failed load."""
    with weights.open("rb") as whole:
        begin = whole.read(4 * 2**20)
    damaged = {
        "cut short": begin,
        "no gguf": b"hello" * 1000,
        "wrong counts": begin[:8] + b"\xff" * 16 + begin[24:],
    }
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged[damage])
    try:
        frame = fresh_engine.load(spec.model_copy(update={"weights": str(path)}))
    except ClosedError:
        assert fresh_engine.process.wait() != 0
        return

    assert frame.kind is Kind.FAILED
    fault = Fault.model_validate_json(frame.payload)
    assert fault.code == "invalid_model"
    assert "damaged.gguf" in fault.message
