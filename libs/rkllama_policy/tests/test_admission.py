"""Who is taken in, and what the others are told."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import pytest
from rkllama_policy.admission import NO_BOARD_S, Limits, Place, Waiting, admit, in_order, share
from rkllama_protocol.errors import ExpiredError, OverloadedError
from rkllama_protocol.messages import GatewayBeat, RunningJob, WorkerBeat
from rkllama_protocol.subjects import JobClass

from libs.rkllama_policy.tests.building import A, B, board, gateway, resident, ticket

PEOPLE, BATCH, RESUME = JobClass.INTERACTIVE, JobClass.BATCH, JobClass.RESUME
WARM = board(models=(resident(),))
BUSY = board(models=(resident(),), running=RunningJob(job_id="x", model=A, left_s=4.5))


def waiting(
    order: int = 0, *, lane: JobClass = PEOPLE, key: str | None = None, model: str = A
) -> Waiting:
    return Waiting(
        ticket=ticket(f"j{order}", order=order, job_class=lane, model=model, weights_bytes=10**6),
        key=key,
    )


def asked(
    queue: Sequence[Waiting],
    *,
    asking: Waiting | None = None,
    limits: Limits | None = None,
    deadline_s: float = math.inf,
    gateways: Collection[GatewayBeat] = (),
    boards: Collection[WorkerBeat] = (BUSY,),
) -> Place:
    return admit(
        asking or waiting(99),
        queue,
        limits=limits or Limits(waiting=100),
        deadline_s=deadline_s,
        gateway_id="g",
        gateways=gateways,
        boards=boards,
    )


@pytest.mark.parametrize(
    ("bound", "others", "mine"),
    [
        (4, "", 4),
        (4, "h", 2),
        (5, "h", 3),
        (5, "a", 2),
        (4, "abh", 1),
        (1, "ah", 1),
        (0, "", 1),
    ],
)
def test_the_bound_is_shared_evenly(bound: int, others: str, mine: int) -> None:
    """What is over goes to the first by name; nobody is left with nothing."""
    assert share(bound, "g", others) == mine


def test_the_shares_of_all_are_the_bound() -> None:
    names = "bdg"

    assert sum(share(8, name, names) for name in names) == 8


def test_jobs_stand_in_the_order_of_their_classes_and_then_of_their_arrival() -> None:
    queue = [waiting(1, lane=BATCH), waiting(3), waiting(2), waiting(4, lane=RESUME)]

    assert [one.ticket.order for one in in_order(queue)] == [4, 2, 3, 1]


@pytest.mark.parametrize(
    ("queue", "gateways"),
    [
        ([waiting(1), waiting(2)], [gateway("h")]),
        ([waiting(at) for at in range(4)], []),
        ([waiting(1)], [gateway(name) for name in "hik"]),
    ],
    ids=["two", "one", "four"],
)
def test_one_more_than_this_gateways_share_is_refused(
    queue: list[Waiting], gateways: list[GatewayBeat]
) -> None:
    limits = Limits(waiting=4)

    assert asked(queue[1:], limits=limits, gateways=gateways).ahead == len(queue) - 1
    with pytest.raises(OverloadedError):
        asked(queue, limits=limits, gateways=gateways)


@pytest.mark.parametrize(
    "other", [waiting(1, model=B), waiting(1, lane=BATCH), waiting(1, lane=RESUME)]
)
def test_models_and_classes_have_bounds_of_their_own(other: Waiting) -> None:
    asked([other], limits=Limits(waiting=1))


def test_a_loaded_model_is_bounded_too() -> None:
    """The bound holds for a model that is loaded as for any other (ollama#7758)."""
    with pytest.raises(OverloadedError):
        asked([waiting(1)], limits=Limits(waiting=1), boards=[WARM])


@pytest.mark.parametrize(
    ("boards", "retry_after_s"),
    [([BUSY], 5.0), ([WARM], 1.0), ([], NO_BOARD_S)],
    ids=["busy", "free", "none"],
)
def test_who_is_refused_is_told_when_the_next_place_is_free(
    boards: list[WorkerBeat], retry_after_s: float
) -> None:
    with pytest.raises(OverloadedError) as refused:
        asked([waiting(1)], limits=Limits(waiting=1), boards=boards)

    assert refused.value.retry_after_s == retry_after_s


def test_a_place_in_a_later_lane_is_free_later() -> None:
    """Another job of people goes first: 4.5 s until the board is free, then 1 + 10 s."""
    queue = [waiting(1, lane=BATCH), waiting(2)]
    with pytest.raises(OverloadedError) as refused:
        asked(queue, asking=waiting(3, lane=BATCH), limits=Limits(waiting=1))

    assert refused.value.retry_after_s == 16.0


@pytest.mark.parametrize(
    ("key", "queue", "taken"),
    [
        ("bob", [waiting(1, key="bob")], True),
        ("bob", [waiting(1, key="bob"), waiting(2, key="bob")], False),
        ("bob", [waiting(1, key="bob"), waiting(2, key="bob", model=B, lane=BATCH)], False),
        ("bob", [waiting(1, key="eve"), waiting(2, key="eve")], True),
        (None, [waiting(1), waiting(2), waiting(3)], True),
    ],
    ids=["one", "two", "of-any-model", "others", "no-key"],
)
def test_a_key_has_a_bound_over_all_its_jobs(
    key: str | None, queue: list[Waiting], *, taken: bool
) -> None:
    limits = Limits(waiting=100, waiting_per_key=2)
    if taken:
        asked(queue, asking=waiting(9, key=key), limits=limits)
        return
    with pytest.raises(OverloadedError) as refused:
        asked(queue, asking=waiting(9, key=key), limits=limits)

    assert refused.value.retry_after_s == 5.0


@pytest.mark.parametrize(
    ("lane", "ahead", "wait_s"),
    [
        # 4.5 s left, then one job of 11 s here, and elsewhere 22 s of work, and its own prompt.
        (PEOPLE, 1 + 2, 4.5 + 11 + 22 + 1),
        (BATCH, 2 + 2 + 5, 4.5 + 22 + 22 + 55 + 1),
    ],
)
def test_a_place_counts_what_goes_before_it_in_all_gateways(
    lane: JobClass, ahead: int, wait_s: float
) -> None:
    place = asked(
        [waiting(1), waiting(2, lane=BATCH)],
        asking=waiting(3, lane=lane),
        gateways=[gateway("h", (PEOPLE, 2, 22.0), (BATCH, 5, 55.0))],
    )

    assert place == Place(ahead=ahead, wait_s=pytest.approx(wait_s))


def test_a_request_that_would_begin_after_its_deadline_is_refused() -> None:
    """4.5 s and its prompt of 1 s."""
    assert asked([], deadline_s=5.6).wait_s == pytest.approx(5.5)
    with pytest.raises(ExpiredError, match="predicted to begin in 6 s") as refused:
        asked([], deadline_s=1.0)

    assert refused.value.retry_after_s == 5.0


def test_nothing_is_predicted_while_there_is_no_board() -> None:
    assert asked([waiting(1)], deadline_s=1.0, boards=[]) == Place(ahead=1, wait_s=math.inf)
