"""`verify`, over a real broker."""

from __future__ import annotations

from typing import Any

import pytest
from rkllama_protocol.errors import InvalidJobError, InvalidModelError
from rkllama_protocol.messages import ResolvedModel, ResolveRequest
from rkllama_protocol.names import Digest
from rkllama_protocol.subjects import StoreVerb


async def test_every_blob_is_read_once(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("a", files={"t.gguf": digest})
    await client.create("b", base="a", system="s")
    records = await client.verify()
    shown = [record for record in records if record.digest]

    assert records[-1].status == "success"
    assert {record.digest.replace(":", "-") for record in shown} == client.blob_files()
    assert {record.status for record in shown} == {f"verifying {r.digest}" for r in shown}
    mine = [(record.total, record.completed) for record in shown if record.digest == digest]
    assert mine == [(len(tiny), 0), (len(tiny), len(tiny))]


async def test_what_is_wrong_is_named_with_its_models(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("a", files={"t.gguf": digest})
    await client.create("b", base="a", system="s")
    system = next(layer for layer in await layers(client, "b") if "system" in layer.media_type)
    blob = client.root / "blobs" / Digest.parse(digest).file_name
    blob.write_bytes(tiny[:-1] + b"x")
    (client.root / "blobs" / Digest.parse(system.digest).file_name).unlink()
    records = await client.verify()
    fault = records[-1].error
    events = client.events[2:]

    assert fault.code == InvalidModelError.code
    assert f"blob {digest} (t.gguf) of a:latest, b:latest is damaged" in fault.message
    assert f"blob {system.digest} (system) of b:latest is missing" in fault.message
    assert any(f"blob {digest}" in record.status for record in records)
    assert {change.name for _, change in events} == {"a:latest", "b:latest"}
    with pytest.raises(InvalidModelError, match="pull or create the model again"):
        await client.ask(StoreVerb.RESOLVE, ResolveRequest(model="a"), ResolvedModel)


async def test_a_damaged_upload_can_be_sent_again(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("a", files={"t.gguf": digest})
    blob = client.root / "blobs" / Digest.parse(digest).file_name
    blob.write_bytes(tiny[:-1] + b"x")
    await client.verify("a")
    gone = await client.http.head(f"/blobs/{digest}")
    await client.upload(tiny)

    assert gone.status_code == 404
    assert (await client.verify("a"))[-1].status == "success"


async def test_one_model_is_verified_alone(client: Any, tiny: bytes) -> None:
    await client.create("a", files={"t.gguf": await client.upload(tiny)})
    (client.root / "manifests" / "registry.ollama.ai" / "library" / "a" / "bad").write_text("{")

    assert (await client.verify("A"))[-1].status == "success"
    assert "a:bad" in (await client.verify())[-1].error.message


async def test_a_name_that_means_nothing(client: Any) -> None:
    assert (await client.verify("nope"))[-1].error.code == "model_not_found"
    with pytest.raises(InvalidJobError, match="invalid model name"):
        await client.verify("a b")


async def layers(client: Any, model: str) -> Any:
    request = ResolveRequest(model=model)
    return (await client.ask(StoreVerb.RESOLVE, request, ResolvedModel)).layers
