"""A board that lies: the broker holds it to its own subjects, the gateway holds messages to those."""

from __future__ import annotations

import logging

import pytest
from rkllama_protocol.codec import Chunk, encode_chunk
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.messages import (
    Accepted,
    BodyRequest,
    Claim,
    Finished,
    FinishedReply,
    Grant,
    Lease,
    LeaseReply,
    Message,
)
from rkllama_protocol.subjects import GatewayVerb

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import ASK_S, Stage, text


async def ask_as(
    on: Stage, liar: str, verb: GatewayVerb, message: Message, reply: type[Message]
) -> Message:
    """Ask the gateway on the subject of one board with a message that another could have sent."""
    subject = on.worker.subjects.gateway(on.gateway.gateway_id, liar, verb)
    return await on.worker.bus.ask(subject, message, reply, timeout_s=ASK_S)


async def test_nobody_claims_renews_or_ends_in_anothers_name(stage: Staged) -> None:
    async with stage(workers=2) as on:
        asked = on.chat()
        attempt = await on.worker.take()
        mine = {"job_id": attempt.ticket.job_id, "attempt": 1, "worker_id": "w0"}
        lies: list[tuple[GatewayVerb, Message, type[Message]]] = [
            (GatewayVerb.CLAIM, Claim(**mine), Grant),
            (GatewayVerb.BODY, BodyRequest(**mine, offset=0), Accepted),
            (GatewayVerb.LEASE, Lease(**mine, last_seq=0), LeaseReply),
            (GatewayVerb.FINISHED, Finished(**mine, last_seq=-1, reason="released"), FinishedReply),
        ]
        for verb, message, reply in lies:
            with pytest.raises(InvalidJobError, match="the worker w1 spoke as w0"):
                await ask_as(on, "w1", verb, message, reply)
        await attempt.say("hello")
        answer = await asked

    assert '"content":"hello"' in answer.text
    assert '"done_reason":"stop"' in answer.text


async def test_a_chunk_of_another_board_is_in_nobodys_answer(stage: Staged) -> None:
    async with stage(workers=2) as on:
        asked = on.chat()
        attempt = await on.worker.take()
        ticket = attempt.ticket
        foreign = on.worker.subjects.reply(ticket.gateway_id, "w1", ticket.job_id, ticket.attempt)
        for chunk in (text(0, "planted"), Chunk(seq=1, finish="stop")):
            await on.worker.bus.publish(foreign, encode_chunk(chunk))
        await attempt.say("hello")
        answer = await asked

    assert "planted" not in answer.text
    assert '"content":"hello"' in answer.text


async def test_nobody_beats_in_anothers_name(
    stage: Staged, caplog: pytest.LogCaptureFixture
) -> None:
    """Else one board could say of the others that they drain, and have every job."""
    async with stage(workers=2) as on:
        lie = on.workers[0].beat.model_copy(update={"ready": False, "draining": True})
        with caplog.at_level(logging.WARNING):
            await on.worker.bus.say(on.worker.subjects.beat("worker", "w1"), lie)
            asked = on.chat()
            await (await on.worker.take()).say("hello")
            await asked
        ready = on.gateway.boards.ready

    assert ready == 2
    assert "message refused" in caplog.text
