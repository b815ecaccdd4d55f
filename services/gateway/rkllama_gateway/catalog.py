"""What the store knows, asked over the bus; what a name means is remembered until it changes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import httpx2
from rkllama_protocol import codec
from rkllama_protocol.beats import Observer, hear
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import ModelNotFoundError, UnreachableError, from_wire
from rkllama_protocol.messages import (
    Accepted,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Message,
    ModelChanged,
    Progress,
    PullRequest,
    ResolvedModel,
    ResolveRequest,
    ShowReply,
    ShowRequest,
    StoreBeat,
    StreamCancel,
    TagsReply,
    TagsRequest,
    VerifyRequest,
)
from rkllama_protocol.names import ModelName
from rkllama_protocol.subjects import StoreVerb, Subjects

TIMEOUT_S = 10.0
SILENCE_S = 10.0
"""The store sends a record every second; one that is silent for so long has died."""
STORE = "the model store"
"""As people are told of it."""

M = TypeVar("M", bound=Message)


def broken_off(error: httpx2.TransportError) -> UnreachableError:
    """What people are told of a transfer from or to the store that failed with `error`."""
    # Some of them have no words.
    return UnreachableError(f"{STORE} is unreachable: {str(error) or type(error).__name__}")


class Catalog:
    """The store, as the gateway sees it."""

    def __init__(
        self,
        *,
        bus: Bus,
        subjects: Subjects,
        is_resident: Callable[[str], bool],
        unknown: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_resident` says whether some board has the model of a digest loaded.

        `unknown` is called for each name that means nothing.
        """
        self._is_resident = is_resident
        self._bus = bus
        self._unknown = unknown
        self.changed = asyncio.Event()
        """Names may mean something else, or nothing, since somebody cleared this."""
        self._subjects = subjects
        self._known: dict[str, ResolvedModel] = {}
        self._before: dict[str, ResolvedModel] = {}
        """What names meant before the broker was away: good until the store can be asked."""
        self._changes = 0
        self._stores = Observer(StoreBeat)

    async def listen(self) -> None:
        """Hear what changes, and how the store is."""
        await self._bus.subscribe(self._subjects.events, self._on_event)
        await self._bus.subscribe(self._subjects.beats("store"), self._on_beat)
        self._bus.on_reconnect(self._doubt)
        self._bus.on_reconnect(self._stores.forgive)

    @property
    def ready(self) -> bool:
        """Whether a store is there and says that it is ready."""
        return any(beat.ready for beat in self._stores.living())

    @property
    def stores(self) -> list[StoreBeat]:
        """The last word of each store that is there."""
        return self._stores.living()

    @property
    def http_url(self) -> str:
        """Where blobs are read and written.

        Raises:
            UnreachableError: No store is there.
        """
        for beat in self._stores.living():
            return beat.http_url
        raise UnreachableError(f"{STORE} is not there")

    def forget(self) -> None:
        """Ask anew from now on."""
        self._before.clear()
        self._known.clear()
        self._changes += 1
        self.changed.set()

    def _doubt(self) -> None:
        """Something may have changed, and nobody could say so; the store may take longer to be back."""
        before = self._before | self._known
        self.forget()
        self._before = before

    async def resolve(self, name: ModelName) -> ResolvedModel:
        """What `name` means. Before a model is loaded its files are looked at: the store is asked again.

        Raises:
            ModelNotFoundError: Nothing.
            InvalidModelError: A file of it is missing or damaged.
            UnreachableError: The store did not answer, and it is not known what the name meant last.
        """
        known = self._known.get(name.key)
        if known is not None and self._is_resident(known.digest):
            return known
        changes = self._changes
        try:
            model = await self._ask(
                StoreVerb.RESOLVE,
                ResolveRequest(model=name.full),
                ResolvedModel,
                repeat=self._last(name) is None,
            )
        except ModelNotFoundError:
            self._known.pop(name.key, None)
            self._before.pop(name.key, None)
            self._unknown()
            raise
        except UnreachableError:
            # As of now: it may have been deleted while the store was asked.
            last = self._last(name)
            if last is None:
                raise
            return last
        # What changed while the answer was on its way may have made it old.
        if changes == self._changes:
            self._known[name.key] = model
        return model

    def _last(self, name: ModelName) -> ResolvedModel | None:
        """What `name` meant when the store was asked last, unless that is known to have changed."""
        return self._known.get(name.key) or self._before.get(name.key)

    async def _ask(
        self, verb: StoreVerb, request: Message, reply: type[M], *, repeat: bool = False
    ) -> M:
        """Errors as `Bus.ask`, in words for who knows no subjects."""
        subject = self._subjects.store(verb)
        return await self._bus.ask(
            subject, request, reply, timeout_s=TIMEOUT_S, repeat=repeat, whom=STORE
        )

    async def tags(self) -> tuple[ResolvedModel, ...]:
        """Every model."""
        reply = await self._ask(StoreVerb.TAGS, TagsRequest(), TagsReply, repeat=True)
        return reply.models

    async def show(self, name: ModelName, *, verbose: bool) -> ShowReply:
        """Everything about one model; errors as `resolve`."""
        request = ShowRequest(model=name.full, verbose=verbose)
        return await self._ask(StoreVerb.SHOW, request, ShowReply, repeat=True)

    async def copy(self, request: CopyRequest) -> None:
        """Give a model a second name; errors as `resolve`."""
        await self._change(StoreVerb.COPY, request)

    async def delete(self, request: DeleteRequest) -> None:
        """Take a name away; errors as `resolve`."""
        await self._change(StoreVerb.DELETE, request)

    async def _change(self, verb: StoreVerb, request: CopyRequest | DeleteRequest) -> None:
        await self._ask(verb, request, Accepted)
        # The event says so too, a moment later: a client reads its own writes.
        self.forget()

    def pull(self, model: str) -> AsyncGenerator[Progress, None]:
        """Bring a model in; records until it is there.

        Raises:
            RkllamaError: It was refused, or failed.
        """
        stream_id = uuid.uuid4().hex
        return self._stream(StoreVerb.PULL, PullRequest(stream_id=stream_id, model=model))

    def create(self, request: CreateRequest) -> AsyncGenerator[Progress, None]:
        """Make a model; as `pull`. The request carries a stream id of its own."""
        return self._stream(StoreVerb.CREATE, request)

    def verify(self, model: str) -> AsyncGenerator[Progress, None]:
        """Read a model's blobs, or with an empty name everybody's; as `pull`."""
        stream_id = uuid.uuid4().hex
        return self._stream(StoreVerb.VERIFY, VerifyRequest(stream_id=stream_id, model=model))

    async def _stream(
        self, verb: StoreVerb, request: PullRequest | CreateRequest | VerifyRequest
    ) -> AsyncGenerator[Progress, None]:
        queue: asyncio.Queue[Progress] = asyncio.Queue()
        subject = self._subjects.progress(request.stream_id)
        async with self._bus.subscribed(
            subject, lambda _, data: queue.put_nowait(codec.decode(Progress, data))
        ):
            ended = False
            try:
                # A client that leaves before the answer leaves a stream that has begun.
                await self._ask(verb, request, Accepted)
                while not ended:
                    record = await self._next(queue)
                    ended = record.done
                    if record.error is not None:
                        ended = True
                        raise from_wire(record.error.code, record.error.message)
                    if record.status:
                        yield record
            finally:
                self.forget()
                if not ended:
                    cancel = StreamCancel(stream_id=request.stream_id)
                    await self._bus.say(self._subjects.store(StoreVerb.CANCEL), cancel)

    async def _next(self, queue: asyncio.Queue[Progress]) -> Progress:
        try:
            async with asyncio.timeout(SILENCE_S):
                return await queue.get()
        except TimeoutError as error:
            raise UnreachableError(f"{STORE} stopped answering") from error

    def _on_event(self, _: str, data: bytes) -> None:
        codec.decode(ModelChanged, data)
        self.forget()

    def _on_beat(self, subject: str, data: bytes) -> None:
        beat = hear(StoreBeat, subject, data)
        self._stores.note(beat.store_id, beat)
