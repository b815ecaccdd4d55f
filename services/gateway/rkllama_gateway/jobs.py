"""The jobs this gateway holds: offered, granted to one board, watched, answered, let go.

The broker holds nothing: a waiting job is here, and is said again every second. Callbacks only take
note and wake the answer that waits; nothing here ever waits for a client's socket.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic

from rkllama_policy.cost import prompt_tokens, refusal, weights_bytes
from rkllama_protocol import codec
from rkllama_protocol.beats import Observer
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    NoWorkerError,
    OverloadedError,
    RkllamaError,
    UnreachableError,
)
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import (
    Accepted,
    BodyRequest,
    Cancel,
    Claim,
    Finished,
    FinishedReply,
    Grant,
    Job,
    Lease,
    LeaseReply,
    Replay,
    Taken,
    Ticket,
    WorkerBeat,
)
from rkllama_protocol.names import Digest
from rkllama_protocol.subjects import GatewayVerb, JobClass, Subjects, WorkerVerb

from rkllama_gateway.job import HeldJob

log = logging.getLogger(__name__)

OFFER_INTERVAL_S = 1.0
TICK_S = 0.25
HEADROOM_BYTES = 8192
"""Left of `max_payload` for a grant's envelope."""
REPLAY_TIMEOUT_S = 1.0
ENCODE_HERE_CHARS = 2**20
"""A job with more text than this is encoded in a thread."""


