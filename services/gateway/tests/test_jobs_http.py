"""What becomes of a request when boards, messages and clients misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from rkllama_protocol import codec
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Job, Resume
from rkllama_protocol.subjects import JobClass

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Attempt, Stage, text
from services.gateway.tests.test_answers_http import lines, said

BUSY = "server busy, please try again.  maximum pending requests exceeded"
END = Chunk(seq=3, finish="stop")


# ------------------------------------------------------------------------------ chunks


async def test_a_chunk_that_was_lost_is_asked_for_again(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"), text(2, "c"))
        replay = await on.worker.replays.get()
        await attempt.send(text(1, "b"), text(2, "c"), END)
        await attempt.finished()
        answer = await asked

    assert (replay.job_id, replay.attempt, replay.from_seq) == (attempt.job.job_id, 1, 1)
    assert said(answer) == "abc"


async def test_the_end_is_asked_for_again_when_it_was_lost(stage: Staged) -> None:
    """No chunk follows it that would show the gap."""
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"), text(1, "b"))
        attempt.last_seq = 3
        reply = await attempt.finished()
        assert reply.replay_from == 2
        await attempt.send(text(2, "c"), END)
        answer = await asked

    assert said(answer) == "abc"


async def test_chunks_that_come_twice_are_told_once(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        a, b, c = text(0, "a"), text(1, "b"), text(2, "c")
        await attempt.send(a, a, b, a, c, b, END, END)
        await attempt.finished()
        answer = await asked

    assert said(answer) == "abc"
    assert [line["done"] for line in lines(answer)] == [False, False, False, True]


async def test_what_is_no_chunk_is_dropped(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        ticket = attempt.ticket
        reply = on.worker.subjects.reply(
            ticket.gateway_id, on.worker.worker_id, ticket.job_id, ticket.attempt
        )
        await on.worker.bus.publish(reply, b"{}")
        await attempt.say("a")
        answer = await asked

    assert said(answer) == "a"


# ------------------------------------------------------------------------------ boards


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/api/generate", {"prompt": "a"}, -1),
        ("/api/generate", {"prompt": "a", "options": {"num_predict": 5}}, 5),
        ("/api/generate", {"prompt": "a", "_debug_render_only": True}, 0),
        ("/api/generate", {}, 0),
        ("/api/embed", {"input": "a"}, 0),
    ],
    ids=["answer", "bounded", "rendered", "load", "embed"],
)
async def test_boards_are_told_how_many_tokens_a_job_may_take_them(
    stage: Staged, path: str, body: dict[str, Any], tokens: int
) -> None:
    """What is answered without any keeps a board no longer than its prompt."""
    async with stage() as on:
        asked = asyncio.create_task(on.client.post(path, json={"model": "m"} | body))
        ticket = await on.worker.tickets.get()
        asked.cancel()

    assert ticket.num_predict == tokens


async def test_only_one_of_two_boards_gets_a_job(stage: Staged) -> None:
    async with stage(workers=2) as on:
        asked = on.chat()
        tickets = [await worker.tickets.get() for worker in on.workers]
        assert tickets[0] == tickets[1]
        grants = await asyncio.gather(
            *(worker.claim(tickets[0]) for worker in on.workers),
        )
        first = on.workers[0 if grants[0].granted else 1]
        body = next(grant.body for grant in grants if grant.body)
        await Attempt(worker=first, ticket=tickets[0], job=body).say("a")
        answer = await asked

    assert sorted(grant.granted for grant in grants) == [False, True]
    assert said(answer) == "a"


async def test_a_board_lost_before_its_first_chunk_is_replaced_unseen(stage: Staged) -> None:
    """The same job goes to another board, in front of all others."""
    async with stage(workers=2) as on:
        asked = on.chat()
        lost = await on.worker.take()
        lost.die()
        assert (await on.workers[1].tickets.get()).attempt == 1
        attempt = await on.workers[1].take()
        await lost.send(text(0, "too late"))
        assert not await lost.lease()
        await attempt.say("a", "b")
        answer = await asked

    assert (attempt.ticket.attempt, attempt.ticket.job_class) == (2, JobClass.RESUME)
    assert attempt.job == lost.job
    assert said(answer) == "ab"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_goes_on_when_its_board_is_lost(stage: Staged, *, stream: bool) -> None:
    async with stage(workers=2) as on:
        asked = on.chat(stream=stream)
        lost = await on.worker.take()
        await lost.send(text(0, "a", prompt_tokens=7, prompt_hash="h"))
        lost.die()
        assert (await on.workers[1].tickets.get()).attempt == 1
        attempt = await on.workers[1].take()
        await attempt.say("b", "c")
        answer = await asked

    assert attempt.job == lost.job.model_copy(update={"resume": Resume(ids=(1,), prompt_hash="h")})
    assert said(answer) == "abc"
    assert lines(answer)[-1]["eval_count"] == 3
    assert lines(answer)[-1]["prompt_eval_count"] == 7


@pytest.mark.parametrize("stream", [True, False])
async def test_a_job_that_two_boards_died_of_is_told(stage: Staged, *, stream: bool) -> None:
    async with stage(workers=2) as on:
        asked = on.chat(stream=stream)
        first = await on.worker.take()
        await first.send(text(0, "a"))
        first.die()
        assert (await on.workers[1].tickets.get()).attempt == 1
        second = await on.workers[1].take()
        await second.send(text(0, "b"))
        second.die()
        answer = await asked

    error = {"error": "the worker w1 was lost in mid-answer; given up after 2 attempts"}
    assert answer.status_code == (200 if stream else 500)
    assert lines(answer)[-1] == error
    assert len(lines(answer)) == (3 if stream else 1)


async def test_a_board_that_hands_its_job_over_is_followed_at_once(stage: Staged) -> None:
    """What it sent last is asked for first, if it was lost."""
    async with stage(workers=2) as on:
        asked = on.chat()
        first = await on.worker.take()
        first.last_seq = 0
        assert (await first.finished("released")).replay_from == 0
        await first.send(text(0, "a"))
        assert (await first.finished("released")).replay_from is None
        assert (await on.workers[1].tickets.get()).attempt == 1
        second = await on.workers[1].take()
        await second.say("b")
        answer = await asked

    assert second.job.resume == Resume(ids=(1,))
    assert said(answer) == "ab"


async def test_an_engine_that_died_is_replaced_on_the_same_board(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        first = await on.worker.take()
        await first.send(text(0, "a"), Chunk(seq=1, error_code="engine_died", error_message="x"))
        await first.finished()
        second = await on.worker.take()
        await second.say("b")
        answer = await asked

    assert said(answer) == "ab"


async def test_a_model_that_does_not_load_here_is_loaded_elsewhere(stage: Staged) -> None:
    failed = Chunk(seq=0, error_code="load_failed", error_message="no memory")
    async with stage(workers=2) as on:
        asked = on.chat()
        first = await on.worker.take()
        await first.send(failed)
        assert (await on.workers[1].tickets.get()).attempt == 1
        second = await on.workers[1].take()
        await second.say("b")
        answer = await asked

    assert said(answer) == "b"


async def test_a_model_that_loads_nowhere_is_told_at_once(stage: Staged) -> None:
    failed = Chunk(seq=0, error_code="load_failed", error_message="no memory")
    async with stage() as on:
        asked = on.chat(stream=False)
        await (await on.worker.take()).send(failed)
        answer = await asked

    assert answer.status_code == 500
    assert answer.json() == {"error": "no memory"}


async def test_a_board_that_never_hears_its_grant_is_replaced(stage: Staged) -> None:
    """The gateway thinks the job granted; the client sees a pause of two seconds."""
    async with stage(workers=2) as on:
        asked = on.chat()
        granted = await on.worker.claim(await on.worker.tickets.get())
        assert (await on.workers[1].tickets.get()).attempt == 1
        attempt = await on.workers[1].take()
        await attempt.say("a", "b")
        answer = await asked

    assert granted.granted
    assert (attempt.ticket.attempt, attempt.job.resume) == (2, None)
    assert said(answer) == "ab"


async def test_an_answer_is_whole_without_the_boards_word_that_it_has_finished(
    stage: Staged,
) -> None:
    """The board says so again and again; the client has everything with the terminal chunk."""
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"), Chunk(seq=1, finish="stop"))
        answer = await asked
        late = await attempt.finished()

    assert said(answer) == "a"
    assert late.replay_from is None


async def test_a_large_body_is_fetched_in_pieces(stage: Staged) -> None:
    """Beyond what one message may hold; it is decoded and encoded in threads."""
    prompt = "".join(map(chr, range(0x20, 0x2000))) * 500
    async with stage() as on:
        asked = on.post("/api/generate", prompt=prompt, raw=True)
        ticket = await on.worker.tickets.get()
        grant = await on.worker.claim(ticket)
        body = b""
        pieces = 0
        while len(body) < grant.body_bytes:
            body += await on.worker.body_piece(ticket, len(body))
            pieces += 1
        job = codec.decode(Job, body)
        await Attempt(worker=on.worker, ticket=ticket, job=job).say("a")
        answer = await asked

    assert grant.granted
    assert grant.body is None
    assert pieces > 3
    assert job.prompt == prompt
    assert answer.status_code == 200


# ------------------------------------------------------------------------------ waiting


async def test_a_request_that_no_board_can_run_is_refused_after_its_time(stage: Staged) -> None:
    async with stage(workers=0, no_worker_s=0.01) as on:
        answer = await on.chat()

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {"error": "no worker is connected to run the model"}


async def test_the_reason_names_every_board(stage: Staged) -> None:
    async with stage(workers=2, no_worker_s=0.01, beat={"runtimes": ("rkllm",)}) as on:
        answer = await on.chat()

    assert answer.status_code == 503
    assert "w0 has no runtime for gguf models; w1 has no runtime" in answer.json()["error"]


async def test_one_too_many_that_wait_is_refused_at_once(stage: Staged) -> None:
    """Contract 1.5, 1.10; what a board has does not wait any more."""
    async with stage(max_waiting=1) as on:
        first = on.chat()
        running = await on.worker.take()
        second = on.chat()
        await on.worker.tickets.get()
        third = await on.chat()
        second.cancel()
        await running.say("a")
        await first

    assert (third.status_code, third.json()) == (503, {"error": BUSY})
    assert third.headers["retry-after"] == "1"


async def test_a_gateway_that_drains_ends_what_it_has_and_takes_nothing_new(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        draining = on.tasks.create_task(on.gateway.drain())
        # The drain's first step is done when the loop comes back here.
        await asyncio.sleep(0)
        refused = await on.chat()
        ready = await on.client.get("/readyz")
        await attempt.say("a")
        answer = await asked
        await draining

    assert (refused.status_code, ready.status_code) == (503, 503)
    assert refused.json() == {"error": "the server is shutting down"}
    assert said(answer) == "a"


async def test_a_drain_that_takes_too_long_ends_answers_visibly(stage: Staged) -> None:
    async with stage(drain_timeout_s=0.01) as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"))
        await on.gateway.drain()
        answer = await asked
        await attempt.unwanted.wait()

    assert lines(answer)[-1] == {"error": "the server was shut down in mid-answer"}


# ------------------------------------------------------------------------------ slow clients

PIECE = "x" * 500_000


async def test_a_client_that_reads_too_slowly_is_cut_off_alone(stage: Staged) -> None:
    """Its board is freed, others go on, and what it has not read yet is bounded."""
    async with stage() as on:
        slow = await _slow_client(on)
        attempt = await on.worker.take()
        sent = 0
        while not attempt.unwanted.is_set():
            await attempt.send(text(sent, PIECE))
            await on.worker.bus.flush()
            sent += 1
            await asyncio.sleep(0)
        await attempt.finished()

        other = on.chat()
        await (await on.worker.take()).say("a")
        answer = await other
        received = await _read_all(slow)

    assert said(answer) == "a"
    assert received.count(b'"done":false') < sent
    assert b'{"error":"the client reads too slowly"}\n' in received
    assert received.endswith(b"0\r\n\r\n")


async def _slow_client(on: Stage) -> socket.socket:
    """A client that has asked for a chat, and reads nothing of it."""
    loop = asyncio.get_running_loop()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    await loop.sock_connect(slow, (on.host, on.port))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(slow, (head + body).encode())
    return slow


async def _read_all(slow: socket.socket) -> bytes:
    """What the server sent it, to the end of the answer."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    with slow:
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = await loop.sock_recv(slow, 2**20)
            assert piece
            received += piece
    return bytes(received)
