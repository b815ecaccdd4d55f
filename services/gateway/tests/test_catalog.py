"""What names mean while the store, or the broker, is away."""

from __future__ import annotations

import asyncio

import pytest
from rkllama_gateway.catalog import Catalog
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import encode
from rkllama_protocol.errors import UnreachableError
from rkllama_protocol.messages import ModelChanged
from rkllama_protocol.names import ModelName
from rkllama_protocol.subjects import ModelEvent, StoreVerb, Subjects

from services.gateway.tests.harness import HANG_S, MODEL, ScriptedStore
from tests.broker import Broker

NAME = ModelName.parse("m")


async def test_names_keep_their_meaning_until_the_store_is_back_too(
    broker: Broker, prefix: str
) -> None:
    """The gateway finds a broker again sooner than the store does; what was deleted is not among them."""
    subjects, found = Subjects(prefix), asyncio.Event()
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(broker.url, name="test", tasks=tasks) as bus,
    ):
        catalog = Catalog(bus=bus, subjects=subjects, is_resident=lambda _: True)
        await catalog.listen()
        bus.on_reconnect(found.set)
        async with await Bus.connect(broker.url, name="store", tasks=tasks) as peer:
            await ScriptedStore(bus=peer, subjects=subjects, model=MODEL).listen()
            await peer.flush()
            assert await catalog.resolve(NAME) == MODEL
        for _ in range(2):
            found.clear()
            broker.kill()
            broker.start()
            await found.wait()
            assert await catalog.resolve(NAME) == MODEL
        catalog.changed.clear()
        await bus.say(
            subjects.event(ModelEvent.DELETED), ModelChanged(name="m", full_name=MODEL.full_name)
        )
        await catalog.changed.wait()

        with pytest.raises(UnreachableError):
            await catalog.resolve(NAME)


async def test_what_is_deleted_while_a_store_that_fails_is_asked_means_nothing(
    nats_url: str, prefix: str
) -> None:
    subjects = Subjects(prefix)
    gone = ModelChanged(name="m", full_name=MODEL.full_name)
    async with (
        asyncio.timeout(HANG_S),
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
        await Bus.connect(nats_url, name="store", tasks=tasks) as peer,
    ):
        catalog = Catalog(bus=bus, subjects=subjects, is_resident=lambda _: False)
        await catalog.listen()
        answers = iter([MODEL, None, gone])

        async def resolve(_: bytes) -> bytes:
            match next(answers):
                case None:
                    pass
                case ModelChanged() as event:
                    await peer.say(subjects.event(ModelEvent.DELETED), event)
                    await catalog.changed.wait()
                case model:
                    return encode(model)
            raise UnreachableError("the disk does not answer")

        await peer.serve(subjects.store(StoreVerb.RESOLVE), resolve)
        await peer.flush()
        known = await catalog.resolve(NAME)
        unasked = await catalog.resolve(NAME)
        with pytest.raises(UnreachableError):
            await catalog.resolve(NAME)

    assert known == unasked == MODEL
