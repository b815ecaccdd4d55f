"""Prompts: rendered, tokenised once, with one BOS, and cut to fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    PromptTooLongError,
    UnsupportedError,
)
from rkllama_protocol.messages import ChatMessage, Job
from rkllama_worker.engine import model_files
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.prompt import (
    CHARS_PER_TOKEN,
    PromptBuilder,
    merged,
    without_middle,
)
from tokenizers import Tokenizer

MakeJob = Callable[..., Job]


def text_of(facts: ModelFiles, job: Job, *, context_length: int = 2048) -> str:
    """The prompt as the model sees it."""
    prompt = PromptBuilder(facts, context_length=context_length).build(job)
    return str(facts.tokenizer.decode(prompt.ids, skip_special_tokens=False))


def test_a_chat_is_rendered_up_to_where_the_model_begins(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    assert text_of(facts, make_job("Hi", "Hello.", "Bye")) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )


def test_marks_of_the_template_are_single_tokens(facts: ModelFiles, make_job: MakeJob) -> None:
    prompt = PromptBuilder(facts, context_length=99).build(make_job("Hi"))

    assert prompt.ids[0] == facts.tokenizer.token_to_id("<|im_start|>")


def test_a_completion_is_taken_as_it_is(facts: ModelFiles, make_job: MakeJob) -> None:
    assert text_of(facts, make_job(kind="completion", prompt="Once  upon")) == "Once  upon"


@pytest.mark.parametrize("written", [True, False])
def test_a_bos_that_is_wanted_stands_there_once(
    facts: ModelFiles, make_job: MakeJob, written: bool
) -> None:
    """Some templates write it, some leave it to the tokenizer."""
    template = ("{{ bos_token }}" if written else "") + "{{ messages[0].content }}"
    wanting = dataclasses.replace(facts, bos_id=1, templates={"default": template})

    assert text_of(wanting, make_job("Hi")) == "<|im_start|>Hi"
    assert text_of(wanting, make_job(kind="completion", prompt="Hi")) == "<|im_start|>Hi"


def test_the_template_for_tools_is_taken_when_there_are_tools(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    both = dataclasses.replace(facts, templates={"default": "plain", "tool_use": "tools"})

    assert text_of(both, make_job("Hi")) == "plain"
    assert text_of(both, make_job("Hi", tools=({"type": "function"},))) == "tools"


def test_messages_have_the_shape_that_templates_read(facts: ModelFiles, make_job: MakeJob) -> None:
    showing = dataclasses.replace(facts, templates={"default": "{{ messages | tojson }}"})
    call = {"id": "c1", "function": {"name": "look", "arguments": {"at": "sky"}}}
    messages = (
        ChatMessage(role="user", content="What?", images=("aGk=",)),
        ChatMessage(role="assistant", thinking="Hm.", tool_calls=(call,)),
        ChatMessage(role="tool", content="blue", tool_name="look", tool_call_id="c1"),
    )

    assert json.loads(text_of(showing, make_job(messages=messages))) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm.",
            "tool_calls": [{"type": "function", **call}],
        },
        {"role": "tool", "content": "blue", "name": "look", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(("think", "text"), [(None, "unset"), (False, "False"), ("high", "True")])
def test_the_wish_to_think_reaches_the_template(
    facts: ModelFiles, make_job: MakeJob, think: bool | str | None, text: str
) -> None:
    asking = "{{ enable_thinking if enable_thinking is defined else 'unset' }}"
    thinking = dataclasses.replace(facts, templates={"default": asking})

    assert text_of(thinking, make_job("Hi", think=think)) == text


def test_a_model_without_a_template_says_so(facts: ModelFiles, make_job: MakeJob) -> None:
    with pytest.raises(InvalidJobError, match="no chat template"):
        text_of(dataclasses.replace(facts, templates={}), make_job("Hi"))


def test_an_empty_prompt_is_refused(facts: ModelFiles, make_job: MakeJob) -> None:
    with pytest.raises(InvalidJobError, match="empty"):
        text_of(facts, make_job(kind="completion", prompt=""))


def conversation(count: int) -> tuple[ChatMessage, ...]:
    turns = (
        ChatMessage(role="user" if i % 2 == 0 else "assistant", content=f"message {i}")
        for i in range(count)
    )
    return (ChatMessage(role="system", content="be brief"), *turns)


def test_the_oldest_messages_go_until_the_prompt_fits(facts: ModelFiles, make_job: MakeJob) -> None:
    """As many as fit stay, the system message and the last one in any case."""
    builder = PromptBuilder(facts, context_length=100)
    messages = conversation(21)

    prompt = builder.build(make_job(messages=messages))

    assert len(prompt.ids) < 100
    assert "be brief" in prompt.text
    assert prompt.text.rstrip().endswith("message 20<|im_end|>\n<|im_start|>assistant")
    kept = [i for i in range(21) if f"message {i}<" in prompt.text]
    assert kept == list(range(kept[0], 21))
    one_more = (messages[0], *messages[kept[0] :])
    with pytest.raises(PromptTooLongError):
        builder.build(make_job(messages=one_more, truncate=False))


def test_a_cut_that_the_template_refuses_is_moved_on(facts: ModelFiles, make_job: MakeJob) -> None:
    """Templates that want a user's message first would turn a long conversation into an error."""
    strict = (
        "{% if messages[1].role != 'user' %}{{ raise_exception('user first') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    )
    wanting = dataclasses.replace(facts, templates={"default": strict})
    builder = PromptBuilder(wanting, context_length=60)

    prompt = builder.build(make_job(messages=conversation(21)))

    first = prompt.text.splitlines()[1]
    assert first != "message 0"
    assert int(first.split()[1]) % 2 == 0


@pytest.mark.parametrize("forbidden", [{"truncate": False}, {"shift": False}])
def test_a_last_message_that_does_not_fit_and_may_not_be_cut_is_refused(
    facts: ModelFiles, make_job: MakeJob, forbidden: dict[str, bool]
) -> None:
    """Contract 2.9."""
    job = make_job("one", "two", "word " * 200, **forbidden)

    with pytest.raises(PromptTooLongError, match="longer than the context length"):
        text_of(facts, job, context_length=100)


def test_a_prompt_that_nobody_runs_may_be_longer_than_the_context(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """Whoever counts tokens wants to know by how much it is too long."""
    job = make_job("one", "two", "word " * 200, render_only=True, truncate=False)

    prompt = PromptBuilder(facts, context_length=100).build(job)

    assert prompt == PromptBuilder(facts, context_length=2048).build(job)
    assert len(prompt.ids) > 200


def test_a_last_message_that_does_not_fit_is_cut_in_its_middle(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """The first tokens and the last ones stay, and room for an answer (contract 2.9)."""
    job = make_job("one", "two", "first " + "word " * 200 + "last", num_keep=4)
    whole = PromptBuilder(facts, context_length=2048).build(
        job.model_copy(update={"messages": job.messages[2:]})
    )

    prompt = PromptBuilder(facts, context_length=100).build(job)

    assert len(prompt.ids) < 100
    assert prompt.ids[:4] == whole.ids[:4]
    assert prompt.ids[4:] == whole.ids[4 - len(prompt.ids) :]


@pytest.mark.parametrize("keep", [-1, 0, 1, 4, 50, 95, 10_000])
@pytest.mark.parametrize("length", [100, 101, 150, 5000])
def test_a_cut_prompt_fits_whatever_is_kept(length: int, keep: int) -> None:
    ids = tuple(range(length))

    cut = without_middle(ids, most=99, keep=keep)

    kept = min(max(keep, 0), 96)
    assert cut[:kept] == ids[:kept]
    assert cut[kept:] == ids[len(ids) - len(cut) + kept :]
    assert len(cut) <= 99
    assert len(cut) - kept >= (100 - kept) // 2


def test_of_a_text_far_too_long_only_the_ends_are_read(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """What is kept of it is the same; a tokenizer takes gigabytes for what a request may bring."""
    text = " ".join(f"word{number}" for number in range(3000))
    job = make_job(kind="completion", prompt=text, num_keep=6)
    whole = facts.tokenizer.encode(text, add_special_tokens=False).ids

    cut = PromptBuilder(facts, context_length=64).build(job)

    assert len(text) > 64 * CHARS_PER_TOKEN
    assert len(cut.ids) <= 63
    assert list(cut.ids[:6]) == whole[:6]
    assert list(cut.ids[6:]) == whole[-len(cut.ids) + 6 :]
    assert cut.text == text


def test_a_text_far_too_long_is_refused_where_it_may_not_be_cut(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    job = make_job("word " * 3000, shift=False)

    with pytest.raises(PromptTooLongError):
        PromptBuilder(facts, context_length=64).build(job)


def test_a_text_far_too_long_is_counted_whole(facts: ModelFiles, make_job: MakeJob) -> None:
    text = "word " * 3000
    job = make_job(kind="completion", prompt=text, render_only=True, truncate=False)

    counted = PromptBuilder(facts, context_length=64).build(job)

    assert list(counted.ids) == facts.tokenizer.encode(text, add_special_tokens=False).ids


def test_a_long_text_of_few_tokens_is_whole(facts: ModelFiles, make_job: MakeJob) -> None:
    tokenizer = Tokenizer.from_str(facts.tokenizer.to_str())
    tokenizer.add_tokens(["x" * 100])
    sparing = dataclasses.replace(facts, tokenizer=tokenizer)
    builder = PromptBuilder(sparing, context_length=64)

    prompt = builder.build(make_job(kind="completion", prompt="x" * 3000, shift=False))
    embedded = builder.embed("x" * 3000, most_tokens=63, truncate=False)

    assert len(prompt.ids) == len(embedded) == 30


@pytest.mark.parametrize("context_length", [64, 100_000])
def test_a_text_to_embed_is_cut_the_same_however_long(
    facts: ModelFiles, context_length: int
) -> None:
    builder = PromptBuilder(facts, context_length=context_length)
    text = " ".join(f"word{number}" for number in range(3000))

    ids = builder.embed(text, most_tokens=63, truncate=True)

    assert list(ids) == facts.tokenizer.encode(text).ids[:63]
    with pytest.raises(PromptTooLongError):
        builder.embed(text, most_tokens=63, truncate=False)


def test_a_cut_prompt_keeps_its_place_while_the_conversation_grows() -> None:
    """So that what the runtime computed of it is of use."""
    cuts = {without_middle(tuple(range(n)), most=99, keep=4)[4] for n in range(100, 147)}

    assert len(cuts) == 1


def test_a_bos_is_kept_beside_what_is_to_be_kept(facts: ModelFiles, make_job: MakeJob) -> None:
    wanting = dataclasses.replace(facts, bos_id=1)
    job = make_job(kind="completion", prompt="a b c d" + " word" * 200, num_keep=0)

    assert PromptBuilder(wanting, context_length=99).build(job).ids[0] == 1
    assert PromptBuilder(facts, context_length=99).build(job).ids[0] != 1


def test_a_completion_leaves_room_for_one_token(facts: ModelFiles, make_job: MakeJob) -> None:
    job = make_job(kind="completion", prompt=" word" * 50, shift=False)

    PromptBuilder(facts, context_length=51).build(job)
    with pytest.raises(PromptTooLongError):
        PromptBuilder(facts, context_length=50).build(job)


def test_each_image_takes_768_tokens_when_messages_are_dropped(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """Contract 2.8."""
    talk = dataclasses.replace(
        facts,
        templates={
            "default": "{% for m in messages %}{{ m.content | string | length }} {% endfor %}"
        },
    )
    seen = ChatMessage(role="user", content="look", images=("aGk=",))
    said = ChatMessage(role="assistant", content="yes")
    job = make_job(messages=(seen, said, seen, said, seen))

    for context, images in ((2400, 3), (2300, 2), (1500, 1), (800, 1)):
        assert PromptBuilder(talk, context_length=context).build(job).images == images
    with pytest.raises(PromptTooLongError):
        PromptBuilder(talk, context_length=700).build(job)


def test_neighbours_of_one_role_become_one_message(facts: ModelFiles, make_job: MakeJob) -> None:
    """Contract 2.8; what belongs to tools stays as it is."""
    call = {"function": {"name": "f", "arguments": {}}}
    messages = (
        ChatMessage(role="system", content="s"),
        ChatMessage(role="user", content="a", images=("aGk=",)),
        ChatMessage(role="user", content="", images=("aGo=",)),
        ChatMessage(role="user", content="b"),
        ChatMessage(role="assistant", content="c", thinking="x"),
        ChatMessage(role="assistant", content="d", thinking="y"),
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", content="1"),
        ChatMessage(role="tool", content="2"),
    )

    assert merged(messages) == [
        messages[0],
        ChatMessage(role="user", content="a\n\nb", images=("aGk=", "aGo=")),
        ChatMessage(role="assistant", content="c\n\nd", thinking="x\n\ny"),
        *messages[6:],
    ]
    assert "<|im_start|>user\none\n\ntwo<|im_end|>" in text_of(
        facts,
        make_job(
            messages=(
                ChatMessage(role="user", content="one"),
                ChatMessage(role="user", content="two"),
            )
        ),
    )


# ------------------------------------------------------------------ context, suffix, template


def test_a_context_stands_before_the_prompt_id_by_id(facts: ModelFiles, make_job: MakeJob) -> None:
    """Contract 2.7: also where its text would be cut into other tokens."""
    builder = PromptBuilder(facts, context_length=999)
    plain = builder.build(make_job("Hi"))
    odd = (*facts.tokenizer.encode("Hel").ids, *facts.tokenizer.encode("lo").ids)

    prompt = builder.build(make_job("Hi", context=odd))

    assert odd != tuple(facts.tokenizer.encode("Hello").ids)
    assert prompt.ids == odd + plain.ids
    assert prompt.text == "Hello" + plain.text


def test_there_is_no_second_bos_behind_a_context(facts: ModelFiles, make_job: MakeJob) -> None:
    wanting = dataclasses.replace(facts, bos_id=0)
    builder = PromptBuilder(wanting, context_length=999)

    first = builder.build(make_job("Hi"))

    assert builder.build(make_job("Hi", context=first.ids)).ids == first.ids + first.ids[1:]


@pytest.mark.parametrize("token", [-1, 10**6, 2**40])
def test_a_context_of_another_model_is_refused(
    facts: ModelFiles, make_job: MakeJob, token: int
) -> None:
    with pytest.raises(InvalidJobError, match=str(token)):
        text_of(facts, make_job("Hi", context=(5, token)))


def filling(facts: ModelFiles, *tokens: str) -> ModelFiles:
    """The model with more tokens."""
    tokenizer = Tokenizer.from_str(facts.tokenizer.to_str())
    tokenizer.add_special_tokens(list(tokens))
    return dataclasses.replace(facts, tokenizer=tokenizer)


FIM = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>")


def test_a_suffix_is_asked_for_with_the_tokenizers_own_tokens(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    able = filling(facts, *FIM)
    job = make_job(kind="completion", prompt="def f():", suffix="return x")

    prompt = PromptBuilder(able, context_length=99).build(job)

    text = "<fim_prefix>def f():<fim_suffix>return x<fim_middle>"
    assert prompt.text == able.tokenizer.decode(prompt.ids, skip_special_tokens=False) == text
    assert prompt.ids[0] == able.tokenizer.token_to_id("<fim_prefix>")
    assert prompt.ends == {able.tokenizer.token_to_id(t) for t in ("<fim_pad>", "<|endoftext|>", "<file_sep>", "<repo_name>")}  # fmt: skip
    with pytest.raises(UnsupportedError, match="fill in"):
        text_of(facts, job)


def test_a_template_with_a_place_for_the_suffix_is_taken_before_the_tokens(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    able = dataclasses.replace(
        filling(facts, *FIM), templates={"default": "[{{ prompt }}|{{ suffix }}]"}
    )
    job = make_job(kind="completion", prompt="a", suffix="b")

    assert text_of(able, job) == "[a|b]"
    own = job.model_copy(update={"template": "{{ suffix }}<{{ messages[0].content }}"})
    assert text_of(able, own) == "b<a"


def test_a_jobs_own_template_is_taken_for_it_alone(facts: ModelFiles, make_job: MakeJob) -> None:
    builder = PromptBuilder(facts, context_length=99)
    own = make_job("Hi", template="{{ messages[0].content }}!")

    assert builder.build(own).text == "Hi!"
    assert builder.build(make_job("Hi")).text.startswith("<|im_start|>user")


def test_a_jobs_own_template_that_is_none_is_told_as_ollama_does(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """Contract 1.5: `template: ...`."""
    with pytest.raises(InvalidModelError, match=r"^template: .*line 1"):
        text_of(facts, make_job("Hi", template="{% if %}"))


def test_the_digest_depends_on_every_id(facts: ModelFiles, make_job: MakeJob) -> None:
    builder = PromptBuilder(facts, context_length=99)
    digests = {builder.build(make_job(text)).digest for text in ("Hi", "Ho", "Hi")}

    assert len(digests) == 2
    assert all(len(digest) == 16 for digest in digests)


# ------------------------------------------------------------------ the model's files


def written(folder: Path, files: dict[str, str], **contents: str) -> dict[str, str]:
    """`files` with some replaced: `written(folder, files, **{"config.json": "{}"})`."""
    for name, text in contents.items():
        (folder / name).write_text(text)
    return files | {name: str(folder / name) for name in contents}


@pytest.mark.parametrize(
    ("generation", "tokenizer_config", "ids"),
    [
        ('{"eos_token_id": [2, 0]}', "{}", {0, 2}),
        ('{"eos_token_id": 2}', "{}", {2}),
        ("{}", '{"eos_token": {"content": "<|im_end|>"}}', {2}),
        ("{}", "{}", {7}),
    ],
)
def test_the_ids_that_end_an_answer_are_found(
    tmp_path: Path, files: dict[str, str], generation: str, tokenizer_config: str, ids: set[int]
) -> None:
    contents = {
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config,
        "config.json": '{"eos_token_id": 7}',
    }

    assert model_files.read(written(tmp_path, files, **contents)).eos_ids == ids


def test_templates_replace_each_other_in_order(tmp_path: Path, files: dict[str, str]) -> None:
    named = '{"chat_template": [{"name": "default", "template": "c"}]}'
    listed = written(tmp_path, files, **{"tokenizer_config.json": named})
    own = written(tmp_path, listed, **{"chat_template.jinja": "b"})

    assert model_files.read(listed).templates == {"default": "c"}
    assert model_files.read(own).templates == {"default": "b"}
    assert model_files.read(own, template="a").templates == {"default": "a"}


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_file_is_named(
    tmp_path: Path, files: dict[str, str], name: str, content: str
) -> None:
    with pytest.raises(InvalidModelError, match=name):
        model_files.read(written(tmp_path, files, **{name: content}))


def test_limits_of_the_training_run_do_not_cut_prompts(
    tmp_path: Path, tokenizer: Tokenizer, files: dict[str, str]
) -> None:
    limited = Tokenizer.from_str(tokenizer.to_str())
    limited.enable_truncation(3)
    listed = written(tmp_path, files, **{"tokenizer.json": limited.to_str()})

    assert len(model_files.read(listed).tokenizer.encode("one two three four five").ids) > 3
