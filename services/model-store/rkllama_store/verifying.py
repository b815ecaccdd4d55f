"""Reads blobs from end to end, and says which of them are not what their digest says.

What is found damaged is remembered: until it comes in anew the blob counts as missing, so that its
models are refused with a reason and the next pull brings it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from rkllama_protocol.errors import InvalidModelError, ModelNotFoundError
from rkllama_protocol.names import Digest, ModelName
from rkllama_transfer.threads import Interrupt, in_thread

from rkllama_store.announcing import Changes
from rkllama_store.blobs import Blobs
from rkllama_store.library import Library
from rkllama_store.manifests import Stored
from rkllama_store.records import Emit, Record, Throttle


@dataclass
class _Blob:
    """One blob, and who needs it."""

    size: int
    label: str
    users: list[ModelName] = field(default_factory=list)

    @property
    def used_by(self) -> str:
        return ", ".join(name.display for name in self.users)


class Verifier:
    """Works through models, one blob after the other."""

    def __init__(self, library: Library, blobs: Blobs, *, changes: Changes) -> None:
        self._library = library
        self._blobs = blobs
        self._changes = changes

    async def verify(self, name: ModelName | None, emit: Emit) -> None:
        """Read every blob of `name`, or of every model.

        Raises:
            ModelNotFoundError: There is no such model.
            InvalidModelError: Something is missing or damaged; all of it is named.
        """
        faults: list[str] = []
        damaged: dict[str, ModelName] = {}
        try:
            with self._blobs.holding() as hold:
                models = await in_thread(lambda: self._models(name, faults))
                wanted = _blobs_of(models)
                for digest in wanted:
                    hold.add(digest)
                for digest, blob in wanted.items():
                    if reason := await self._check(digest, blob, emit):
                        fault = f"blob {digest} ({blob.label}) of {blob.used_by} {reason}"
                        emit(Record(status=fault, digest=str(digest)))
                        faults.append(fault)
                        damaged |= {user.key: user for user in blob.users}
        finally:
            await in_thread(self._library.release)
        for user in damaged.values():
            # Whoever remembers the model would go on using it.
            await self._changes.created(user)
        if faults:
            raise InvalidModelError("; ".join(faults) + ": pull or create again what is named here")

    def _models(self, name: ModelName | None, faults: list[str]) -> list[Stored]:
        if name is not None:
            return [self._library.stored(name)]
        found = []
        for each in self._library.names():
            try:
                found.append(self._library.stored(each))
            except InvalidModelError as error:
                faults.append(error.message)
            except ModelNotFoundError:
                # Deleted in the meantime.
                continue
        return found

    async def _check(self, digest: Digest, blob: _Blob, emit: Emit) -> str:
        """Why the blob is not what it should be; empty if it is."""
        loop = asyncio.get_running_loop()
        interrupt = Interrupt()
        throttle = Throttle()

        def say(done: int) -> None:
            emit(
                Record(
                    status=f"verifying {digest}",
                    digest=str(digest),
                    total=blob.size,
                    completed=done,
                )
            )

        def progress(done: int) -> None:
            interrupt.check()
            if done < blob.size and throttle.due():
                loop.call_soon_threadsafe(say, done)

        say(0)
        reason = await in_thread(
            lambda: self._blobs.verify(digest, blob.size, progress=progress), interrupt=interrupt
        )
        if not reason:
            say(blob.size)
        return reason


def _blobs_of(models: Iterable[Stored]) -> dict[Digest, _Blob]:
    found: dict[Digest, _Blob] = {}
    for stored in models:
        for layer in (stored.manifest.config, *stored.manifest.layers):
            blob = found.setdefault(Digest.parse(layer.digest), _Blob(layer.size, layer.label))
            if stored.name not in blob.users:
                blob.users.append(stored.name)
    return found
