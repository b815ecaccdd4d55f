"""One running store: its parts, put together, from the first beat to the last."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from rkllama_board import Soc
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.subjects import Subjects
from rkllama_service import broker_access, http, process
from rkllama_service.metrics import add_broker
from rkllama_service.settings import Shared
from rkllama_transfer.threads import in_thread

from rkllama_store import app
from rkllama_store.announcing import Beats, Changes
from rkllama_store.blobs import Blobs
from rkllama_store.catalog import BUNDLED, ENTRIES, Entry
from rkllama_store.creator import Creator
from rkllama_store.hub import Hub
from rkllama_store.hub_models import HubModels
from rkllama_store.library import Library
from rkllama_store.manifests import Manifests
from rkllama_store.metrics import Holdings
from rkllama_store.puller import Puller
from rkllama_store.service import Service
from rkllama_store.settings import HubSettings, Settings
from rkllama_store.streams import Streams
from rkllama_store.transfer import Transfers
from rkllama_store.verifying import Verifier

log = logging.getLogger(__name__)

SHUTDOWN_S = 1.0
"""For answers that are open when the store is told to stop."""
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound


class Store:
    """A store over `root`, which the caller owns and nobody else uses.

    `hub` is where models are pulled from, `soc` the chip they are for, if anybody knows it; `entries`
    are the models with names of their own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        root: Path,
        sock: socket.socket,
        hub: HubSettings,
        soc: Soc | None = None,
        entries: Sequence[Entry] = ENTRIES,
    ) -> None:
        self._settings = settings
        self._hub = Hub(hub)
        self._soc = soc
        self._entries = entries
        self._sock = sock
        self._registry = CollectorRegistry()
        self._blobs = Blobs(root)
        self._manifests = Manifests(root)
        self._library = Library(self._blobs, self._manifests)
        self._holdings = Holdings(self._library, root, self._registry)
        self._not_ready = "the broker is not there yet"
        self._bus: Bus | None = None
        self._note_reconnect = add_broker(self._registry, connected=self._connected)

    @property
    def http_url(self) -> str:
        """Where others reach the blobs."""
        if self._settings.advertise_url:
            return self._settings.advertise_url.rstrip("/")
        if self._settings.http_host in WILDCARDS:
            return f"http://{socket.gethostname()}:{self._sock.getsockname()[1]}"
        return http.url_of(self._sock)

    def _connected(self) -> bool:
        return self._bus is not None and self._bus.connected

    def not_ready(self) -> str:
        """Why the store is not ready; empty when it is."""
        if self._bus is not None and not self._bus.connected:
            return "the broker is gone"
        return self._not_ready

    async def run(self, shared: Shared, stop: asyncio.Event) -> None:
        """Answer until `stop` is set."""
        web = app.build(
            self._blobs,
            self._registry,
            not_ready=self.not_ready,
            measure=lambda: in_thread(self._holdings.measure_disk),
        )
        async with (
            http.serving(web, [self._sock], shutdown_s=SHUTDOWN_S),
            asyncio.TaskGroup() as tasks,
        ):
            log.info("store listens", extra={"url": self.http_url})
            connecting = broker_access.connect(
                shared, role="store", process_id=self._settings.store_id, tasks=tasks
            )
            bus = await process.unless(stop, connecting)
            if bus is None:
                return
            self._bus = bus
            bus.on_reconnect(self._note_reconnect)
            transfers = Transfers(self._hub, self._blobs, tasks=tasks, registry=self._registry)
            async with bus, transfers:
                await self._answer(bus, tasks, stop, transfers)

    async def _answer(
        self, bus: Bus, tasks: asyncio.TaskGroup, stop: asyncio.Event, transfers: Transfers
    ) -> None:
        subjects = Subjects(self._settings.subject_prefix)
        changes = Changes(bus, subjects, self._holdings)
        hub_models = HubModels(self._hub, transfers, self._blobs, soc=self._soc)
        puller = Puller(
            self._library,
            self._blobs,
            hub_models,
            changes=changes,
            tasks=tasks,
            registry=self._registry,
            entries=self._entries,
        )
        streams = Streams(bus, subjects, tasks=tasks)
        service = Service(
            bus=bus,
            subjects=subjects,
            library=self._library,
            creator=Creator(self._library, self._blobs, puller, hub_models, changes=changes),
            puller=puller,
            verifier=Verifier(self._library, self._blobs, changes=changes),
            streams=streams,
            changes=changes,
        )
        store_id = self._settings.store_id
        beats = Beats(bus, subjects, store_id=store_id, http_url=self.http_url)
        beating = tasks.create_task(beats.run())
        try:
            await process.unless(stop, self._prepare(puller))
            if not stop.is_set():
                await service.start()
                self._not_ready = ""
                await beats.set_ready(ready=True)
                log.info("store ready", extra={"url": self.http_url})
            await stop.wait()
            self._not_ready = "stopping"
            await beats.set_ready(ready=False)
            await streams.close()
            await bus.flush()
        finally:
            beating.cancel()

    async def _prepare(self, puller: Puller) -> None:
        """Tidy up; and in a store that never had a model, install the one that came along."""
        self._not_ready = "starting"
        try:
            await in_thread(self._library.collect)
            begun = await in_thread(lambda: self._manifests.begun)
            if self._settings.bundled and not begun:
                await puller.pull(BUNDLED.names[0], lambda _: None)
        except RkllamaError as error:
            # The others can be used all the same, and a pull says it again.
            log.warning("store not prepared", extra={"reason": error.message})
        await in_thread(self._holdings.count)
