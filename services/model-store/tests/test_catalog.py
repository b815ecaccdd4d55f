"""Models with names of their own whose files are on the hub: taken with the bytes that are known."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import gguf
import numpy as np
import pytest
import stamina
from pydantic import SecretStr
from rkllama_protocol.messages import ResolvedModel, ResolveRequest
from rkllama_protocol.names import Digest, ModelName
from rkllama_protocol.subjects import StoreVerb
from rkllama_store.catalog import ENTRIES, Entry, Hosted, find
from rkllama_store.settings import HubSettings
from rkllama_store.sources import is_repo

from .hub_server import HubServer

NAMES = (ModelName(model="mini"), ModelName(model="mini", tag="22m"))
PATH = "mini.F16.gguf"


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model that pools, with a vocabulary that no tokenizer can be made of here."""
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(512)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["[PAD]", "[CLS]", "hello"])
    writer.add_tensor("token_embd.weight", np.zeros((3, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def entries(bert: bytes) -> tuple[Entry, ...]:
    weights = Hosted(
        repo="some/mini",
        path=PATH,
        digest=Digest(hashlib.sha256(bert).hexdigest()),
        size=len(bert),
        tokenizer_repo="its/tokenizer",
    )
    return (*ENTRIES, Entry(names=NAMES, weights=weights, license="MIT"))


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        yield server


@pytest.fixture
def hub_settings(hub: HubServer) -> HubSettings:
    return HubSettings(endpoint=hub.url, token=SecretStr(""), hub_offline=False)


async def resolve(client: Any, model: str) -> ResolvedModel:
    return await client.ask(StoreVerb.RESOLVE, ResolveRequest(model=model), ResolvedModel)


async def test_it_comes_with_its_tokenizer(client: Any, hub: HubServer, bert: bytes) -> None:
    hub.repo("some/mini").add(PATH, bert, lfs=True)
    tokenizer = hub.repo("its/tokenizer")
    tokenizer.add("tokenizer.json", b'{"model": {}}')
    tokenizer.add("1_Pooling/config.json", b'{"pooling_mode_mean_tokens": true}')
    records = await client.pull("mini")
    hub.seen.clear()
    again = await client.pull("Mini:22M")
    model = await resolve(client, "mini")

    assert (records[-1].status, again[-1].status) == ("success", "success")
    assert hub.seen == []
    assert model.digest == (await resolve(client, "mini:22m")).digest
    assert (model.capabilities, model.license) == (("embedding",), ("MIT",))
    assert {layer.name for layer in model.layers if layer.name} >= {
        PATH,
        "tokenizer.json",
        "1_Pooling/config.json",
    }


@pytest.mark.parametrize("change", [b"other bytes", None])
async def test_other_bytes_are_refused_before_they_come(
    client: Any, hub: HubServer, bert: bytes, change: bytes | None
) -> None:
    repo = hub.repo("some/mini")
    repo.add("README.md" if change is None else PATH, change or bert, lfs=True)
    records = await client.pull("mini")

    assert f"{PATH} in some/mini is not what it was" in records[-1].error.message
    assert (hub.sent_bytes, client.blob_files()) == (0, set())


def test_every_entry_can_be_asked_for() -> None:
    """And no name is two entries' own."""
    for entry in ENTRIES:
        assert all(find(name) is entry for name in entry.names)
        if isinstance(entry.weights, Hosted):
            assert is_repo(entry.weights.repo)
            assert is_repo(entry.weights.tokenizer_repo)
