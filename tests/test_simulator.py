"""The policy over whole days of traffic, in virtual time: a change that makes it worse fails here.

Everything is drawn from a seed, so that a figure is the same on every machine.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import cache

import pytest
from rkllama_policy.claims import AGE_WEIGHT

from bench.figures import quantile
from bench.simulator.__main__ import LONG, SAVED
from bench.simulator.board import Equipment
from bench.simulator.policies import POLICIES, Claims
from bench.simulator.running import Outcome, play
from bench.simulator.traffic import MODELS, Conversation, Turn, conversations, work_s

OTHERS = [name for name in POLICIES if name != "ours"]
BOARDS = 4


@cache
def outcome(policy: str, saved: int) -> Outcome:
    traffic = conversations(boards=BOARDS, load=0.6, count=20 * BOARDS, seed=1)
    return play(traffic, POLICIES[policy], boards=BOARDS, equipment=Equipment(most_saved=saved))


def ttft_s(policy: str, saved: int) -> list[float]:
    return [one.ttft_s for one in outcome(policy, saved).served]


def long_s(policy: str, saved: int) -> float:
    """Mean time to first token of follow-up turns with a long history."""
    return statistics.fmean(
        one.ttft_s for one in outcome(policy, saved).served if one.turn.history in LONG
    )


def test_traffic_offers_the_load_that_was_asked_for() -> None:
    traffic = conversations(boards=BOARDS, load=0.6, count=2000, seed=3)
    work = sum(work_s(talk.model, turn) for talk in traffic for turn in talk.turns)

    assert work / traffic[-1].begins_s / BOARDS == pytest.approx(0.6, rel=0.05)


def test_every_question_is_answered_once_and_in_its_order() -> None:
    served = outcome("ours", 0).served
    traffic = conversations(boards=BOARDS, load=0.6, count=20 * BOARDS, seed=1)
    asked = {talk.name: list(talk.turns) for talk in traffic if talk.turns}
    answered: dict[str, list[Turn]] = {}
    for one in served:
        answered.setdefault(one.conversation.name, []).append(one.turn)

    assert answered == asked


def test_a_seed_repeats_itself() -> None:
    traffic = conversations(boards=2, load=0.6, count=10, seed=5)
    first, second = (
        play(traffic, Claims, boards=2, equipment=Equipment()).served for _ in range(2)
    )

    assert first == second


def test_saved_conversations_are_worth_more_than_anything_else() -> None:
    """The goal of long follow-up turns: five times better than round robin without them."""
    assert 5 * long_s("ours", SAVED) < long_s("round robin", 0)


@pytest.mark.parametrize("other", OTHERS)
def test_others_gain_less_by_the_same_saved_conversations(other: str) -> None:
    assert 2 * long_s("ours", SAVED) < long_s(other, SAVED)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("saved", [0, SAVED])
def test_no_other_policy_is_better(other: str, saved: int) -> None:
    ours, theirs = ttft_s("ours", saved), ttft_s(other, saved)

    assert statistics.fmean(ours) < statistics.fmean(theirs)
    assert quantile(ours, 0.95) < quantile(theirs, 0.95)
    assert outcome("ours", saved).loads < outcome(other, saved).loads


def single(name: str, model: int, begins_s: float, *, answer: int = 50) -> Conversation:
    """One short question."""
    turn = Turn(history=0, question=20, answer=answer, pause_s=0.0)
    return Conversation(name=name, model=MODELS[model], begins_s=begins_s, turns=(turn,))


ONE_EACH = Equipment(most_models=1)


def test_three_models_that_alternate_on_two_boards_are_not_swapped_for_every_request() -> None:
    """Room for one each: whoever takes the oldest loads for almost every request."""
    traffic = [single(f"r{at}", at % 3, 2.5 * at) for at in range(300)]
    ours = play(traffic, POLICIES["ours"], boards=2, equipment=ONE_EACH)
    naive = play(traffic, POLICIES["least outstanding"], boards=2, equipment=ONE_EACH)

    assert len(ours.served) == len(traffic)
    assert ours.loads < 60
    assert naive.loads > 180


def test_nobody_is_overtaken_by_who_came_much_later() -> None:
    """Two boards that two other models keep busy for ever, with more than they can do.

    A second of age outweighs a tenth of a second of cost. So a request for a third model may be overtaken
    by those who came at most ten times its load, and the load of what it evicts, later, and by nobody
    else: that bounds its wait.
    """
    crowd = [single(f"r{at}", at % 2, 1.5 * at) for at in range(400)]
    rare = [single(f"x{at}", 2, 100.0 * at) for at in range(1, 5)]
    served = play([*crowd, *rare], Claims, boards=2, equipment=ONE_EACH).served
    evicted_s = max(model.speeds.load_s for model in MODELS[:2])
    patience_s = (MODELS[2].speeds.load_s + evicted_s) / AGE_WEIGHT
    waited = [one for one in served if one.conversation.model is MODELS[2]]
    overtakers = [
        other.asked_s - one.asked_s
        for one in waited
        for other in served
        if other.asked_s > one.asked_s
        and other.asked_s + other.waited_s < one.asked_s + one.waited_s
    ]

    assert len(waited) == len(rare)
    assert 0 < max(overtakers) < patience_s


def test_one_board_follows_the_same_rule() -> None:
    """Nothing in the policy asks how many there are: also one serves its model before it swaps."""
    traffic = [single(f"r{at}", at % 3, 0.01 * at) for at in range(30)]
    alone = play(traffic, Claims, boards=1, equipment=ONE_EACH)

    assert len(alone.served) == len(traffic)
    assert alone.loads == 3


def test_conversations_settle_on_boards_of_their_own() -> None:
    """As many as there are boards: each finds its board again, and reads nothing twice."""
    traffic = conversations(boards=16, load=0.6, count=16, seed=2)
    at_once = [replace(talk, begins_s=0.0) for talk in traffic]
    outcome = play(at_once, Claims, boards=16, equipment=Equipment(most_models=1))
    follow_ups = [one for one in outcome.served if one.turn.history]

    assert [one.ttft_s for one in follow_ups] == pytest.approx([one.alone_s for one in follow_ups])
    assert outcome.loads == sum(bool(talk.turns) for talk in traffic)
