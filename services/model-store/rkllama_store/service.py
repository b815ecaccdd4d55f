"""The store's verbs on the bus: a request is checked, and handed to whoever does the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import InvalidJobError, ModelNotFoundError
from rkllama_protocol.messages import (
    Accepted,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Message,
    PullRequest,
    ResolvedModel,
    ResolveRequest,
    ShowReply,
    ShowRequest,
    StreamCancel,
    TagsReply,
    TagsRequest,
    VerifyRequest,
)
from rkllama_protocol.names import InvalidNameError, ModelName
from rkllama_protocol.subjects import StoreVerb, Subjects
from rkllama_transfer.threads import in_thread

from rkllama_store import sources
from rkllama_store.announcing import Changes
from rkllama_store.creator import Creator
from rkllama_store.library import Library
from rkllama_store.puller import Puller
from rkllama_store.recipe import recipe
from rkllama_store.streams import Streams
from rkllama_store.verifying import Verifier

M = TypeVar("M", bound=Message)


class Service:
    """One store, answering."""

    def __init__(
        self,
        *,
        bus: Bus,
        subjects: Subjects,
        library: Library,
        creator: Creator,
        puller: Puller,
        verifier: Verifier,
        streams: Streams,
        changes: Changes,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._library = library
        self._creator = creator
        self._puller = puller
        self._verifier = verifier
        self._streams = streams
        self._changes = changes

    async def start(self) -> None:
        """Answer from now on."""
        await self._serve(StoreVerb.RESOLVE, ResolveRequest, self.resolve)
        await self._serve(StoreVerb.TAGS, TagsRequest, self.tags)
        await self._serve(StoreVerb.SHOW, ShowRequest, self.show)
        await self._serve(StoreVerb.COPY, CopyRequest, self.copy)
        await self._serve(StoreVerb.DELETE, DeleteRequest, self.delete)
        await self._serve(StoreVerb.CREATE, CreateRequest, self.create)
        await self._serve(StoreVerb.PULL, PullRequest, self.pull)
        await self._serve(StoreVerb.VERIFY, VerifyRequest, self.verify)
        await self._serve(StoreVerb.CANCEL, StreamCancel, self.cancel)
        await self._bus.flush()

    async def _serve(
        self, verb: StoreVerb, kind: type[M], handler: Callable[[M], Awaitable[Message]]
    ) -> None:
        async def answer(data: bytes) -> bytes:
            return codec.encode(await handler(codec.decode(kind, data)))

        await self._bus.serve(self._subjects.store(verb), answer)

    async def resolve(self, request: ResolveRequest) -> ResolvedModel:
        """What a name means."""
        name = _known_as(request.model, "invalid model name")
        return await in_thread(lambda: self._library.resolve(name))

    async def tags(self, _: TagsRequest) -> TagsReply:
        """Every model."""
        return TagsReply(models=await in_thread(self._library.tags))

    async def show(self, request: ShowRequest) -> ShowReply:
        """Everything about one model. Arrays too long for a message are None, `verbose` or not."""
        name = _known_as(request.model, "invalid model name")
        return await in_thread(lambda: self._library.show(name))

    async def copy(self, request: CopyRequest) -> Accepted:
        """A second name for a model."""
        source = _known_as(request.source, f'source "{request.source}" is invalid')
        target = _known_as(request.destination, f'destination "{request.destination}" is invalid')
        try:
            kept = await in_thread(lambda: self._library.copy(source, target))
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f'model "{request.source}" not found') from error
        if kept is not None:
            await self._changes.created(kept)
        return Accepted()

    async def delete(self, request: DeleteRequest) -> Accepted:
        """A name less."""
        name = _known_as(request.model, f'name "{request.model}" is invalid')
        try:
            kept = await in_thread(lambda: self._library.delete(name))
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"model '{request.model}' not found") from error
        await self._changes.deleted(kept)
        return Accepted()

    async def create(self, request: CreateRequest) -> Accepted:
        """A model from another one or from files; what is wrong with the request is said at once."""
        plan = recipe(await self._creator.typed(request))
        self._streams.start(request.stream_id, lambda emit: self._creator.create(plan, emit))
        return Accepted()

    async def pull(self, request: PullRequest) -> Accepted:
        """A model from elsewhere."""
        source = sources.parse(request.model)
        self._streams.start(request.stream_id, lambda emit: self._puller.pull(source, emit))
        return Accepted()

    async def verify(self, request: VerifyRequest) -> Accepted:
        """Whether a model's blobs, or everybody's, are what their digests say."""
        name = _known_as(request.model, "invalid model name") if request.model else None
        self._streams.start(request.stream_id, lambda emit: self._verifier.verify(name, emit))
        return Accepted()

    async def cancel(self, request: StreamCancel) -> Accepted:
        """Nobody waits for a pull, create or verify any more."""
        self._streams.cancel(request.stream_id)
        return Accepted()


def _known_as(text: str, refusal: str) -> ModelName:
    try:
        return ModelName.parse(text)
    except InvalidNameError as error:
        raise InvalidJobError(refusal) from error
