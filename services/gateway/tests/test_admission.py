"""What a gateway makes of the boards' words, by their age."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
from rkllama_gateway.admission import Admission, Terms
from rkllama_gateway.job import HeldJob
from rkllama_gateway.offers import Offers
from rkllama_policy.admission import Limits
from rkllama_protocol.beats import Observer
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Job, RunningJob, Speed, WorkerBeat
from rkllama_protocol.subjects import JobClass, Subjects

from libs.rkllama_policy.tests.building import board
from services.gateway.tests.harness import MODEL, resident


@pytest.mark.parametrize(("age_s", "wait_s"), [(0.0, 100.0), (2.0, 98.0), (2.9, 97.5)])
async def test_a_boards_word_is_counted_down_by_its_age(
    nats_url: str, prefix: str, age_s: float, wait_s: float
) -> None:
    """Also where others hear how long the queue is. At the end there are 97.5 s left at least."""
    now = 0.0
    boards = Observer(WorkerBeat, clock=lambda: now)
    said: dict[str, Any] = {
        "runtimes": (MODEL.details.format,),
        "models": (resident(),),
        "speeds": (Speed(model=MODEL.digest, prefill_s_per_token=0.0),),
        "running": RunningJob(job_id="x", model=MODEL.digest, left_s=100.0, overdue_s=97.5),
    }
    boards.note("w", board("w", **said))
    facts: dict[str, Any] = {"gateway_id": "g", "subjects": Subjects(prefix), "boards": boards}
    held = HeldJob(
        job=Job(job_id="j", model=MODEL, kind="chat", now="2026-01-01T00:00:00Z"),
        job_class=JobClass.INTERACTIVE,
        order=1,
        accepted_at=monotonic(),
    )
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
    ):
        offers = Offers(bus=bus, running_per_key=0, **facts)
        limits = Limits(waiting=8)
        admission = Admission(bus=bus, offers=offers, limits=limits, max_wait_s=0.0, **facts)
        now = age_s

        place = admission.admit(held, Terms(), [])
        (row,) = admission.queues([held])

    assert place.wait_s == pytest.approx(wait_s)
    assert row.wait_s == pytest.approx(wait_s)
