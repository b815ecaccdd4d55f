"""What names mean while the store, or the broker, is away."""

from __future__ import annotations

import asyncio

import pytest
from rkllama_gateway.catalog import Catalog
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import UnreachableError
from rkllama_protocol.messages import ModelChanged
from rkllama_protocol.names import ModelName
from rkllama_protocol.subjects import ModelEvent, Subjects

from services.gateway.tests.harness import MODEL, ScriptedStore
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
