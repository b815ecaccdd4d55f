"""Which answers of the broker are still waited for."""

from __future__ import annotations

import asyncio

from rkllama_protocol.liveness import Liveness


async def test_what_is_asked_on_a_new_connection_is_answered_though_nobody_said_that_it_is_there() -> (
    None
):
    """The one before the loss never is. An answer to what was given up would end all reading."""
    pong = asyncio.Event()

    async def ping() -> bool:
        await pong.wait()
        return True

    liveness = Liveness(ping, connected=lambda: True, back=lambda: None)
    before = liveness.ping()
    liveness.lost()
    between = liveness.answers
    after = liveness.ping()
    liveness.found()
    pong.set()
    await asyncio.wait({before, after})

    assert not between
    assert liveness.answers
    assert before.cancelled()
    assert after.result()
