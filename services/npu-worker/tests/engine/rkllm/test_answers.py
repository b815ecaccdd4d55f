"""What a client gets from a model on the NPU, whatever the release and however it behaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.messages import Job, Sampling

if TYPE_CHECKING:
    from conftest import Answered, Emulate, Emulated, Family

MakeJob = Callable[..., Job]


def a_little_over(measured_ns: int, least_s: float) -> bool:
    """By a clock, which may be late."""
    return least_s * 1e9 <= measured_ns < (least_s + 1) * 1e9


def whole(answer: Answered) -> bool:
    return (
        [chunk.seq for chunk in answer.chunks] == list(range(len(answer.chunks)))
        and [chunk.terminal for chunk in answer.chunks]
        == [False] * (len(answer.chunks) - 1) + [True]
        and answer.ended.last_seq == answer.last.seq
        and answer.ended.generated_tokens == len(answer.ids)
        and not answer.ended.aborted
    )


# ------------------------------------------------------------------ text, ids, counts


def test_an_answer_is_what_the_model_says(model: Emulated, raw: MakeJob) -> None:
    """Every id, and characters of two to four bytes, each made of as many tokens."""
    expected = model.twin("Hello")

    answer = model.ask(raw("Hello"))

    assert whole(answer)
    assert answer.ids == expected
    assert answer.content == model.script.text(expected).decode()
    assert answer.last.finish == "stop"
    assert answer.last.context == (*b"Hello", *expected)
    assert (answer.chunks[0].prompt_tokens, answer.ended.prompt_tokens) == (5, 5)
    assert len(expected) >= 40


def test_a_chat_is_templated_here_and_sent_as_ids(calm: Emulated, make_job: MakeJob) -> None:
    calm.ask(make_job("Hi", num_predict=1))

    run = calm.trace("run")[-1]
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (run["input"], run["mode"]) == ("tokens", 0)
    assert run["ids"] == calm.script.tokenize(prompt)
    assert run.get("keep_history", 0) == 0


def test_durations_are_those_of_the_model(calm: Emulated, family: Family, raw: MakeJob) -> None:
    prompt = "durations " * 40

    answer = calm.ask(raw(prompt))

    ended, made = answer.ended, len(answer.ids)
    assert (ended.prefill_ns, ended.decode_ns) == (answer.last.prefill_ns, answer.last.decode_ns)
    if family.gives_perf:
        assert ended.prefill_ns == pytest.approx(len(prompt) / 2000 * 1e9)
        assert ended.decode_ns == pytest.approx(made / 1000 * 1e9)
    else:
        assert a_little_over(ended.prefill_ns, len(prompt) / 2000)
        assert a_little_over(ended.decode_ns, (made - 1) / 1000)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
def test_num_predict_is_exact(model: Emulated, raw: MakeJob, count: int) -> None:
    """Also where it cuts a character in two."""
    expected = model.twin("Story", count)

    answer = model.ask(raw("Story", num_predict=count))

    assert whole(answer)
    assert answer.ids == expected
    assert answer.content == model.script.text(expected).decode(errors="replace")
    assert answer.last.finish == "length"


def test_from_1_3_0_the_bound_is_the_librarys_and_needs_no_abort(
    calm: Emulated, family: Family, raw: MakeJob
) -> None:
    aborts = len(calm.trace("abort"))

    calm.ask(raw("Bound", num_predict=6))

    run, end = calm.trace("run")[-1], calm.trace("run_end")[-1]
    assert run.get("max_new_tokens") == (6 if family.samples_per_run else None)
    assert len(calm.trace("abort")) - aborts == (0 if family.samples_per_run else 1)
    assert end["aborted"] is not family.samples_per_run


def test_a_stop_string_ends_the_answer_before_it(model: Emulated, raw: MakeJob) -> None:
    text = model.script.text(model.twin("Stop")).decode()
    stop = text[9:12]

    answer = model.ask(raw("Stop", stop=(stop,)))

    assert whole(answer)
    assert answer.content == text[: text.index(stop)]
    assert answer.last.finish == "stop"
    assert model.ask(raw("after")).ids == model.twin("after")


def test_an_eos_that_the_runtime_does_not_know_ends_the_answer(
    rude: Emulated, raw: MakeJob
) -> None:
    """rknn-llm#534: it would go on for ever."""
    answer = rude.ask(raw("EOS"))

    end = rude.trace("run_end")[-1]
    assert (answer.ids, answer.last.finish) == (rude.twin("EOS"), "stop")
    assert end["generated"][len(answer.ids)] == 256
    assert (end["aborted"], end["finished"]) == (True, False)
    assert rude.ask(raw("after")).ids == rude.twin("after")


