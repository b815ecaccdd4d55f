"""A real gateway on a real broker, with a worker and a store that a test plays by hand.

    client --HTTP--> gateway <--bus--> ScriptedWorker      takes what it is told to, sends what it is told to
                             <--bus--> ScriptedStore       knows one model

Everything is in the test's own event loop, so that nothing has to be waited for by the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
from rkllama_gateway.app import build
from rkllama_gateway.auth import Guard
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.settings import Settings
from rkllama_gateway.wire import guarded, sweep
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk, encode_chunk
from rkllama_protocol.errors import ModelNotFoundError
from rkllama_protocol.messages import (
    Accepted,
    BodyRequest,
    Cancel,
    Claim,
    CreateRequest,
    Finished,
    FinishedReply,
    Found,
    Grant,
    Job,
    Keep,
    Lease,
    LeaseReply,
    Message,
    ModelDetails,
    Progress,
    PullRequest,
    Replay,
    ResidentModel,
    ResolvedModel,
    ResolveRequest,
    ShowReply,
    StoreBeat,
    StreamCancel,
    TagsReply,
    Ticket,
    Unload,
    VerifyRequest,
    WorkerBeat,
)
from rkllama_protocol.subjects import GatewayVerb, StoreVerb, Subjects, WorkerVerb
from rkllama_service import http
from rkllama_service.keys import Auth

M = TypeVar("M", bound=Message)

HANG_S = 40.0
BEAT_S = 1.0
LEASE_INTERVAL_S = 0.5
ASK_S = 5.0
EVERYBODY = Guard(Auth.OFF, Path("/nonexistent"))

MODEL = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest=f"sha256:{'a' * 64}",
    size=1,
    modified_at="2026-01-01T00:00:00Z",
    details=ModelDetails(format="gguf", context_length=4096),
    capabilities=("completion",),
)


def resident(**facts: Any) -> ResidentModel:
    """The model, loaded with 2048 tokens of context."""
    return ResidentModel(
        **{
            "digest": MODEL.digest,
            "name": MODEL.name,
            "full_name": MODEL.full_name,
            "details": MODEL.details,
            "size": 10,
            "size_vram": 10,
            "context_length": 2048,
            "state": "ready",
            "expires_in_s": 60.0,
            **facts,
        }
    )


@dataclass(eq=False, kw_only=True)
class Attempt:
    """A job that a worker was granted; its lease is renewed until it ends or `die` is called."""

    worker: ScriptedWorker
    ticket: Ticket
    job: Job
    last_seq: int = -1
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)
    renewing: asyncio.Task[None] | None = None

    async def send(self, *chunks: Chunk) -> None:
        """Publish chunks as they are, in this order."""
        ticket = self.ticket
        subject = self.worker.subjects.reply(
            ticket.gateway_id, self.worker.worker_id, ticket.job_id, ticket.attempt
        )
        for chunk in chunks:
            self.last_seq = max(self.last_seq, chunk.seq)
            await self.worker.bus.publish(subject, encode_chunk(chunk))

    async def say(self, *texts: str) -> None:
        """Answer with a chunk for each text and a terminal one, and report the end."""
        await self.send(*(text(at, said) for at, said in enumerate(texts)))
        await self.send(Chunk(seq=len(texts), finish="stop"))
        await self.finished()

    async def finished(self, reason: Literal["ended", "released"] = "ended") -> FinishedReply:
        """Report the end."""
        message = Finished(**self._attempt(), reason=reason)
        reply = await self._ask(GatewayVerb.FINISHED, message, FinishedReply)
        self.die()
        return reply

    async def lease(self) -> bool:
        """Renew the lease; whether the job is still wanted."""
        return (await self._ask(GatewayVerb.LEASE, Lease(**self._attempt()), LeaseReply)).wanted

    def die(self) -> None:
        """Never be heard of again."""
        if self.renewing is not None:
            self.renewing.cancel()

    async def renew(self) -> None:
        while True:
            if not await self.lease():
                break
            await asyncio.sleep(LEASE_INTERVAL_S)
        self.unwanted.set()

    def _attempt(self) -> dict[str, Any]:
        return {
            "job_id": self.ticket.job_id,
            "attempt": self.ticket.attempt,
            "worker_id": self.worker.worker_id,
            "last_seq": self.last_seq,
        }

    async def _ask(self, verb: GatewayVerb, message: Message, reply: type[M]) -> M:
        subject = self.worker.subjects.gateway(self.ticket.gateway_id, self.worker.worker_id, verb)
        return await self.worker.bus.ask(subject, message, reply, timeout_s=ASK_S)


class ScriptedWorker:
    """Speaks a worker's part of the protocol, line by line, as the test says."""

    def __init__(
        self,
        worker_id: str,
        *,
        bus: Bus,
        subjects: Subjects,
        tasks: asyncio.TaskGroup,
        beat: dict[str, Any],
    ) -> None:
        self.worker_id = worker_id
        self.bus = bus
        self.subjects = subjects
        self._tasks = tasks
        self.beat = WorkerBeat(
            **{"worker_id": worker_id, "ready": True, "runtimes": ("gguf",), **beat}
        )
        self.status = self.beat
        """What it says when it is asked how it is."""
        self.cancels: asyncio.Queue[Cancel] = asyncio.Queue()
        self.replays: asyncio.Queue[Replay] = asyncio.Queue()
        self.keeps: asyncio.Queue[Keep] = asyncio.Queue()
        self.unloads: asyncio.Queue[Unload] = asyncio.Queue()
        self.tickets: asyncio.Queue[Ticket] = asyncio.Queue()
        """Every attempt that was offered, once."""
        self.attempts: list[Attempt] = []
        """Everything it took."""
        self._heard: set[tuple[str, int]] = set()

    async def listen(self) -> None:
        me, subjects, bus = self.worker_id, self.subjects, self.bus
        accepted, found = Accepted(), Found(found=bool(self.beat.models))
        await bus.subscribe(subjects.offers, self._on_offer)
        await bus.answer(
            subjects.worker(me, WorkerVerb.STATUS), lambda *_: codec.encode(self.status)
        )
        for verb, kind, queue, reply in (
            (WorkerVerb.CANCEL, Cancel, self.cancels, accepted),
            (WorkerVerb.REPLAY, Replay, self.replays, accepted),
            (WorkerVerb.KEEP, Keep, self.keeps, found),
            (WorkerVerb.UNLOAD, Unload, self.unloads, found),
        ):
            await bus.answer(subjects.worker(me, verb), _noting(kind, queue, reply))

    async def publish_beat(self) -> None:
        await self.bus.say(self.subjects.beat("worker", self.worker_id), self.beat)

    async def claim(self, ticket: Ticket) -> Grant:
        """Ask for the job."""
        message = Claim(job_id=ticket.job_id, attempt=ticket.attempt, worker_id=self.worker_id)
        subject = self.subjects.gateway(ticket.gateway_id, self.worker_id, GatewayVerb.CLAIM)
        return await self.bus.ask(subject, message, Grant, timeout_s=ASK_S)

    async def body_piece(self, ticket: Ticket, offset: int) -> bytes:
        """The granted job's body from `offset` on, as far as one message goes."""
        message = BodyRequest(
            job_id=ticket.job_id, attempt=ticket.attempt, worker_id=self.worker_id, offset=offset
        )
        subject = self.subjects.gateway(ticket.gateway_id, self.worker_id, GatewayVerb.BODY)
        return await self.bus.request(subject, codec.encode(message), timeout_s=ASK_S)

    async def take(self) -> Attempt:
        """The next job that is offered; its lease has been renewed once, and is from now on."""
        ticket = await self.tickets.get()
        grant = await self.claim(ticket)
        assert grant.body is not None
        attempt = Attempt(worker=self, ticket=ticket, job=grant.body)
        assert await attempt.lease()
        attempt.renewing = self._tasks.create_task(attempt.renew())
        self.attempts.append(attempt)
        return attempt

    def _on_offer(self, _: str, data: bytes) -> None:
        ticket = codec.decode(Ticket, data)
        key = (ticket.job_id, ticket.attempt)
        if key not in self._heard:
            self._heard.add(key)
            self.tickets.put_nowait(ticket)


