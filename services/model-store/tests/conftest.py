"""A real store on a real broker, in a folder of the test's own, and small files to put into it."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import gguf
import httpx2
import numpy as np
import pytest
from pydantic import SecretStr
from rkllama_board import Soc
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import (
    Accepted,
    CreateRequest,
    Message,
    ModelChanged,
    Progress,
    PullRequest,
    StoreBeat,
    VerifyRequest,
)
from rkllama_protocol.subjects import StoreVerb, Subjects
from rkllama_service import http
from rkllama_service.settings import Shared
from rkllama_store import folder
from rkllama_store.blobs import Blobs
from rkllama_store.catalog import ENTRIES, Entry
from rkllama_store.library import Library
from rkllama_store.manifests import Config, Layer, Manifest, Manifests, MediaType
from rkllama_store.settings import HubSettings, Settings
from rkllama_store.store import Store

M = TypeVar("M", bound=Message)

TIMEOUT_S = 20.0


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A store's folder, owned."""
    path = tmp_path / "models"
    with folder.owned(path):
        yield path


@pytest.fixture
def blobs(root: Path) -> Blobs:
    return Blobs(root)


@pytest.fixture
def library(root: Path, blobs: Blobs) -> Library:
    return Library(blobs, Manifests(root))


PutModel = Callable[..., Manifest]


@pytest.fixture
def manifest_of(blobs: Blobs) -> PutModel:
    """Makes a manifest whose weights are `data`, with its blobs on the disk."""

    def make(data: bytes, **texts: bytes) -> Manifest:
        def layer(kind: MediaType, content: bytes) -> Layer:
            with blobs.incoming() as incoming:
                incoming.write(content)
                digest, size = incoming.commit()
            return Layer(media_type=kind, digest=str(digest), size=size)

        config = Config(model_format="gguf", capabilities=("completion",))
        return Manifest(
            config=layer(MediaType.CONFIG, config.model_dump_json(exclude_none=True).encode()),
            layers=(
                layer(MediaType.WEIGHTS, data),
                *(layer(MediaType[kind.upper()], text) for kind, text in texts.items()),
            ),
        )

    return make


def byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in byte-level BPE (GPT-2's `bytes_to_unicode`)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(byte if byte in plain else next(extra)) for byte in range(256)]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with a vocabulary of 260 tokens, two merges, one tensor and a template."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(4)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = ["<|end|>", *byte_letters(), "he", "hel", "<think>"]
    kinds = [gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * 258, gguf.TokenType.USER_DEFINED]
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["h e", "he l"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}<think></think>{% endfor %}")

    writer.add_tensor("output.weight", np.zeros((4, 260), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny(tiny_gguf: Path) -> bytes:
    """The bytes of that file."""
    return tiny_gguf.read_bytes()


@pytest.fixture(scope="session")
def tiny_lora(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LoRA adapter for it."""
    path = tmp_path_factory.mktemp("gguf") / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_tensor("output.weight.lora_a", np.zeros((2, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@dataclass
class Client:
    """What a gateway does with a store, and what it hears."""

    bus: Bus
    subjects: Subjects
    root: Path
    http: httpx2.AsyncClient
    events: list[tuple[str, ModelChanged]] = field(default_factory=list)
    beats: list[StoreBeat] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, verb: StoreVerb, request: Message, reply: type[M]) -> M:
        return await self.bus.ask(self.subjects.store(verb), request, reply, timeout_s=TIMEOUT_S)

    async def pull(self, model: str, *, stream_id: str = "") -> list[Progress]:
        request = PullRequest(stream_id=stream_id or uuid.uuid4().hex, model=model)
        return await self._stream(StoreVerb.PULL, request)

    async def create(self, model: str, **what: object) -> list[Progress]:
        request = CreateRequest.model_validate(
            {"stream_id": uuid.uuid4().hex, "model": model, **what}
        )
        return await self._stream(StoreVerb.CREATE, request)

    async def verify(self, model: str = "") -> list[Progress]:
        request = VerifyRequest(stream_id=uuid.uuid4().hex, model=model)
        return await self._stream(StoreVerb.VERIFY, request)

    async def _stream(
        self, verb: StoreVerb, request: PullRequest | CreateRequest | VerifyRequest
    ) -> list[Progress]:
        queue: asyncio.Queue[Progress] = asyncio.Queue()

        def note(_: str, data: bytes) -> None:
            queue.put_nowait(codec.decode(Progress, data))

        async with self.bus.subscribed(self.subjects.progress(request.stream_id), note):
            await self.ask(verb, request, Accepted)
            records = [await asyncio.wait_for(queue.get(), TIMEOUT_S)]
            while not records[-1].done:
                records.append(await asyncio.wait_for(queue.get(), TIMEOUT_S))
        return records

    async def upload(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        answer = await self.http.post(f"/blobs/{digest}", content=data)
        assert answer.status_code in {200, 201}
        return digest

    def blob_files(self) -> set[str]:
        return {path.name for path in (self.root / "blobs").iterdir()}

    def incoming(self) -> set[str]:
        """What is being written."""
        return {path.name for path in (self.root / "incoming").iterdir()}

    def on_event(self, subject: str, data: bytes) -> None:
        self.events.append((subject.rsplit(".", 1)[1], codec.decode(ModelChanged, data)))

    def on_beat(self, _: str, data: bytes) -> None:
        self.beats.append(codec.decode(StoreBeat, data))
        if self.beats[-1].ready:
            self.ready.set()


@pytest.fixture
def hub_settings() -> HubSettings:
    """A hub that is not there."""
    return HubSettings(endpoint="http://127.0.0.1:9", token=SecretStr(""), hub_offline=False)


@pytest.fixture
def soc() -> Soc | None:
    """What models are for."""
    return None


@pytest.fixture
def entries() -> tuple[Entry, ...]:
    """The models with names of their own."""
    return ENTRIES


@pytest.fixture
async def client(
    root: Path,
    nats_url: str,
    prefix: str,
    hub_settings: HubSettings,
    soc: Soc | None,
    entries: tuple[Entry, ...],
) -> AsyncIterator[Client]:
    """A store that is ready, empty, and heard."""
    settings = Settings(subject_prefix=prefix, bundled=False)
    stop = asyncio.Event()
    with http.bind("127.0.0.1", 0) as sock:
        async with asyncio.TaskGroup() as tasks:
            store = Store(
                settings, root=root, sock=sock, hub=hub_settings, soc=soc, entries=entries
            )
            subjects = Subjects(prefix)
            bus = await Bus.connect(nats_url, name="test", tasks=tasks)
            async with bus, httpx2.AsyncClient(base_url=store.http_url, trust_env=False) as web:
                user = Client(bus=bus, subjects=subjects, root=root, http=web)
                await bus.subscribe(subjects.events, user.on_event)
                await bus.subscribe(subjects.beats("store"), user.on_beat)
                await bus.flush()
                running = tasks.create_task(store.run(Shared(nats_url=nats_url), stop))
                await asyncio.wait_for(user.ready.wait(), TIMEOUT_S)
                yield user
                stop.set()
                await running
