"""Models in a hub's repositories: what to take for this board, and how it becomes a draft."""

from __future__ import annotations

from dataclasses import dataclass

from rkllama_board import Soc
from rkllama_protocol.errors import InvalidModelError, UpstreamError
from rkllama_protocol.names import Digest

from rkllama_store import choosing, facts, gguf_reading
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.catalog import Hosted
from rkllama_store.draft import Draft
from rkllama_store.hub import Hub, HubFile, Repo
from rkllama_store.manifests import REVISION, SOURCE, MediaType
from rkllama_store.records import Emit, Throttle, pulling
from rkllama_store.sources import OnHub
from rkllama_store.transfer import Transfers

BASES = 4
"""So many repositories are asked for a tokenizer, one being made from the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one model will be made of."""

    weights: HubFile
    beside: dict[str, HubFile]
    """The small files, by the names that engines read them under."""
    projector: HubFile | None = None
    repo: Repo

    @property
    def file_name(self) -> str:
        """The weights' own name."""
        return self.weights.path.rsplit("/", 1)[-1]


class HubModels:
    """Brings models in from one hub, for one kind of chip."""

    def __init__(
        self, hub: Hub, transfers: Transfers, blobs: Blobs, *, soc: Soc | None = None
    ) -> None:
        self._hub = hub
        self._transfers = transfers
        self._blobs = blobs
        self._soc = soc

    async def plan(self, source: OnHub) -> Plan:
        """Decide what to take, before any of it is fetched.

        Raises:
            UpstreamError: It is not there, or cannot be seen.
            InvalidJobError: It is for another chip.
            InvalidModelError: No tokenizer can be found for it.
        """
        repo = await self._hub.repo(source.repo)
        path = choosing.weights(repo.files, repo=repo.name, wanted=source.wanted, soc=self._soc)
        if path.lower().endswith(choosing.GGUF):
            # It has its tokenizer and its template in itself.
            return Plan(weights=repo.files[path], beside={}, repo=repo)
        encoder = choosing.vision_encoder(repo.files, beside=path, repo=repo.name)
        return Plan(
            weights=repo.files[path],
            beside=await self._small_files(repo, beside=path),
            projector=repo.files[encoder] if encoder else None,
            repo=repo,
        )

    async def fetch(self, plan: Plan, draft: Draft, hold: Hold, emit: Emit) -> None:
        """Fetch all of it, and put it into the draft; the smallest first, for it may fail.

        Raises:
            UpstreamError, StorageError: As `Transfers.blob`.
            InvalidModelError: The files do not make a model.
        """
        for title, file in plan.beside.items():
            await self._put(draft, MediaType.FILE, file, title, hold, emit)
        if plan.projector is not None:
            title = plan.projector.path.rsplit("/", 1)[-1]
            await self._put(draft, MediaType.PROJECTOR, plan.projector, title, hold, emit)
        await self._put(draft, MediaType.WEIGHTS, plan.weights, plan.file_name, hold, emit)
        if plan.file_name.lower().endswith(choosing.GGUF):
            await self._read_gguf(plan, draft, hold, emit)
        else:
            config = draft.titled(facts.CONFIG_FILE)
            data = await draft.read(config) if config else None
            await draft.describe(*facts.of_rkllm(plan.file_name, data))

    async def fetch_pinned(self, file: Hosted, draft: Draft, hold: Hold, emit: Emit) -> None:
        """Fetch a file of which the bytes are known, and put it into the draft as its weights.

        Raises:
            UpstreamError, StorageError: As `Transfers.blob`.
        """
        repo = await self._hub.repo(file.repo)
        found = repo.files.get(file.path)
        if found is None or (found.digest, found.size) != (file.digest, file.size):
            raise UpstreamError(f"{file.path} in {file.repo} is not what it was, and is not taken")
        await self._put(draft, MediaType.WEIGHTS, found, found.path, hold, emit)

    async def add_small_files(self, repo_name: str, draft: Draft, hold: Hold, emit: Emit) -> None:
        """Put in the tokenizer and what belongs to it, from the repository that `HUGGINGFACE_PATH` names.

        What the draft has under such a name already is left as it is.

        Raises:
            UpstreamError: It is not there, or cannot be fetched.
            InvalidModelError: There is no `tokenizer.json` in it.
            StorageError: The disk is full or refuses.
        """
        try:
            repo = await self._hub.repo(repo_name)
            found = choosing.small_files(repo.files, beside="")
            if facts.TOKENIZER_FILE not in found:
                raise InvalidModelError(f"there is no {facts.TOKENIZER_FILE} in {repo_name}")
            for title, path in found.items():
                if draft.titled(title) is None:
                    await self._put(draft, MediaType.FILE, repo.files[path], title, hold, emit)
        except UpstreamError as error:
            raise UpstreamError(
                f"the tokenizer cannot be fetched from {repo_name}: {error.message}"
            ) from error

    async def _read_gguf(self, plan: Plan, draft: Draft, hold: Hold, emit: Emit) -> None:
        layer = draft.of(MediaType.WEIGHTS)[0]
        report = await gguf_reading.report(self._blobs.path(Digest.parse(layer.digest)))
        if report.no_tokenizer:
            files = await self._small_files(plan.repo, beside=plan.weights.path)
            for title, file in files.items():
                await self._put(draft, MediaType.FILE, file, title, hold, emit)
        await draft.complete(report)

    async def _small_files(self, repo: Repo, *, beside: str) -> dict[str, HubFile]:
        """What lies beside the weights, and a tokenizer with what belongs to it.

        That is in the repository itself, else in the one that it was made from.
        """
        paths = choosing.small_files(repo.files, beside=beside)
        found = {name: repo.files[path] for name, path in paths.items()}
        asked = [repo.name]
        bases = list(repo.base_models)
        while facts.TOKENIZER_FILE not in found and bases and len(asked) < BASES:
            name = bases.pop(0)
            if name in asked:
                continue
            asked.append(name)
            try:
                base = await self._hub.repo(name)
            except UpstreamError as error:
                raise UpstreamError(
                    f"{repo.name} comes without {facts.TOKENIZER_FILE}, and its base model cannot be "
                    f"asked for it: {error.message}. {_OTHERWISE}"
                ) from error
            paths = choosing.small_files(base.files, beside="")
            # What comes with the weights was made for them, and wins.
            found = {key: base.files[path] for key, path in paths.items()} | found
            bases += base.base_models
        if facts.TOKENIZER_FILE not in found:
            raise InvalidModelError(
                f"there is no {facts.TOKENIZER_FILE} in {', nor in '.join(asked)}. {_OTHERWISE}"
            )
        return found

    async def _put(
        self, draft: Draft, kind: MediaType, file: HubFile, title: str, hold: Hold, emit: Emit
    ) -> None:
        digest = file.digest
        if digest is None:
            await draft.add(kind, await self._transfers.small(file), title=title)
            return
        weights = kind is MediaType.WEIGHTS
        origin = {SOURCE: self._hub.page(file.repo), REVISION: file.commit} if weights else {}
        hold.add(digest)
        throttle = Throttle()

        def say(completed: int) -> None:
            if completed < file.size and throttle.due():
                emit(pulling(digest, total=file.size, completed=completed))

        await self._transfers.blob(file, digest, say)
        draft.take(kind, digest, size=file.size, title=title, origin=origin)


_OTHERWISE = (
    "With a Modelfile whose HUGGINGFACE_PATH names the repository that the model was converted from, "
    "`rkllama create` takes it from there"
)