def test_what_the_library_prints_disturbs_nothing(calm: Emulated) -> None:
    assert "I rkllm: rkllm-runtime version" in calm.engine.output
    assert '"event":"rkllm model loaded"' in calm.engine.output


# ------------------------------------------------------------------ sampling


def near(values: dict[str, float]) -> Any:
    """As float32."""
    return pytest.approx(values, rel=1e-6)


def test_sampling_goes_with_each_run_or_with_the_load(
    calm: Emulated, family: Family, raw: MakeJob
) -> None:
    asked = Sampling(
        temperature=1.5,
        top_k=0,
        top_p=0.25,
        repeat_penalty=1.125,
        presence_penalty=0.5,
        frequency_penalty=0.75,
    )

    calm.ask(raw("Sampling", num_predict=1, sampling=asked))
    run, init = calm.trace("run")[-1], calm.trace("init")[0]["param"]

    fixed = {"mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1}
    at_load = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.75,
        "repeat_penalty": 1.25,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        **fixed,
    }
    assert {name: init[name] for name in at_load} == near(at_load)
    if family.samples_per_run:
        assert run["sampling"] == near(
            {
                "temperature": 1.5,
                # Ollama's 0 is no limit; as 0 or 1 it would be greedy.
                "top_k": 1000,
                "top_p": 0.25,
                "repeat_penalty": 1.125,
                "presence_penalty": 0.5,
                "frequency_penalty": 0.75,
                **fixed,
            }
        )
    else:
        assert "sampling" not in run


def test_the_load_says_where_and_how(calm: Emulated, family: Family) -> None:
    init = calm.trace("init")[0]["param"]
    extended = init["extend_param"]

    assert (init["max_context_len"], init["max_new_tokens"]) == (4096, -1)
    assert (init["is_async"], init["skip_special_token"]) == (False, True)
    assert extended["base_domain_id"] == 3
    assert extended["reserved_is_zero"] is True
    if family.id != "abi-1.1":
        assert (extended["enabled_cpus_mask"], extended["enabled_cpus_num"]) == (0x30, 2)


def test_options_that_are_asked_for_in_vain_are_told_with_the_first_chunk(
    calm: Emulated, family: Family, raw: MakeJob
) -> None:
    asked = ("min_p", "num_predict", "seed", "temperature", "top_k")

    same = calm.ask(raw("Ignored", num_predict=2, asked_options=asked))
    other = Sampling(temperature=0.9, top_k=7, top_p=0.1, seed=4)
    later = calm.ask(raw("Ignored", num_predict=2, asked_options=asked, sampling=other))
    unasked = calm.ask(raw("Ignored", num_predict=2, sampling=other))

    answers = (same, later, unasked)
    lost = () if family.samples_per_run else ("temperature",)
    assert [answer.chunks[0].ignored_options for answer in answers] == [
        ("min_p", "seed"),
        ("min_p", "seed", *lost),
        (),
    ]
    assert not any(chunk.ignored_options for answer in answers for chunk in answer.chunks[1:])


# ------------------------------------------------------------------ what is kept between runs


def test_a_prefix_is_reused_and_counted_where_the_library_tells(
    calm: Emulated, family: Family, raw: MakeJob
) -> None:
    first = calm.ask(raw("Once upon a time"))
    turn = "Once upon a time" + first.content

    answer = calm.ask(raw(turn + " and", num_predict=1))

    held = len(turn.encode())
    assert calm.trace("run_end")[-1]["reused"] == (held if family.reuses_prefix else 0)
    assert answer.ended.reused_tokens == (held if family.gives_perf else 0)
    assert answer.ended.prompt_tokens == answer.chunks[0].prompt_tokens == held + 4


def test_a_run_that_was_not_left_to_end_is_not_built_upon(
    calm: Emulated, family: Family, raw: MakeJob
) -> None:
    """What it leaves in the cache is not documented; from 1.3.0 a bound is no abort."""
    calm.ask(raw("Interrupted", num_predict=5))
    since = len(calm.trace())

    calm.ask(raw("Interrupted", num_predict=5))

    events = [line["event"] for line in calm.trace()[since:] if line["event"] != "abort"]
    end = calm.trace("run_end")[-1]
    if family.samples_per_run:
        assert (events, end["reused"]) == (["run", "run_end"], len("Interrupted") - 1)
    elif family.clears_cache:
        assert (events, end["reused"]) == (["clear_kv_cache", "run", "run_end"], 0)
    else:
        assert (events, end["reused"]) == (["run", "run_end"], 0)


# ------------------------------------------------------------------ aborts


