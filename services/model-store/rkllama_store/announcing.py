"""What the store says unasked: that a name changed, and how it is itself."""

from __future__ import annotations

import asyncio

from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import ModelChanged, StoreBeat
from rkllama_protocol.names import ModelName
from rkllama_protocol.subjects import ModelEvent, Subjects
from rkllama_transfer.threads import in_thread

from rkllama_store.metrics import Holdings

BEAT_S = 1.0


class Changes:
    """Tells everybody who remembers what a name means, and counts anew."""

    def __init__(self, bus: Bus, subjects: Subjects, holdings: Holdings) -> None:
        self._bus = bus
        self._subjects = subjects
        self._holdings = holdings

    async def created(self, name: ModelName) -> None:
        """The name means something new."""
        await self._say(ModelEvent.CREATED, name)

    async def deleted(self, name: ModelName) -> None:
        """The name means nothing any more."""
        await self._say(ModelEvent.DELETED, name)

    async def _say(self, event: ModelEvent, name: ModelName) -> None:
        changed = ModelChanged(name=name.display, full_name=name.full)
        await self._bus.say(self._subjects.event(event), changed)
        await in_thread(self._holdings.count)


class Beats:
    """The store's word about itself, once a second and at once when it changes."""

    def __init__(self, bus: Bus, subjects: Subjects, *, store_id: str, http_url: str) -> None:
        self._bus = bus
        self._subject = subjects.beat("store", store_id)
        self._store_id = store_id
        self._http_url = http_url
        self._ready = False

    async def set_ready(self, *, ready: bool) -> None:
        """Say so from now on, and at once."""
        self._ready = ready
        await self.say()

    async def say(self) -> None:
        """One beat."""
        beat = StoreBeat(store_id=self._store_id, ready=self._ready, http_url=self._http_url)
        await self._bus.say(self._subject, beat)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.say()
            await asyncio.sleep(BEAT_S)
