"""The real small model, held to what a client asks for; and how likely it held what it said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Job, Resume, Sampling
from rkllama_worker.engine.wire import Kind, LoadSpec
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from conftest import EngineUnderTest

MakeJob = Callable[..., Job]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "hobbies": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name", "age", "hobbies"],
}
ALICE = "Tell me about Alice, who is 34 and likes chess and running."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def content(chunks: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in chunks)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=1.5, seed=3),
        Sampling(temperature=1, typical_p=0.5, min_p=0.1, repeat_penalty=1.3, seed=4),
    ],
)
def test_a_schema_is_filled(engine: EngineUnderTest, make_job: MakeJob, sampling: Sampling) -> None:
    chunks, ended = engine.answer(1, make_job(ALICE, format=PERSON, sampling=sampling))

    said = json.loads(content(chunks))
    assert list(said) == ["name", "age", "hobbies"]
    assert (type(said["name"]), type(said["age"])) == (str, int)
    assert len(said["hobbies"]) <= 3
    assert chunks[-1].finish == "stop"
    assert ended.generated_tokens == sum(len(chunk.ids) for chunk in chunks)
    if not sampling.temperature:
        assert (said["name"], said["age"]) == ("Alice", 34)


def test_without_a_schema_it_writes_prose(engine: EngineUnderTest, make_job: MakeJob) -> None:
    """So the one above is held to it, and not asked."""
    chunks, _ = engine.answer(1, make_job(ALICE, num_predict=20))

    assert content(chunks).startswith("Alice is")


def test_json_is_an_object(engine: EngineUnderTest, make_job: MakeJob) -> None:
    chunks, _ = engine.answer(1, make_job(f"{ALICE} As JSON.", format="json"))

    assert isinstance(json.loads(content(chunks)), dict)


@pytest.mark.parametrize(
    "question",
    ["What is the weather in Paris?", "Is it raining in London?", "Tell me how Rome is today."],
)
def test_a_tool_that_is_forced_is_called(
    engine: EngineUnderTest, make_job: MakeJob, question: str
) -> None:
    """In free text this model calls none (feasibility: 0 of 3)."""
    job = make_job(question, tools=(WEATHER,), forced_tools=("get_weather",))

    chunks, _ = engine.answer(1, job)

    calls = [call["function"] for chunk in chunks for call in chunk.tool_calls]
    assert [call["name"] for call in calls] == ["get_weather"]
    assert calls[0]["arguments"]["city"] in question
    assert (content(chunks), chunks[-1].finish) == ("", "stop")


@pytest.mark.parametrize("count", [1, 5, 20])
def test_an_answer_that_is_cut_off_is_an_error(
    engine: EngineUnderTest, make_job: MakeJob, count: int
) -> None:
    """What was shown until then is the begin of a right one; who set the limit can raise it."""
    job = make_job(ALICE, format=PERSON)
    whole = content(engine.answer(1, job)[0])

    chunks, _ = engine.answer(2, job.model_copy(update={"num_predict": count}))

    assert sum(len(chunk.ids) for chunk in chunks) == count
    assert whole.startswith(content(chunks))
    assert (chunks[-1].finish, chunks[-1].error_code) == ("", "invalid_job")
    assert f"cut off after {count} tokens" in chunks[-1].error_message


def test_a_call_that_is_cut_off_is_an_error(engine: EngineUnderTest, make_job: MakeJob) -> None:
    job = make_job(ALICE, tools=(WEATHER,), forced_tools=("get_weather",), num_predict=8)

    last = engine.answer(1, job)[0][-1]

    assert (last.finish, last.error_code) == ("", "invalid_job")
    assert "cut off after 8 tokens" in last.error_message


def test_an_answer_that_is_cut_where_it_is_whole_is_none(
    engine: EngineUnderTest, make_job: MakeJob
) -> None:
    """A number might always go on."""
    job = make_job("What is 2 + 2?", format={"type": "integer"}, num_predict=1)

    chunks, _ = engine.answer(1, job)

    assert isinstance(json.loads(content(chunks)), int)
    assert chunks[-1].finish == "length"


def test_a_context_that_is_full_is_nobodys_wish(
    fresh_engine: EngineUnderTest, spec: LoadSpec, make_job: MakeJob
) -> None:
    assert fresh_engine.load(spec.model_copy(update={"num_ctx": 64})).kind is Kind.READY
    job = make_job(ALICE, format={"type": "array", "items": {"type": "string"}, "minItems": 99})

    last = fresh_engine.answer(1, job)[0][-1]

    assert last.error_code == "runtime_failed"
    assert "cut off after" in last.error_message


def test_a_stop_string_does_not_make_half_an_answer_a_whole_one(
    engine: EngineUnderTest, make_job: MakeJob
) -> None:
    chunks, _ = engine.answer(1, make_job(ALICE, format=PERSON, stop=("age",)))

    assert (chunks[-1].finish, chunks[-1].error_code) == ("", "runtime_failed")
    assert "not what was asked for: it is not JSON" in chunks[-1].error_message


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 1}, "Unsatisfiable schema"),
        ({"$ref": "#"}, "no answer can be held to the schema"),
        ({"type": "objec"}, "invalid JSON schema in format"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    engine: EngineUnderTest, make_job: MakeJob, schema: dict[str, Any], reason: str
) -> None:
    chunks, _ = engine.answer(1, make_job(ALICE, format=schema))

    assert [chunk.error_code for chunk in chunks] == ["invalid_job"]
    assert reason in chunks[0].error_message
    assert content(engine.answer(2, make_job("Hello", num_predict=3))[0])


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_another_board_goes_on_in_the_midst_of_it(
    engine: EngineUnderTest, make_job: MakeJob, cut: int
) -> None:
    job = make_job(ALICE, format=PERSON)
    whole, _ = engine.answer(1, job)
    ids = [token for chunk in whole for token in chunk.ids]
    shown = content(whole)
    begin = content(engine.answer(2, job.model_copy(update={"num_predict": cut}))[0])
    resume = Resume(ids=tuple(ids[:cut]), prompt_hash=whole[0].prompt_hash)

    rest, _ = engine.answer(3, job.model_copy(update={"resume": resume}))

    assert [token for chunk in rest for token in chunk.ids] == ids[cut:]
    assert begin + content(rest) == shown


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if false %}<think></think>{% endif %}<think>\n"
)


def test_thinking_comes_first_and_is_free(
    fresh_engine: EngineUnderTest, spec: LoadSpec, make_job: MakeJob
) -> None:
    """This model does not end its thinking: a stop string cannot either, so it is cut off there."""
    loaded = spec.model_copy(update={"template": THINKING})
    assert fresh_engine.load(loaded).kind is Kind.READY

    free, _ = fresh_engine.answer(1, make_job(ALICE, format=PERSON, num_predict=12))
    bound, _ = fresh_engine.answer(2, make_job(ALICE, format=PERSON, think=False, num_predict=12))

    assert content(free) == ""
    assert "Alice" in "".join(chunk.thinking for chunk in free)
    assert content(bound).lstrip().startswith("{")


# ------------------------------------------------------------------ logprobs


@pytest.mark.parametrize("top", [0, 1, 5])
def test_each_token_has_its_logprob(
    engine: EngineUnderTest, make_job: MakeJob, tokenizer: Tokenizer, top: int
) -> None:
    plain, _ = engine.answer(1, make_job(ALICE, num_predict=12))

    chunks, _ = engine.answer(2, make_job(ALICE, num_predict=12, top_logprobs=top))

    ids = [token for chunk in chunks for token in chunk.ids]
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert ids == [token for chunk in plain for token in chunk.ids]
    assert len(entries) == len(ids) == 12
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == content(chunks)
    for token, entry in zip(ids, entries, strict=True):
        assert entry["token"] == tokenizer.decode([token])
        assert entry["logprob"] <= 0
        likely = entry.get("top_logprobs", [])
        assert len(likely) == top
        # Greedy takes the likeliest.
        assert not likely or likely[0] == {k: v for k, v in entry.items() if k != "top_logprobs"}
        assert likely == sorted(likely, key=lambda one: -one["logprob"])
    assert not any(chunk.logprobs for chunk in plain)


def test_chances_are_those_before_sampling(engine: EngineUnderTest, make_job: MakeJob) -> None:
    """What a penalty or the temperature makes of them is not what the model says."""
    hot = Sampling(temperature=2, repeat_penalty=1.5, seed=5)

    cool, _ = engine.answer(1, make_job(ALICE, num_predict=1, top_logprobs=20))
    warm, _ = engine.answer(2, make_job(ALICE, num_predict=1, top_logprobs=20, sampling=hot))

    assert warm[0].logprobs[0]["top_logprobs"] == cool[0].logprobs[0]["top_logprobs"]
    chances = [math.exp(one["logprob"]) for one in cool[0].logprobs[0]["top_logprobs"]]
    assert 0.5 < sum(chances) <= 1


def test_half_a_character_is_told_by_its_bytes(engine: EngineUnderTest, make_job: MakeJob) -> None:
    job = make_job(kind="completion", prompt="🦜🦜🦜🦜🦜🦜", num_predict=6, top_logprobs=0)

    chunks, _ = engine.answer(1, job)

    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert "\ufffd" in [entry["token"] for entry in entries]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="ignore") in "🦜" * 6


def test_logprobs_and_a_schema_go_together(engine: EngineUnderTest, make_job: MakeJob) -> None:
    plain, _ = engine.answer(1, make_job(ALICE, format=PERSON))

    chunks, _ = engine.answer(2, make_job(ALICE, format=PERSON, top_logprobs=1))

    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert content(chunks) == content(plain)
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == content(chunks)
