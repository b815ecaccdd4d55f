"""Words that are lost between a gateway and a real worker: the test is the gateway, and keeps silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import ollama
import pytest
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk, decode_chunk
from rkllama_protocol.messages import (
    Finished,
    FinishedReply,
    Grant,
    Job,
    LeaseReply,
    ResolvedModel,
    ResolveRequest,
    Sampling,
    Ticket,
)
from rkllama_protocol.names import Digest
from rkllama_protocol.subjects import ANY, GatewayVerb, JobClass, StoreVerb, Subjects
from rkllm_bindings.emulator import ModelScript, read_trace

from tests.broker import TESTER
from tests.emulated import create, emulated
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.boards

ME = "silent"
TOKENS = 12
SUBJECTS = Subjects()
Handler = Callable[[bytes], Awaitable[bytes]]


@dataclass
class Silent:
    """A gateway that says what a test lets it say."""

    bus: Bus
    model: ResolvedModel
    chunks: asyncio.Queue[Chunk] = field(default_factory=asyncio.Queue)

    async def listen(self, *, claim: Handler, finished: Handler) -> None:
        await self.bus.serve(SUBJECTS.gateway(ME, ANY, GatewayVerb.CLAIM), claim)
        await self.bus.serve(SUBJECTS.gateway(ME, ANY, GatewayVerb.FINISHED), finished)
        await self.bus.serve(SUBJECTS.gateway(ME, ANY, GatewayVerb.LEASE), self._renew)
        await self.bus.subscribe(
            SUBJECTS.replies(ME), lambda _, data: self.chunks.put_nowait(decode_chunk(data))
        )

    async def _renew(self, _: bytes) -> bytes:
        return codec.encode(LeaseReply(wanted=True))

    def grant(self) -> bytes:
        job = Job(
            job_id="job",
            model=self.model,
            kind="completion",
            prompt="hello",
            sampling=Sampling(temperature=0),
            now="2026-03-01T12:00:00Z",
        )
        return codec.encode(Grant(granted=True, body=job))

    async def offer(self) -> None:
        ticket = Ticket(
            job_id="job",
            attempt=1,
            job_class=JobClass.INTERACTIVE,
            model=self.model.digest,
            model_format=self.model.details.format,
            weights_bytes=1,
            age_s=0,
            order=0,
            prompt_tokens=5,
            gateway_id=ME,
        )
        subject = SUBJECTS.offer(JobClass.INTERACTIVE, Digest.parse(self.model.digest))
        await self.bus.say(subject, ticket)


@asynccontextmanager
async def silent(folder: Path) -> AsyncIterator[tuple[Stack, Silent]]:
    """A stack with one board and the model `m`, and a second gateway, which is the test."""
    script = ModelScript(answer_tokens=TOKENS, trace=folder / "trace")
    with emulated(folder, "abi-1.3.0") as stack:
        with ollama.Client(host=stack.url, trust_env=False) as client:
            create(client, "m", script, folder)
        async with (
            asyncio.TaskGroup() as tasks,
            await Bus.connect(stack.broker.url, name=ME, tasks=tasks, access=TESTER) as bus,
        ):
            model = await bus.ask(
                SUBJECTS.store(StoreVerb.RESOLVE),
                ResolveRequest(model="m"),
                ResolvedModel,
                timeout_s=5,
            )
            yield stack, Silent(bus, model)


async def ask(stack: Stack) -> int:
    """A request through the real gateway; the tokens of its answer."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as http:
        body = {"model": "m", "prompt": "hi", "stream": False}
        answer = await http.post(f"{stack.url}/api/generate", json=body)
    tokens: int = answer.json()["eval_count"]
    return tokens


def runs(folder: Path) -> int:
    return sum(event["event"] == "run" for event in read_trace(folder / "trace"))


async def test_a_board_whose_grant_is_lost_runs_nothing_and_takes_the_next_job(
    tmp_path: Path,
) -> None:
    """The answer comes when the board no longer waits: its gateway may have granted the job to another."""
    async with silent(tmp_path) as (stack, gateway):
        given_up = asyncio.Event()

        async def claim(_: bytes) -> bytes:
            await given_up.wait()
            return gateway.grant()

        async def finished(_: bytes) -> bytes:
            return codec.encode(FinishedReply())

        await gateway.listen(claim=claim, finished=finished)
        await gateway.offer()
        log = stack.log("worker-1")
        await asyncio.to_thread(
            wait_until, "the board to give up", lambda: "claim failed" in log.read_text()
        )
        given_up.set()
        tokens = await ask(stack)

    assert tokens == TOKENS
    assert runs(tmp_path) == 1
    assert gateway.chunks.empty()


async def test_a_board_says_that_it_has_finished_until_it_is_heard_and_is_free_meanwhile(
    tmp_path: Path,
) -> None:
    """The first word is lost; the second is answered with a wish for every chunk, the third with none."""
    async with silent(tmp_path) as (stack, gateway):
        words: asyncio.Queue[Finished] = asyncio.Queue()
        heard, answered = 0, asyncio.Event()

        async def claim(_: bytes) -> bytes:
            return gateway.grant()

        async def finished(data: bytes) -> bytes:
            nonlocal heard
            heard += 1
            words.put_nowait(codec.decode(Finished, data))
            if heard == 1:
                await answered.wait()
            return codec.encode(FinishedReply(replay_from=0 if heard == 2 else None))

        await gateway.listen(claim=claim, finished=finished)
        await gateway.offer()
        first = await words.get()
        once = [await gateway.chunks.get() for _ in range(first.last_seq + 1)]
        tokens = await ask(stack)
        second = await words.get()
        again = [await gateway.chunks.get() for _ in once]
        third = await words.get()
        answered.set()

    assert first == second == third
    assert again == once
    assert gateway.chunks.empty()
    assert once[-1].finish
    assert sum(len(chunk.ids) for chunk in once) == TOKENS
    assert (tokens, runs(tmp_path)) == (TOKENS, 2)