class ScriptedStore:
    """Knows one model, and streams what it is told to."""

    def __init__(self, *, bus: Bus, subjects: Subjects, model: ResolvedModel) -> None:
        self.bus = bus
        self.subjects = subjects
        self.model = model
        self.listed: tuple[ResolvedModel, ...] = (model,)
        """What it says that there is."""
        self.streams: asyncio.Queue[PullRequest | CreateRequest | VerifyRequest] = asyncio.Queue()
        """Pulls, creates and verifies that were asked for."""
        self.cancels: asyncio.Queue[StreamCancel] = asyncio.Queue()

    async def listen(self) -> None:
        store, accepted = self.subjects.store, Accepted()
        await self.bus.answer(store(StoreVerb.RESOLVE), self._on_resolve)
        shown = ShowReply(model=self.model)
        await self.bus.answer(
            store(StoreVerb.TAGS), lambda *_: codec.encode(TagsReply(models=self.listed))
        )
        await self.bus.answer(store(StoreVerb.SHOW), lambda *_: codec.encode(shown))
        for verb, kind, queue in (
            (StoreVerb.PULL, PullRequest, self.streams),
            (StoreVerb.CREATE, CreateRequest, self.streams),
            (StoreVerb.VERIFY, VerifyRequest, self.streams),
            (StoreVerb.CANCEL, StreamCancel, self.cancels),
        ):
            await self.bus.answer(store(verb), _noting(kind, queue, accepted))

    async def publish_beat(self) -> None:
        beat = StoreBeat(store_id="s", ready=True, http_url="http://127.0.0.1:1")
        await self.bus.say(self.subjects.beat("store", "s"), beat)

    async def play(self, *records: Progress) -> None:
        """Stream the records to whoever asked next."""
        request = await self.streams.get()
        for record in records:
            await self.bus.say(self.subjects.progress(request.stream_id), record)

    def _on_resolve(self, _: str, data: bytes) -> bytes:
        if codec.decode(ResolveRequest, data).model.lower() != self.model.full_name:
            raise ModelNotFoundError("no such model")
        return codec.encode(self.model)


