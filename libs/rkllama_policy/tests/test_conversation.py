"""Which prompts continue which, and what that is worth."""

from __future__ import annotations

import math

import orjson
import pytest
from rkllama_policy.claims import patience_s
from rkllama_policy.conversation import FIRST_LINKS, MOST_LINKS, chain, held_tokens
from rkllama_policy.cost import (
    RESTORE_S,
    cost_s,
    prompt_tokens,
    restorable,
    run_s,
    speed_of,
    worth_saving,
)
from rkllama_protocol.messages import ChatMessage, Job, Link, ModelDetails, ResolvedModel, Speed

from libs.rkllama_policy.tests.building import A, board, resident, ticket


def model(digest: str = A) -> ResolvedModel:
    return ResolvedModel(
        name="m", full_name="m", digest=digest, size=0, modified_at="", details=ModelDetails()
    )


def job(*said: str, **changes: object) -> Job:
    """A job whose messages are `role:content`."""
    messages = [dict(zip(("role", "content"), one.split(":"), strict=True)) for one in said]
    values = {"job_id": "j", "model": model(), "kind": "chat", "messages": messages, "now": ""}
    return Job.model_validate(values | changes)


def hashes(*said: str, salt: str = "k", **changes: object) -> list[str]:
    return [link.hash for link in chain(job(*said, **changes), salt=salt)]


TURN_1 = ("system:be brief", "user:hi")
TURN_2 = (*TURN_1, "assistant:hello", "user:and then?")


def test_a_later_turn_begins_with_the_links_of_an_earlier_one() -> None:
    assert hashes(*TURN_2)[:2] == hashes(*TURN_1)
    assert len(set(hashes(*TURN_2))) == 3


def test_a_link_ends_with_a_message_that_is_not_the_assistants_and_covers_what_it_says_next() -> (
    None
):
    """8 characters, 2 more; 5 of the assistant's; 9 of the next question: four to a token."""
    assert [link.tokens for link in chain(job(*TURN_2), salt="")] == [2, 4, 6]


CALL = {"id": "c", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add"}}


def test_all_that_a_template_prints_is_counted() -> None:
    """Letters of three bytes count more; tools stand before every link, calls and thoughts in theirs."""
    asked = job("user:0123456789ab", tools=(TOOL,))
    said = ChatMessage(role="assistant", content="", thinking="01234567", tool_calls=(CALL,))
    result = ChatMessage(role="tool", content="世界你好")
    whole = asked.model_copy(update={"messages": (*asked.messages, said, result)})
    tools, call = len(orjson.dumps([TOOL])), len(orjson.dumps([CALL]))

    first, last = chain(whole, salt="")
    assert first.tokens == math.ceil((tools + 12 + 8 + call) / 4)
    assert last.tokens == math.ceil((tools + 12 + 8 + call + 12) / 4)
    assert prompt_tokens(whole) == last.tokens


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"kind": "completion", "prompt": "01234567", "suffix": "0123"}, 3),
        ({"kind": "embed", "inputs": ("01234567", "0123")}, 3),
        ({"kind": "completion", "prompt": "0123", "context": (1, 2, 3)}, 4),
        ({"format": "json"}, 0),
        ({"format": {"type": "object"}}, math.ceil(len('{"type":"object"}') / 4)),
    ],
)
def test_a_prompt_is_as_long_as_what_it_is_made_of(changes: dict[str, object], tokens: int) -> None:
    assert prompt_tokens(job(**changes)) == tokens


@pytest.mark.parametrize(
    "other",
    [
        {"salt": "another key"},
        {"model": model(f"sha256:{'c' * 64}")},
        {"tools": ({"type": "function"},)},
        {"template": "{{ messages }}"},
    ],
    ids=["key", "model", "tools", "template"],
)
def test_what_stands_before_all_messages_makes_another_conversation(other: dict[str, str]) -> None:
    assert not set(hashes(*TURN_1)) & set(hashes(*TURN_1, **other))


def test_an_answer_that_was_edited_makes_another_conversation_behind_it() -> None:
    edited = (*TURN_1, "assistant:HELLO", "user:and then?")

    assert hashes(*edited)[:2] == hashes(*TURN_2)[:2]
    assert hashes(*edited)[2] != hashes(*TURN_2)[2]


def test_an_image_is_a_part_of_its_message() -> None:
    said = job("user:what is it?")
    seen = ChatMessage(role="user", content="what is it?", images=("aGk=",))

    assert chain(said, salt="") != chain(said.model_copy(update={"messages": (seen,)}), salt="")


def test_where_one_message_ends_and_the_next_begins_counts() -> None:
    assert hashes("user:ab", "user:c")[-1] != hashes("user:a", "user:bc")[-1]