def test_an_abort_ends_the_decode_and_nothing_of_it_is_left(
    model: Emulated, family: Family, raw: MakeJob
) -> None:
    run = model.begin(raw("an endless story"))
    begun = [model.engine.chunk()[1] for _ in range(3)]
    model.engine.abort(run)
    aborted = model.rest(run)
    since = len(model.trace())

    after = model.ask(raw("an endlesS story"))

    assert (aborted.ended.aborted, aborted.ended.last_seq) == (True, -1)
    assert not any(chunk.terminal for chunk in aborted.chunks)
    told = len(aborted.ids) + sum(len(chunk.ids) for chunk in begun)
    assert aborted.ended.generated_tokens == told
    assert after.ids == model.twin("an endlesS story")
    assert model.trace("run_end")[-1]["reused"] == 0
    cleared = [line["event"] for line in model.trace()[since:]][:1] == ["clear_kv_cache"]
    assert cleared is family.clears_cache


def test_an_abort_in_the_prefill_comes_late_and_the_next_run_waits_for_it(
    calm: Emulated, raw: MakeJob
) -> None:
    """rknn-llm#400: prefill is not cut short."""
    runs = len(calm.trace("run"))
    run = calm.begin(raw("late " * 100))
    calm.wait_for("run", runs + 1)
    calm.engine.abort(run)
    following = calm.begin(raw("following"))

    aborted, answer = calm.rest(run), calm.rest(following)

    assert (aborted.chunks, aborted.ended.aborted) == ([], True)
    assert calm.trace("run_end")[-2]["prefilled"] == 500
    assert answer.ids == calm.twin("following")
    assert [line["overlap"] for line in calm.trace("run")[-2:]] == [[], []]


def test_a_run_that_is_aborted_before_it_begins_never_reaches_the_library(
    model: Emulated, raw: MakeJob
) -> None:
    runs = len(model.trace("run"))
    first = model.begin(raw("an endless story"))
    model.engine.chunk()
    second, third = model.begin(raw("never")), model.begin(raw("third"))
    model.engine.abort(second)
    model.engine.abort(first)

    answers = [model.rest(run) for run in (first, second, third)]

    assert [answer.ended.aborted for answer in answers] == [True, True, False]
    assert answers[1].chunks == []
    assert answers[2].ids == model.twin("third")
    assert len(model.trace("run")) == runs + 2


def test_an_abort_that_is_too_late_hits_nothing(model: Emulated, raw: MakeJob) -> None:
    done = model.begin(raw("done"))
    model.rest(done)
    run = model.begin(raw("next"))
    model.engine.abort(done)

    assert model.rest(run).ids == model.twin("next")


# ------------------------------------------------------------------ many runs


def test_no_token_is_lost_and_none_is_of_another_answer(
    calm: Emulated, rude: Emulated, family: Family, raw: MakeJob
) -> None:
    """200 runs that end by their bound, on two engines at a time."""
    models = (calm, rude)
    before = [len(model.trace("run_end")) for model in models]
    for number in range(100):
        count = 1 + number % 7
        prompts = [f"Ada asks {number}", f"Bob asks {number}"]
        runs = [
            model.begin(raw(prompt, num_predict=count))
            for model, prompt in zip(models, prompts, strict=True)
        ]
        for model, prompt, run in zip(models, prompts, runs, strict=True):
            answer = model.rest(run)

            assert whole(answer)
            assert answer.ids == model.twin(prompt, count)
            assert answer.content == model.script.text(answer.ids).decode(errors="replace")
            assert answer.last.finish == "length"
    ends = [model.trace("run_end")[since:] for model, since in zip(models, before, strict=True)]
    assert [len(some) for some in ends] == [100, 100]
    if family.samples_per_run:
        assert not any(end["aborted"] for some in ends for end in some)


# ------------------------------------------------------------------ a run that fails


def test_an_error_ends_the_answer_and_the_next_one_is_whole(calm: Emulated, raw: MakeJob) -> None:
    failed = calm.ask(raw("FAIL"))
    after = calm.ask(raw("FAI", num_predict=30))

    assert len(failed.ids) == 2
    assert failed.last.error_code == "runtime_failed"
    assert "rkllm_run returned -1" in failed.last.error_message
    assert failed.ended.last_seq == failed.last.seq
    assert after.ids == calm.twin("FAI", 30)
    assert calm.trace("run_end")[-1]["reused"] == 0


# ------------------------------------------------------------------ the tokenizer is checked


def test_a_tokenizer_that_is_not_the_models_is_told_once(
    emulate: Emulate, newest: Path, raw: MakeJob
) -> None:
    stranger = emulate(newest, vocabulary=[bytes([b ^ 1]) for b in range(256)], alphabet_ids=[97])
    stranger.load()
    for _ in range(2):
        assert stranger.ask(raw("Who?", num_predict=3)).content == "aaa"

    lines = [line for line in stranger.engine.output.splitlines() if "disagrees" in line]
    assert len(lines) == 1
    assert '"model":"emulated-model"' in lines[0]