@dataclass(kw_only=True)
class Stage:
    """Everybody there is."""

    gateway: Gateway
    client: httpx2.AsyncClient
    host: str
    port: int
    store: ScriptedStore
    workers: tuple[ScriptedWorker, ...]
    tasks: asyncio.TaskGroup

    @property
    def worker(self) -> ScriptedWorker:
        """The first of them."""
        return self.workers[0]

    def post(self, path: str, **fields: Any) -> asyncio.Task[httpx2.Response]:
        """Send a request for the model in the background."""
        return self.tasks.create_task(self.client.post(path, json={"model": "m", **fields}))

    def chat(self, said: str = "hi", **fields: Any) -> asyncio.Task[httpx2.Response]:
        """The same for a conversation."""
        return self.post("/api/chat", messages=[{"role": "user", "content": said}], **fields)


@asynccontextmanager
async def staged(
    nats_url: str,
    prefix: str,
    *,
    model: ResolvedModel = MODEL,
    workers: int = 1,
    beat: dict[str, Any] | None = None,
    guard: Guard = EVERYBODY,
    debug: bool = False,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """A gateway that is ready, its store and its workers; `beat` changes what workers say."""
    chosen = Settings(port=0, subject_prefix=prefix, expected_workers=workers, **settings)
    subjects = Subjects(prefix)
    sock = http.bind("127.0.0.1", 0)
    url = http.url_of(sock)
    async with (
        asyncio.timeout(HANG_S),
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="gateway", tasks=tasks) as bus,
        await Bus.connect(nats_url, name="script", tasks=tasks) as peer,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=None) as client,
    ):
        store = ScriptedStore(bus=peer, subjects=subjects, model=model)
        boards = tuple(
            ScriptedWorker(f"w{at}", bus=peer, subjects=subjects, tasks=tasks, beat=beat or {})
            for at in range(workers)
        )
        await store.listen()
        for board in boards:
            await board.listen()
        await peer.flush()
        gateway = Gateway(chosen, bus=bus, tasks=tasks)
        running = await gateway.start()
        await bus.flush()
        running.append(tasks.create_task(_beat(store, *boards)))
        stage = Stage(
            gateway=gateway,
            client=client,
            host="127.0.0.1",
            port=sock.getsockname()[1],
            store=store,
            workers=boards,
            tasks=tasks,
        )
        app = build(gateway, client, listen_host="127.0.0.1", guard=guard, debug=debug)
        protocol = guarded(chosen.wire_limits())
        async with http.serving(app, [sock], protocol=protocol, sweep=sweep):
            while (await client.get("/readyz")).status_code != httpx2.codes.OK:
                continue
            yield stage
        for attempt in (taken for board in boards for taken in board.attempts):
            attempt.die()
        for task in running:
            task.cancel()


async def _beat(*parties: ScriptedStore | ScriptedWorker) -> None:
    while True:
        for party in parties:
            await party.publish_beat()
        await asyncio.sleep(BEAT_S)


def _noting(kind: Any, queue: asyncio.Queue[Any], reply: Any) -> Any:
    def handler(_: str, data: bytes) -> bytes:
        queue.put_nowait(codec.decode(kind, data))
        return codec.encode(reply)

    return handler


def text(seq: int, content: str, **facts: Any) -> Chunk:
    """A chunk of visible text."""
    return Chunk(seq=seq, ids=(seq + 1,), content=content, **facts)
