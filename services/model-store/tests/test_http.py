"""Blobs over HTTP (contract 2.17)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
OTHER = "sha256:" + "0" * 64


async def test_an_upload_is_stored_and_found(client: Any) -> None:
    before = await client.http.head(f"/blobs/{HELLO}")
    stored = await client.http.post(f"/blobs/{HELLO}", content=b"hello")
    after = await client.http.head(f"/blobs/{HELLO}")

    assert (before.status_code, stored.status_code, after.status_code) == (404, 201, 200)
    assert after.headers["content-length"] == "5"


async def test_an_upload_in_pieces_without_a_length(client: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for letter in b"hello":
            yield bytes([letter])

    answer = await client.http.post(f"/blobs/{HELLO}", content=pieces())

    assert answer.status_code == 201


async def test_what_is_there_already_is_not_read(client: Any) -> None:
    await client.upload(b"hello")
    again = await client.http.post(f"/blobs/{HELLO}", content=b"something else")

    assert again.status_code == 200


async def test_other_bytes_than_promised_are_refused(client: Any) -> None:
    answer = await client.http.post(f"/blobs/{OTHER}", content=b"hello")

    assert answer.status_code == 400
    assert {"error": f'digest mismatch, expected "{OTHER}", got "{HELLO}"'} == answer.json()
    assert set() == client.blob_files()


@pytest.mark.parametrize("digest", ["sha256:12", "md5:abc", "..", "sha256:" + "A" * 64, "%2e%2e"])
async def test_what_is_no_digest_is_refused(client: Any, digest: str) -> None:
    url = str(client.http.base_url.join("/blobs/")) + digest
    answers = [
        await client.http.get(url),
        await client.http.post(url, content=b"x"),
    ]

    for answer in answers:
        # A client, or the router, may have taken the dots as a path.
        assert answer.status_code in {400, 404}
    assert set() == client.blob_files()


async def test_a_refusal_says_so_in_json(client: Any) -> None:
    answer = await client.http.get("/blobs/sha256:12")

    assert (answer.status_code, answer.json()) == (400, {"error": "invalid digest format"})


async def test_a_part_of_a_blob(client: Any) -> None:
    """Workers resume where they were cut off."""
    await client.upload(b"hello")
    part = await client.http.get(f"/blobs/{HELLO}", headers={"Range": "bytes=3-"})

    assert (part.status_code, part.content) == (206, b"lo")


async def test_a_client_that_goes_away_leaves_nothing(client: Any) -> None:
    address = urlsplit(str(client.http.base_url))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /blobs/{HELLO} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
    writer.write(head.encode() + bytes(2_000_000))
    await writer.drain()
    # The upload has begun when its file is there, and is over when it is gone.
    while not client.incoming():
        await client.http.get("/livez")
    writer.close()
    while client.incoming():
        await client.http.get("/livez")

    assert set() == client.blob_files()
    assert await reader.read() == b""


async def test_metadata_is_whole(client: Any, tiny: bytes) -> None:
    """What `show` is told over the bus has no vocabulary in it, which is too large for a message."""
    digest = await client.upload(tiny)
    answer = await client.http.get(f"/metadata/{digest}")
    said = answer.json()

    assert answer.status_code == 200
    assert said["general.architecture"]
    assert len(said["tokenizer.ggml.tokens"]) > 16
    assert "general.name" not in said


async def test_metadata_of_what_has_none_is_refused(client: Any) -> None:
    await client.upload(b"hello")
    answers = [
        (await client.http.get(f"/metadata/{digest}")).status_code
        for digest in (HELLO, OTHER, "sha256:12")
    ]

    assert answers == [422, 404, 400]


async def test_probes_and_metrics(client: Any) -> None:
    await client.upload(b"hello")
    await client.create("m", files={"m.rkllm": HELLO, "tokenizer.json": HELLO})
    ready = await client.http.get("/readyz")
    metrics = await client.http.get("/metrics")

    assert ready.status_code == 200
    assert "rkllama_store_models 1.0" in metrics.text
    assert "rkllama_store_blob_bytes" in metrics.text
