"""When waiting jobs are predicted to begin."""

from __future__ import annotations

import math

import pytest
from rkllama_policy.prediction import NEVER, forecasts
from rkllama_protocol.messages import RunningJob, Speed

from libs.rkllama_policy.tests.building import A, B, board, resident, ticket

BUSY = RunningJob(job_id="x", model=A, left_s=5.0)


def firsts(queue: object, boards: object, **more: float) -> list[float]:
    assert isinstance(queue, list)
    assert isinstance(boards, list)
    return [told.first_token_s for told in forecasts(queue, boards, **more)]


@pytest.mark.parametrize(
    ("boards", "first_tokens"),
    [
        # Load 2, read 1, then make 100 tokens in 10.
        ([board()], [3.0, 14.0, 25.0]),
        ([board(models=(resident(),))], [1.0, 12.0, 23.0]),
        ([board(models=(resident(),), running=BUSY)], [6.0, 17.0, 28.0]),
        ([board("w1"), board("w2")], [3.0, 3.0, 14.0]),
        # The cold board is worth its load as soon as the warm one is busy for longer.
        ([board("w1", models=(resident(),)), board("w2")], [1.0, 3.0, 12.0]),
        ([board(draining=True)], [math.inf] * 3),
        ([], [math.inf] * 3),
    ],
    ids=["cold", "warm", "busy", "two", "one-warm", "draining", "none"],
)
def test_jobs_are_dealt_out_in_their_order(boards: object, first_tokens: list[float]) -> None:
    assert firsts([ticket()] * 3, boards) == pytest.approx(first_tokens)


def test_a_short_answer_frees_its_board_earlier() -> None:
    short = ticket(num_predict=10)

    assert firsts([short, short], [board(models=(resident(),))]) == pytest.approx([1.0, 3.0])


def test_work_that_waits_elsewhere_is_shared_by_all_boards() -> None:
    boards = [board("w1", models=(resident(),)), board("w2", models=(resident(),))]

    assert firsts([ticket()], boards, elsewhere_s=20.0) == pytest.approx([11.0])


def test_another_model_is_loaded_where_that_is_soonest() -> None:
    speeds = (
        Speed(model=A, prefill_s_per_token=0.01),
        Speed(model=B, load_s=7, prefill_s_per_token=0),
    )
    told = forecasts([ticket(model=B)], [board(speeds=speeds)])

    assert next(told).first_token_s == pytest.approx(7.0)


def test_a_job_that_no_board_can_run_keeps_nobody_waiting() -> None:
    told = list(forecasts([ticket(model=B, model_format="rkllm"), ticket()], [board()]))

    assert told[0] == NEVER
    assert told[0].work_s == 0
    assert told[1].first_token_s == pytest.approx(3.0)
    assert told[1].work_s == pytest.approx(13.0)
