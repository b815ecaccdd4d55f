"""Bodies that are too large, or broken off; paths that are not quite right."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator

import httpx2
import pytest
import zstandard
from rkllama_gateway.job import HeldJob
from rkllama_gateway.reading import DECODE_HERE_BYTES, TOO_LARGE_TOGETHER

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage

TOO_LARGE = {"error": "request body too large"}
PATHS = [
    ("POST", path)
    for path in (
        "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull",
        "/api/create", "/api/copy",
    )
] + [("DELETE", "/api/delete")]  # fmt: skip


async def test_a_body_that_says_that_it_is_too_large_is_refused(stage: Staged) -> None:
    async with stage(workers=0, max_body_bytes=100) as on:
        for method, path in PATHS:
            answer = await on.client.request(method, path, content=b"x" * 101)

            assert (answer.status_code, answer.json()) == (413, TOO_LARGE), path
            assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("counted", [True, False])
async def test_a_client_that_reads_when_all_is_sent_is_told_too(
    stage: Staged, *, counted: bool
) -> None:
    """Much more than what fits between the two: the rest is thrown away, not left lying."""
    body = b" " * 2**24
    async with stage(workers=0, max_body_bytes=2**20) as on:
        answer = await on.client.post("/api/chat", content=body if counted else _pieces(body))

    assert (answer.status_code, answer.json()) == (413, TOO_LARGE)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 2**16):
        yield body[at : at + 2**16]


async def test_a_body_without_a_length_is_counted_and_its_end_not_waited_for(stage: Staged) -> None:
    async with stage(workers=0, max_body_bytes=100) as on:
        reader, writer = await asyncio.open_connection(on.host, on.port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"32\r\n" + b" " * 50 + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readuntil(b"}")
        writer.close()

    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer) == TOO_LARGE


LARGE = json.dumps({"model": "m", "prompt": "x" * 100_000, "stream": False}).encode()
SMALL = b'{"model":"nope"}'


async def test_all_bodies_together_are_bounded_until_each_is_answered(stage: Staged) -> None:
    """Whoever would be too much is told to come again, in mid-body if it does not say how much it brings."""
    async with stage(max_body_bytes=110_000, max_bodies_bytes=1) as on:
        waits = asyncio.create_task(on.client.post("/api/generate", content=LARGE))
        attempt = await on.worker.take()
        told = [
            await on.client.post("/api/generate", content=LARGE),
            await on.client.post("/v1/completions", content=_pieces(LARGE)),
            await on.client.post("/v1/messages", content=LARGE),
        ]
        fits = await on.client.post("/api/chat", content=SMALL)
        await attempt.say("a")
        first = await waits
        again = await on.client.post("/api/chat", content=SMALL[:-1] + b" " * 90_000 + b"}")

    assert [answer.status_code for answer in told] == [503] * 3
    assert {answer.headers["retry-after"] for answer in told} == {"1"}
    assert {answer.headers["connection"] for answer in told} == {"close"}
    assert told[0].json() == {"error": TOO_LARGE_TOGETHER}
    assert told[1].json()["error"]["message"] == TOO_LARGE_TOGETHER
    assert told[2].json()["error"] == {"type": "overloaded_error", "message": TOO_LARGE_TOGETHER}
    assert (fits.status_code, first.status_code, again.status_code) == (404, 200, 404)


async def test_who_fits_is_read_to_its_end_whoever_is_refused_meanwhile(stage: Staged) -> None:
    body = SMALL[:-1] + b" " * 100_000 + b"}"
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with stage(workers=0, max_body_bytes=len(body), max_bodies_bytes=2 * len(body)) as on:
        opened = [await asyncio.open_connection(on.host, on.port) for _ in range(2)]
        for _, writer in opened:
            writer.write(head + body[:10])
        while on.gateway.bodies.held_bytes < 2 * len(body):
            await on.client.get("/api/version")
        refused = [await on.client.post("/api/chat", content=body) for _ in range(3)]
        told = []
        for reader, writer in opened:
            writer.write(body[10:])
            told.append(await reader.readline())
            writer.close()
        while on.gateway.bodies.held_bytes:
            await on.client.get("/api/version")

    assert [answer.status_code for answer in refused] == [503] * 3
    assert told == [b"HTTP/1.1 404 Not Found\r\n"] * 2


async def test_what_a_client_sent_that_left_counts_no_more(stage: Staged) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    async with stage(workers=0) as on:
        _, writer = await asyncio.open_connection(on.host, on.port)
        writer.write(head)
        while not on.gateway.bodies.held_bytes:
            await on.client.get("/api/version")
        writer.close()
        await writer.wait_closed()
        while on.gateway.bodies.held_bytes:
            await on.client.get("/api/version")


async def test_a_packed_body_counts_as_what_it_is_unpacked(stage: Staged) -> None:
    packed = zstandard.compress(json.dumps({"model": "m", "input": "x" * 100_000}).encode())
    headers = {"content-encoding": "zstd"}
    async with stage(max_body_bytes=110_000) as on:
        waits = asyncio.create_task(
            on.client.post("/v1/responses", content=packed, headers=headers)
        )
        await on.worker.tickets.get()
        held_bytes = on.gateway.bodies.held_bytes
        waits.cancel()
    async with stage(max_body_bytes=90_000) as on:
        larger = await on.client.post("/v1/responses", content=packed, headers=headers)

    assert len(packed) < 1000
    assert held_bytes > 100_000
    assert larger.status_code == 413


@pytest.mark.parametrize(
    "many", [b'{"messages":[' + b"{}," * 400_000 + b"{}]}", b"[" + b"1," * 1_000_001 + b"1]"]
)
async def test_a_body_of_too_many_parts_is_too_large(stage: Staged, many: bytes) -> None:
    """Decoded, they would take forty times what they are here."""
    async with stage(workers=0) as on:
        answer = await on.client.post("/api/chat", content=many)

    assert (answer.status_code, answer.json()) == (413, TOO_LARGE)


async def test_a_client_that_left_leaves_nothing(stage: Staged) -> None:
    """Its job goes at once, with all that it asked, and not when somebody collects garbage."""
    async with stage() as on:
        gc.collect()
        gc.disable()
        try:
            left = asyncio.create_task(on.client.post("/api/generate", content=LARGE))
            await on.worker.tickets.get()
            left.cancel()
            while on.gateway.jobs.held() or on.gateway.bodies.held_bytes:
                await on.client.get("/api/version")
            await on.client.get("/api/version")
            jobs = [one for one in gc.get_objects() if isinstance(one, HeldJob)]
        finally:
            gc.enable()

    assert jobs == []


@pytest.mark.parametrize("spare", [0, 1])
async def test_a_body_just_as_large_as_it_may_be_is_read(stage: Staged, spare: int) -> None:
    body = b'{"model":"nope"}'
    async with stage(workers=0, max_body_bytes=len(body) + spare) as on:
        answer = await on.client.post("/api/chat", content=body)

    assert answer.status_code == 404


async def test_blobs_may_be_larger(stage: Staged) -> None:
    """They go to the store as they come; here none listens."""
    async with stage(workers=0, max_body_bytes=1) as on:
        answer = await on.client.post(f"/api/blobs/sha256:{'0' * 64}", content=b"xx")

    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("tail", "text"),
    [(b'"}', "model 'nope' not found"), (b'","keep_alive":true}', "Unsupported type: 'bool'")],
)
async def test_a_large_body_means_what_a_small_one_means(
    stage: Staged, tail: bytes, text: str
) -> None:
    body = b'{"model":"nope","prompt":"' + b"x" * DECODE_HERE_BYTES + tail
    async with stage(workers=0) as on:
        answer = await on.client.post("/api/generate", content=body)

    assert answer.json() == {"error": text}


async def test_a_client_that_leaves_in_mid_body_is_no_failure(
    stage: Staged, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage(workers=0) as on:
        _, writer = await asyncio.open_connection(on.host, on.port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await on.client.get("/api/version")).status_code == 200

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/api/tags/", "/api/tags"),
        ("/api/tags/?a=b%20c", "/api/tags?a=b%20c"),
        ("/v1/models/%C3%A9%0D%0AX:y/", "/v1/models/%C3%A9%0D%0AX:y"),
    ],
)
async def test_a_slash_too_many_is_sent_to_the_path_without_it(
    stage: Staged, path: str, location: str
) -> None:
    """Contract 1.1; what is in a path never becomes a header of its own."""
    async with stage(workers=0) as on:
        answer = await on.client.get(path)

    assert (answer.status_code, answer.headers["location"]) == (301, location)


# ------------------------------------------------------------------------------ create


async def test_no_files_are_another_thing_than_an_empty_list_of_them(stage: Staged) -> None:
    """Contract 2.14."""
    async with stage(workers=0) as on:
        assert await _refused(on, {"files": {}}) == "unknown type"
        assert await _refused(on, {"files": None}) == "neither 'from' or 'files' was specified"
        assert await _refused(on, {}) == "neither 'from' or 'files' was specified"


async def _refused(on: Stage, fields: dict[str, object]) -> str:
    answer = await on.client.post("/api/create", json={"model": "new", **fields})
    assert answer.status_code == httpx2.codes.BAD_REQUEST
    text: str = answer.json()["error"]
    return text
