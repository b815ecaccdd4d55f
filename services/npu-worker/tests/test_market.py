"""What a board chooses among the offers it has heard."""

from __future__ import annotations

import asyncio

import pytest
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import RunningJob, Speed
from rkllama_protocol.names import Digest
from rkllama_protocol.subjects import Subjects
from rkllama_worker.market import Market

from libs.rkllama_policy.tests.building import A, board, resident, ticket


@pytest.mark.parametrize(("age_s", "claims"), [(0.0, True), (200.0, True), (400.0, False)])
async def test_a_busy_board_is_the_nearer_to_its_end_the_older_its_word_is(
    nats_url: str, prefix: str, age_s: float, claims: bool
) -> None:
    """To load the model takes 200 s here; the board that has it said that it is busy for 500 s."""
    speeds = (Speed(model=A, load_s=200.0, prefill_s_per_token=0.01),)
    running = RunningJob(job_id="x", model=A, left_s=500.0)
    busy = board("w2", models=(resident(),), running=running, speeds=speeds)
    subjects, news = Subjects(prefix), asyncio.Event()
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
    ):
        market = Market(worker_id="w1", bus=bus, subjects=subjects, news=news)
        await market.listen()
        offer = ticket()
        await bus.say(subjects.offer(offer.job_class, Digest.parse(offer.model)), offer)
        async with asyncio.timeout(10):
            await news.wait()

        choice = market.choose(board("w1", speeds=speeds), [(busy, age_s)])

    assert (choice.ticket is not None) == claims