class Jobs:
    """Every job of this gateway. All methods run on its event loop."""

    def __init__(
        self,
        *,
        gateway_id: str,
        bus: Bus,
        subjects: Subjects,
        boards: Observer[WorkerBeat],
        tasks: asyncio.TaskGroup,
        no_worker_s: float,
        max_waiting: int,
    ) -> None:
        self._gateway_id = gateway_id
        self._bus = bus
        self._subjects = subjects
        self._boards = boards
        self._tasks = tasks
        self._no_worker_s = no_worker_s
        self._max_waiting = max_waiting
        self._held: dict[str, HeldJob] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._replaying: set[str] = set()
        self._order = 0
        self.idle = asyncio.Event()
        """No job is held."""
        self.idle.set()
        self._reconnected_at = -math.inf

    async def listen(self) -> None:
        """Answer boards, and hear chunks."""
        subjects, me, bus = self._subjects, self._gateway_id, self._bus
        await bus.answer(subjects.gateway(me, GatewayVerb.CLAIM), self._on_claim)
        await bus.answer(subjects.gateway(me, GatewayVerb.BODY), self._on_body)
        await bus.answer(subjects.gateway(me, GatewayVerb.LEASE), self._on_lease)
        await bus.answer(subjects.gateway(me, GatewayVerb.FINISHED), self._on_finished)
        await bus.subscribe(subjects.replies(me), self._on_chunk)
        bus.on_reconnect(self._on_reconnect)

    async def watch(self) -> None:
        """Repeat offers, and notice boards that are gone, for ever."""
        offered_at = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = monotonic()
            again = now - offered_at >= OFFER_INTERVAL_S
            if again:
                offered_at = now
            if not self._bus.connected:
                continue
            for held in tuple(self._held.values()):
                if held.lease_lost(now, reconnected_at=self._reconnected_at):
                    log.warning(
                        "worker lost", extra={"job_id": held.job_id, "attempt": held.attempt}
                    )
                    self._wake[held.job_id].set()
                    await self._offer(held)
                elif again:
                    self._give_up(held, now)
                    await self._offer(held)

    def counts(self) -> Counter[JobState]:
        """How many jobs are in each state."""
        return Counter(held.state for held in self._held.values())

    # ------------------------------------------------------------------ the client's side

    async def submit(self, job: Job, *, job_class: JobClass = JobClass.INTERACTIVE) -> HeldJob:
        """Take a job in and offer it. Whoever submits must `release`.

        Raises:
            OverloadedError: Too many jobs wait for this model.
        """
        body = await _encoded(job)
        waiting = sum(
            1
            for held in self._held.values()
            if held.state is JobState.WAITING and held.job.model.digest == job.model.digest
        )
        if waiting >= self._max_waiting:
            raise OverloadedError(
                "server busy, please try again.  maximum pending requests exceeded"
            )
        self._order += 1
        held = HeldJob(
            job=job, body=body, job_class=job_class, order=self._order, accepted_at=monotonic()
        )
        self._held[job.job_id] = held
        self.idle.clear()
        self._wake[job.job_id] = asyncio.Event()
        log.info("job accepted", extra={"job_id": job.job_id, "model": job.model.name})
        await self._offer(held)
        return held

    async def chunks(self, held: HeldJob) -> AsyncIterator[list[Chunk]]:
        """What arrives of the answer, in batches of all that is there, to its end.

        Raises:
            RkllamaError: The job failed outside a chunk; what had arrived was yielded before.
        """
        wake = self._wake[held.job_id]
        while True:
            wake.clear()
            if taken := held.take():
                yield taken
                continue
            if held.ended:
                break
            await wake.wait()
        if held.error is not None:
            raise held.error

    def cancel(self, held: HeldJob) -> None:
        """The client is gone: whoever waits for chunks is told."""
        held.cancel()
        self._wake[held.job_id].set()

    async def release(self, held: HeldJob) -> None:
        """Let a job go; if it had not ended, its offer is withdrawn, or its board told to stop."""
        del self._held[held.job_id]
        del self._wake[held.job_id]
        if not self._held:
            self.idle.set()
        if held.ended and held.error is None:
            return
        held.cancel()
        await self._bus.say(self._subjects.taken, Taken(job_id=held.job_id, attempt=held.attempt))
        if held.worker_id:
            self._tasks.create_task(self._cancel_on(held.worker_id, held))

    async def _cancel_on(self, worker_id: str, held: HeldJob) -> None:
        try:
            await self._bus.ask(
                self._subjects.worker(worker_id, WorkerVerb.CANCEL),
                Cancel(job_id=held.job_id, attempt=held.attempt),
                Accepted,
                timeout_s=REPLAY_TIMEOUT_S,
            )
        except RkllamaError as error:
            # The board hears "not wanted" when it next renews its lease.
            log.info("cancel unheard", extra={"job_id": held.job_id, "reason": error.message})

    def fail_all(self, error: RkllamaError) -> None:
        """End every job with `error`: each client is told."""
        for held in self._held.values():
            held.fail(error)
            self._wake[held.job_id].set()

    # ------------------------------------------------------------------ offers

    async def _offer(self, held: HeldJob) -> None:
        if held.state is not JobState.WAITING:
            return
        ticket = self._ticket(held)
        subject = self._subjects.offer(held.job_class, Digest.parse(ticket.model))
        await self._bus.say(subject, ticket)
        self._after_offer(held, ticket)

    def _ticket(self, held: HeldJob) -> Ticket:
        job = held.job
        return Ticket(
            job_id=job.job_id,
            attempt=held.attempt,
            job_class=held.job_class,
            model=job.model.digest,
            model_format=job.model.details.format,
            weights_bytes=weights_bytes(job.model),
            num_ctx=job.num_ctx,
            age_s=held.age_s(monotonic()),
            order=held.order,
            prompt_tokens=prompt_tokens(job),
            gateway_id=self._gateway_id,
        )

    def _after_offer(self, held: HeldJob, ticket: Ticket) -> None:
        """Note since when no board there is could take the job."""
        refusals = [refusal(ticket, beat) for beat in self._boards.living()]
        if any(not reason for reason in refusals):
            held.unservable_since = None
        elif held.unservable_since is None:
            held.unservable_since = monotonic()

    def _give_up(self, held: HeldJob, now: float) -> None:
        since = held.unservable_since
        if held.state is not JobState.WAITING or since is None:
            return
        if now - since >= self._no_worker_s:
            held.fail(NoWorkerError(self._why_unservable(held)))
            self._wake[held.job_id].set()

    def _why_unservable(self, held: HeldJob) -> str:
        boards = self._boards.living()
        if not boards:
            return "no worker is connected to run the model"
        ticket = self._ticket(held)
        reasons = "; ".join(f"{b.worker_id} {refusal(ticket, b)}" for b in boards)
        return f"no worker can run the model: {reasons}"

    def _on_reconnect(self) -> None:
        self._reconnected_at = monotonic()
        self._boards.forgive()

    # ------------------------------------------------------------------ the boards' side

    def _on_claim(self, data: bytes) -> bytes:
        claim = codec.decode(Claim, data)
        held = self._held.get(claim.job_id)
        if held is None or not held.claim(claim.worker_id, claim.attempt, monotonic()):
            return codec.encode(Grant(granted=False))
        log.info(
            "job granted",
            extra={
                "job_id": held.job_id,
                "worker_id": claim.worker_id,
                "attempt": held.attempt,
                "waited_s": round(held.age_s(monotonic()), 3),
            },
        )
        self._tasks.create_task(
            self._bus.say(self._subjects.taken, Taken(job_id=held.job_id, attempt=held.attempt))
        )
        if len(held.body) <= self._bus.max_payload - HEADROOM_BYTES:
            return codec.encode(Grant(granted=True, body=held.job))
        return codec.encode(Grant(granted=True, body_bytes=len(held.body)))

    def _on_body(self, data: bytes) -> bytes:
        request = codec.decode(BodyRequest, data)
        held = self._held.get(request.job_id)
        if held is None or not held.holds(request.worker_id, request.attempt):
            raise UnreachableError("the job is not wanted any more")
        end = request.offset + self._bus.max_payload - HEADROOM_BYTES
        return held.body[request.offset : end]

    def _on_lease(self, data: bytes) -> bytes:
        lease = codec.decode(Lease, data)
        held = self._held.get(lease.job_id)
        if held is None or not held.holds(lease.worker_id, lease.attempt):
            return codec.encode(LeaseReply(wanted=False))
        missing = held.lease(lease.worker_id, lease.attempt, lease.last_seq, monotonic())
        if missing is not None:
            self._ask_replay(held)
        return codec.encode(LeaseReply(wanted=True))

    def _on_finished(self, data: bytes) -> bytes:
        finished = codec.decode(Finished, data)
        held = self._held.get(finished.job_id)
        lacks = (
            held is not None
            and held.holds(finished.worker_id, finished.attempt)
            and held.next_seq <= finished.last_seq
        )
        if held is not None and lacks:
            held.lease_at = monotonic()
            return codec.encode(FinishedReply(replay_from=held.next_seq))
        return codec.encode(FinishedReply())

    def _on_chunk(self, subject: str, data: bytes) -> None:
        job_id, attempt = self._subjects.parse_reply(subject)
        held = self._held.get(job_id)
        if held is None:
            return
        if not held.chunk(attempt, codec.decode_chunk(data), len(data)):
            self._ask_replay(held)
        self._wake[job_id].set()

    def _ask_replay(self, held: HeldJob) -> None:
        if held.job_id in self._replaying:
            return
        self._replaying.add(held.job_id)
        # By the time the task runs, the board may have lost the job.
        subject = self._subjects.worker(held.worker_id, WorkerVerb.REPLAY)
        missing = Replay(job_id=held.job_id, attempt=held.attempt, from_seq=held.next_seq)
        self._tasks.create_task(self._replay(subject, missing))

    async def _replay(self, subject: str, missing: Replay) -> None:
        try:
            await self._bus.ask(subject, missing, Accepted, timeout_s=REPLAY_TIMEOUT_S)
        except RkllamaError as error:
            log.info("replay unheard", extra={"job_id": missing.job_id, "reason": error.message})
        finally:
            self._replaying.discard(missing.job_id)


async def _encoded(job: Job) -> bytes:
    """The job's body, made once: a large one is read in many pieces."""
    images = sum(len(image) for message in job.messages for image in message.images)
    chars = len(job.prompt) + images + sum(len(said.content) for said in job.messages)
    if chars + sum(map(len, job.inputs)) < ENCODE_HERE_CHARS:
        return codec.encode(job)
    return await asyncio.to_thread(codec.encode, job)
