"""A create that needs a hub for the tokenizer, and what is remembered of where a model came from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import stamina
from pydantic import SecretStr
from rkllama_board import Soc
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.messages import (
    Accepted,
    CopyRequest,
    DeleteRequest,
    ResolvedModel,
    ResolveRequest,
    ShowReply,
    ShowRequest,
)
from rkllama_protocol.subjects import StoreVerb
from rkllama_store.settings import HubSettings

from .hub_server import HubServer, Repo, of_seed

FILE = "Qwen2.5-3B-rk3588-w8a8.rkllm"
CONFIG = b'{"model_type": "qwen2", "max_position_embeddings": 4096}'
TEMPLATED = b'{"chat_template": "{{ messages }}{{ tools }}"}'
WEIGHTS = of_seed(5, 2**20)


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Retries do not wait."""
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        yield server


@pytest.fixture
def offline() -> bool:
    return False


@pytest.fixture
def hub_settings(hub: HubServer, offline: bool) -> HubSettings:
    return HubSettings(endpoint=hub.url, token=SecretStr(""), hub_offline=offline)


@pytest.fixture
def soc() -> Soc | None:
    return Soc.RK3588


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    """The model that the weights were converted from."""
    repo = hub.repo("Qwen/Qwen2.5-3B")
    repo.add("tokenizer.json", b'{"model": {}}', lfs=True)
    repo.add("tokenizer_config.json", TEMPLATED)
    repo.add("config.json", CONFIG)
    repo.add("model.safetensors", of_seed(9, 100), lfs=True)
    return repo


async def resolve(client: Any, model: str) -> ResolvedModel:
    return await client.ask(StoreVerb.RESOLVE, ResolveRequest(model=model), ResolvedModel)


async def origin(client: Any, model: str) -> tuple[Any, Any]:
    shown = await client.ask(StoreVerb.SHOW, ShowRequest(model=model), ShowReply)
    return shown.model_info.get("rkllama.source"), shown.model_info.get("rkllama.revision")


async def test_the_tokenizer_comes_at_create(client: Any, hub: HubServer, repo: Repo) -> None:
    weights = await client.upload(b"rkllm weights")
    records = await client.create("q", files={FILE: weights}, tokenizer_repo=repo.name)
    model = await resolve(client, "q")
    files = {layer.name for layer in model.layers if layer.name}

    assert records[-1].status == "success"
    assert files == {FILE, "tokenizer.json", "tokenizer_config.json", "config.json"}
    assert (model.details.family, model.details.context_length) == ("qwen2", 4096)
    assert (model.details.parameter_size, model.details.quantization_level) == ("3B", "W8A8")
    assert model.capabilities == ("completion", "tools")
    assert not any("safetensors" in seen.path for seen in hub.seen)


async def test_a_tokenizer_among_the_files_is_taken_and_nobody_asked(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    files = {FILE: await client.upload(b"rkllm"), "tokenizer.json": await client.upload(b"{}")}
    records = await client.create("q", files=files, tokenizer_repo=repo.name)

    assert records[-1].status == "success"
    assert hub.seen == []


async def test_a_gguf_file_has_its_own(
    client: Any, hub: HubServer, repo: Repo, tiny: bytes
) -> None:
    files = {"t.gguf": await client.upload(tiny)}
    records = await client.create("t", files=files, tokenizer_repo=repo.name)

    assert records[-1].status == "success"
    assert hub.seen == []


@pytest.mark.parametrize(
    ("offline", "asked", "text"),
    [
        (True, "Qwen/Qwen2.5-3B", "from Qwen/Qwen2.5-3B: HF_HUB_OFFLINE is set"),
        (False, "no/body", "there is no no/body on"),
        (False, "some/thing", "there is no tokenizer.json in some/thing"),
    ],
)
async def test_a_tokenizer_that_does_not_come_ends_the_create(
    client: Any, hub: HubServer, repo: Repo, offline: bool, asked: str, text: str
) -> None:
    hub.repo("some/thing").add("README.md", b"words")
    weights = await client.upload(b"rkllm weights")
    records = await client.create("q", files={FILE: weights}, tokenizer_repo=asked)

    assert text in records[-1].error.message
    assert client.blob_files() == {weights.replace(":", "-")}


@pytest.fixture
def published(hub: HubServer, repo: Repo) -> Repo:
    """A converted model, with its tokenizer."""
    published = hub.repo("u/r")
    published.add(FILE, WEIGHTS, lfs=True)
    published.add("tokenizer.json", b"{}")
    return published


async def test_a_pulled_model_says_where_it_is_from(
    client: Any, hub: HubServer, published: Repo
) -> None:
    await client.pull("hf.co/u/r")
    await client.ask(StoreVerb.COPY, CopyRequest(source="hf.co/u/r", destination="b"), Accepted)
    await client.create("c", base="hf.co/u/r", system="Be brief.")
    expected = (f"{hub.url}/u/r", published.commit)

    assert [await origin(client, name) for name in ("hf.co/u/r", "b", "c")] == [expected] * 3


async def test_an_uploaded_model_is_from_nowhere(client: Any, tiny: bytes) -> None:
    await client.create("t", files={"t.gguf": await client.upload(tiny)})

    assert await origin(client, "t") == (None, None)


async def test_the_same_files_at_another_commit_are_the_same_model(
    client: Any, published: Repo
) -> None:
    """A readme that changes on the hub is no reason to load a model anew."""
    await client.pull("hf.co/u/r")
    before = await resolve(client, "hf.co/u/r")
    await client.ask(StoreVerb.DELETE, DeleteRequest(model="qwen2.5:3b"), Accepted)
    published.commit = "d" * 40
    await client.pull("hf.co/u/r")

    assert await resolve(client, "hf.co/u/r") == before
    assert (await resolve(client, "qwen2.5:3b")).digest == before.digest
    assert (await origin(client, "hf.co/u/r"))[1] == "c" * 40


async def test_a_change_to_a_blob_that_came_anew_is_noticed(client: Any, published: Repo) -> None:
    """The manifest is the one that is there; its blob is another file than the one it knew."""
    await client.pull("hf.co/u/r")
    blob = client.root / "blobs" / f"sha256-{WEIGHTS.sha256}"
    kept = blob.rename(client.root / "kept")
    await client.pull("hf.co/u/r")
    assert blob.stat().st_ino != kept.stat().st_ino
    with blob.open("r+b") as file:
        file.write(b"changed")

    with pytest.raises(InvalidModelError, match="was changed after it was stored"):
        await resolve(client, "hf.co/u/r")