@pytest.mark.parametrize("kind", ["completion", "embed", "load"])
def test_only_chats_are_conversations(kind: str) -> None:
    assert chain(job(*TURN_1, kind=kind), salt="") == ()


def test_a_long_chain_keeps_its_begin_and_its_end() -> None:
    said = [f"user:{at}" for at in range(2 * MOST_LINKS)]
    whole = [hashes(*said[: at + 1])[-1] for at in range(len(said))]

    assert hashes(*said) == whole[:FIRST_LINKS] + whole[FIRST_LINKS - MOST_LINKS :]


CHAIN = (Link(hash="a", tokens=20), Link(hash="b", tokens=60), Link(hash="c", tokens=120))


@pytest.mark.parametrize(
    ("holds", "held"),
    [((), 0), (("a",), 20), (("a", "b"), 60), (("b", "x"), 60), (("x",), 0), (("a", "b", "c"), 99)],
)
def test_a_board_holds_the_longest_prefix_it_names_but_for_the_last_token(
    holds: tuple[str, ...], held: int
) -> None:
    """100 tokens of prompt: of the whole of it the last one is read again, for there the answer begins."""
    assert held_tokens(ticket(chain=CHAIN), holds) == held


def test_what_is_held_is_not_read_again() -> None:
    """100 tokens take a second, 60 of them are held; 100 more are made in ten."""
    holding = board(models=(resident(holds=("a", "b")),))

    assert cost_s(ticket(chain=CHAIN), holding) == pytest.approx(0.4)
    assert run_s(ticket(chain=CHAIN), holding) == pytest.approx(10.4)


def test_another_context_length_holds_nothing() -> None:
    """The model has to be loaded again."""
    holding = board(models=(resident(holds=("a", "b")),))

    assert cost_s(ticket(chain=CHAIN, num_ctx=8192), holding) == pytest.approx(2.0 + 1.0)


def test_others_hold_back_for_as_long_as_the_prefix_is_worth() -> None:
    holding = board("holds", models=(resident(holds=("a", "b")),))
    loaded = board("loaded", models=(resident(),))
    asked = ticket(chain=CHAIN)

    assert patience_s(asked, holding, [loaded]) == 0
    assert patience_s(asked, loaded, [holding]) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("holds", "saved", "unread_s"),
    [
        ((), ("b",), 0.1 + 0.4),
        (("a",), ("b",), 0.1 + 0.4),
        (("b",), ("b",), 0.4),
        (("b",), ("a",), 0.4),
        ((), ("x",), 1.0),
    ],
    ids=["saved", "saved-more", "both", "live-more", "neither"],
)
def test_a_saved_cache_is_restored_where_that_is_cheaper(
    holds: tuple[str, ...], saved: tuple[str, ...], unread_s: float
) -> None:
    keeper = board(models=(resident(holds=holds),), saved=saved)

    assert cost_s(ticket(chain=CHAIN), keeper) == pytest.approx(unread_s)


@pytest.mark.parametrize(("tokens", "worth"), [(9, False), (11, True)])
def test_only_what_takes_longer_to_read_than_to_restore_is_saved(tokens: int, worth: bool) -> None:
    """100 tokens a second, and a tenth of a second to restore."""
    speed = speed_of(board(), A)

    assert worth_saving(ticket(chain=CHAIN, prompt_tokens=tokens), speed) is worth
    assert not worth_saving(ticket(prompt_tokens=1000), speed)


@pytest.mark.parametrize(
    ("held", "saved", "chosen"),
    [
        (0, ("a", "b"), "b"),
        (0, ("x",), ""),
        (49, ("b",), "b"),
        (51, ("b",), ""),
        (60, ("b",), ""),
    ],
    ids=["longest", "another", "dear", "cheap", "held"],
)
def test_what_is_held_is_given_up_only_for_more(
    held: int, saved: tuple[str, ...], chosen: str
) -> None:
    """60 tokens are saved: a tenth of a second is worth ten of them."""
    speed = speed_of(board(), A)

    assert restorable(ticket(chain=CHAIN), speed, held=held, saved=saved) == chosen


def test_a_board_that_never_restored_assumes_what_it_takes() -> None:
    """100 tokens take a second; three tenths are assumed."""
    new = Speed(model=A, prefill_s_per_token=0.01)

    assert cost_s(
        ticket(chain=CHAIN), board(speeds=(new,), models=(resident(),), saved=("b",))
    ) == (pytest.approx(RESTORE_S + 0.4))


def test_a_saved_cache_outlives_its_model() -> None:
    assert cost_s(ticket(chain=CHAIN), board(saved=("b",))) == pytest.approx(2.5)
