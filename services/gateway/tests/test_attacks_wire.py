"""Clients that break HTTP on purpose: nothing is smuggled, nothing grows for ever, nobody waits for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage, text

HOST = b"Host: localhost\r\n"
NEXT = b"GET /api/version HTTP/1.1\r\n" + HOST + b"\r\n"
"""What is smuggled: where it is answered, the server saw two requests in what is one to others."""


class Raw:
    """A connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def all(self, *pieces: bytes) -> bytes:
        """Send pieces; everything that is said until the server closes."""
        for piece in pieces:
            self.writer.write(piece)
        return await self.rest()

    async def rest(self) -> bytes:
        """What comes until the server closes, however it does that."""
        found = bytearray()
        try:
            while data := await self.reader.read(2**16):
                found += data
        except ConnectionError:
            return bytes(found)
        return bytes(found)


@asynccontextmanager
async def raw(on: Stage) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(on.host, on.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def statuses(said: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


POST = b"POST /api/show HTTP/1.1\r\n" + HOST
SMUGGLED = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 0, 44\r\n\r\n",
    "a signed length": POST + b"Content-Length: +0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length in hex": POST + b"Content-Length: 0x0\r\n\r\n",
    "a length that overflows": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 0\r\n\r\n",
    "a folded field": POST + b"X: y\r\n Content-Length: 44\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "a coding behind a tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nG\r\n\r\n",
    "a signed chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "a negative chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a prefixed chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a chunk size that overflows": POST
    + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n\r\n",
    "a chunk that is longer": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "lines that end otherwise": b"POST /api/show HTTP/1.1\nHost: localhost\n\n",
    "a carriage return alone": POST + b"X: a\rContent-Length: 44\r\n\r\n",
    "a nul in a field": POST + b"X: a\x00b\r\n\r\n",
    "a field without a name": POST + b": x\r\n\r\n",
    "a name with a space": POST + b"Content Length: 0\r\n\r\n",
    "no colon": POST + b"Content-Length 0\r\n\r\n",
    "two hosts": POST + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n",
    "the other HTTP": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an old HTTP": b"GET /api/version\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_two_servers_could_read_differently_is_refused_and_ends_the_connection(
    stage: Staged, name: str
) -> None:
    async with stage(workers=0) as on, raw(on) as client:
        said = await client.all(SMUGGLED[name] + NEXT)

    assert statuses(said) == [400]


async def test_a_client_that_asks_ahead_without_end_is_cut_off(stage: Staged) -> None:
    async with stage() as on, raw(on) as client:
        ask = b'{"model": "m", "prompt": "x"}'
        first = b"POST /api/generate HTTP/1.1\r\n" + HOST
        client.writer.write(first + b"Content-Length: %d\r\n\r\n" % len(ask) + ask)
        attempt = await on.worker.take()
        said = await client.all(NEXT * 2000)
        await attempt.unwanted.wait()

    assert said == b""


@pytest.mark.parametrize("stream", [True, False])
async def test_an_older_http_gets_no_chunks(stage: Staged, stream: bool) -> None:
    """It would take their sizes for a part of the answer (RFC 9112, section 6.1)."""
    ask = orjson.dumps({"model": "m", "prompt": "x", "stream": stream})
    head = b"POST /api/generate HTTP/1.0\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(ask)
    async with stage() as on, raw(on) as client:
        client.writer.write(head + ask)
        await (await on.worker.take()).say("One ", "two.")
        head, _, said = (await client.rest()).partition(b"\r\n\r\n")

    records = [orjson.loads(line) for line in said.splitlines()]
    assert b"chunked" not in head
    assert (b"content-length" in head) != stream
    assert "".join(record["response"] for record in records) == "One two."


UPGRADES = {
    "websocket": b"GET /api/version HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "http 2": b"GET /api/version HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "a body behind it": POST + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\n{}",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", UPGRADES)
async def test_nobody_leaves_http_and_what_follows_is_no_request(stage: Staged, name: str) -> None:
    async with stage(workers=0, head_timeout_s=0.5, slow_client_s=1.0) as on, raw(on) as client:
        said = await client.all(UPGRADES[name] + NEXT)

    assert len(statuses(said)) <= 2
    assert 101 not in statuses(said)
    assert said.count(b'"version"') <= 1


async def test_an_address_is_the_connections_and_not_what_a_header_says(stage: Staged) -> None:
    async with stage(workers=0, rate_per_minute=0.1, rate_burst=1) as on:
        answers = [
            await on.client.get("/api/version", headers={"x-forwarded-for": f"192.0.2.{at}"})
            for at in range(2)
        ]

    assert [answer.status_code for answer in answers] == [200, 429]


HEADS = {
    "one long line": b"GET /" + b"a" * 2**20,
    "one long field": b"GET / HTTP/1.1\r\nX: " + b"a" * 2**20,
    "a long name": b"GET / HTTP/1.1\r\n" + b"a" * 2**20,
    "fields without end": b"GET / HTTP/1.1\r\n"
    + b"".join(b"X-%d: 1\r\n" % n for n in range(10**5)),
    "a whole head": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2**15 + b"\r\n\r\n",
    "many fields": b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_has_a_size(stage: Staged, name: str) -> None:
    async with stage(workers=0) as on, raw(on) as client:
        said = await client.all(HEADS[name])

    assert statuses(said) in ([431], [])


async def test_a_refused_head_is_told_in_the_words_of_the_path(stage: Staged) -> None:
    async with stage(workers=0) as on:
        headers = {"x": "a" * 2**15}
        answers = [
            await on.client.post(path, headers=headers)
            for path in ("/api/chat", "/v1/chat/completions", "/v1/messages")
        ]

    message = "request header fields too large"
    assert [answer.status_code for answer in answers] == [431] * 3
    assert answers[0].json() == {"error": message}
    assert answers[1].json()["error"]["message"] == message
    assert answers[2].json()["error"]["message"] == message
    assert answers[2].json()["type"] == "error"


SLOW = {
    "says nothing": (b"", b""),
    "begins a line": (b"GET / HT", b""),
    "never ends its head": (b"GET / HTTP/1.1\r\n", b"X: 1\r\n"),
    "sends empty lines": (b"\r\n", b"\r\n"),
    "sends empty lines after an answer": (NEXT, b"\r\n"),
    "begins again after an answer": (NEXT + b"GET /", b"a"),
}


@pytest.mark.parametrize("name", SLOW)
async def test_a_head_that_does_not_come_is_not_waited_for(stage: Staged, name: str) -> None:
    """Also of one who sends something now and then."""
    first, then = SLOW[name]
    async with stage(workers=0, head_timeout_s=0.5) as on, raw(on) as client:

        async def drip() -> None:
            while not client.writer.transport.is_closing():
                client.writer.write(then)
                await asyncio.sleep(0.1)

        client.writer.write(first)
        dripping = asyncio.ensure_future(drip())
        said = await client.rest()
        dripping.cancel()

    assert statuses(said) in ([], [408], [200], [200, 408])


@pytest.mark.parametrize("drip", [b"", b"1\r\nx\r\n"])
async def test_a_body_that_stands_still_is_not_waited_for(stage: Staged, drip: bytes) -> None:
    async with stage(workers=0, slow_client_s=1.0) as on, raw(on) as client:
        client.writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")

        async def dripping() -> None:
            while not client.writer.transport.is_closing():
                client.writer.write(drip)
                await asyncio.sleep(0.1)

        task = asyncio.ensure_future(dripping())
        said = await client.rest()
        task.cancel()

    assert statuses(said) == [408]
    assert b"the request did not arrive in time" in said


@pytest.mark.parametrize("path", [b"/nope", b"/api/version", b"/api/chat"])
async def test_a_body_without_end_ends_with_the_answer(stage: Staged, path: bytes) -> None:
    """Whether there is a route, a route without a body, or a bound on it."""
    async with stage(workers=0, max_body_bytes=2**16) as on, raw(on) as client:
        client.writer.write(b"POST " + path + b" HTTP/1.1\r\n" + HOST)
        client.writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"

        async def pouring() -> None:
            while not client.writer.transport.is_closing():
                client.writer.write(chunk)
                await client.writer.drain()

        task = asyncio.ensure_future(pouring())
        said = await client.rest()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert len(statuses(said)) == 1
    assert statuses(said)[0] in (404, 405, 413)


async def test_one_connection_too_many_is_told_so_and_the_others_go_on(stage: Staged) -> None:
    async with (
        stage(workers=0, max_connections=3) as on,
        raw(on) as first,
        raw(on),
        raw(on),
        raw(on) as client,
    ):
        said = await client.all(NEXT)
        first.writer.write(NEXT)
        other = await first.reader.readuntil(b"\r\n")

    assert statuses(other) == [200]
    assert statuses(said) == [503]
    assert b"retry-after: 1" in said
    assert b'{"error":"too many connections, please try again"}' in said


async def test_one_address_does_not_take_all_connections(stage: Staged) -> None:
    async with (
        stage(workers=0, max_connections_per_address=1) as on,
        raw(on),
        raw(on) as client,
    ):
        said = await client.all(b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n")

    assert statuses(said) == [503]
    assert b'"type":"api_error"' in said


async def test_whoever_asks_too_often_waits_and_others_do_not(stage: Staged) -> None:
    async with stage(workers=0, rate_per_minute=0.1, rate_burst=2) as on:
        answers = [await on.client.get("/api/version") for _ in range(3)]
        openai = await on.client.get("/v1/models")
        anthropic = await on.client.post("/v1/messages", json={})
        probe = await on.client.get("/livez")

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json() == {"error": "too many requests, please try again later"}
    assert 1 < int(answers[2].headers["retry-after"]) <= 600
    assert openai.json()["error"]["message"] == "too many requests, please try again later"
    assert anthropic.json()["error"]["type"] == "rate_limit_error"
    assert probe.status_code == 200


HOSTS = {
    "evil.example": 403,
    "localhost.evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "evil.example:11434": 403,
    "localhost@evil.example": 403,
    "evil.example#localhost": 403,
    "evil.example/localhost": 403,
    "192.0.2.1": 403,
    "[2001:db8::1]": 403,
    "localhost": 200,
    "127.0.0.1:11434": 200,
    "[::1]:11434": 200,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_a_name_that_was_pointed_at_this_machine_is_not_this_machine(
    stage: Staged, host: str
) -> None:
    """DNS rebinding (CVE-2024-28224): a browser sends the name that it was lured with."""
    async with stage(workers=0) as on:
        answer = await on.client.get("/api/version", headers={"host": host})

    assert answer.status_code == HOSTS[host]


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://localhost.evil.example",
        "http://localhost@evil.example",
        "null",
        "http://127.0.0.1.evil.example:80",
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
async def test_a_foreign_page_is_let_at_nothing(stage: Staged, method: str, origin: str) -> None:
    async with stage(workers=0) as on:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        answer = await on.client.request(method, "/api/pull", headers=headers)

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_an_absolute_address_does_not_stand_for_the_host(stage: Staged) -> None:
    async with stage(workers=0) as on, raw(on) as client:
        said = await client.all(
            b"GET http://localhost/api/version HTTP/1.1\r\nHost: evil.example\r\n"
            b"Connection: close\r\n\r\n"
        )

    assert statuses(said) == [403]


async def test_a_client_that_reads_nothing_is_cut_off_alone(stage: Staged) -> None:
    """Its board is freed, and another's answer comes as if nothing were."""
    async with stage(slow_client_s=1.0) as on, raw(on) as client:
        ask = b'{"model": "m", "prompt": "x"}'
        head = b"POST /api/generate HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(ask)
        client.writer.write(head + ask)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        stuck = await on.worker.take()

        async def pour() -> None:
            seq = 0
            while not stuck.unwanted.is_set():
                await stuck.send(text(seq, "x" * 2**14))
                await asyncio.sleep(0.01)
                seq += 1

        pouring = asyncio.ensure_future(pour())
        other = on.post("/api/generate", prompt="y", stream=False)
        attempt = await on.worker.take()
        await attempt.say("hello")
        answer = await other
        await pouring

    assert answer.json()["response"] == "hello"
