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

from rkllama_policy.affinity import affinity
from rkllama_policy.conversation import chain
from rkllama_protocol import codec
from rkllama_protocol.beats import Observer
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    ExpiredError,
    InvalidJobError,
    NoWorkerError,
    OverloadedError,
    RkllamaError,
    UnreachableError,
)
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import (
    BodyRequest,
    Claim,
    Finished,
    FinishedReply,
    Grant,
    Job,
    Lease,
    LeaseReply,
    Link,
    WorkerBeat,
)
from rkllama_protocol.subjects import ANY, GatewayVerb, Subjects

from rkllama_gateway.admission import Admission, Terms
from rkllama_gateway.job import HeldJob, Loss
from rkllama_gateway.metrics import Metrics
from rkllama_gateway.offers import Offers
from rkllama_gateway.orders import Orders

log = logging.getLogger(__name__)

OFFER_INTERVAL_S = 1.0
TICK_S = 0.25
STOOD_STILL_S = 1.0
"""A gateway that did not look at its jobs for so long was stopped itself, or its machine was."""
ALL_BUFFERS_BYTES = 64 * 2**20
"""What all jobs together hold for clients that read too slowly."""
SMALL_BUFFER_BYTES = 256 * 2**10
"""A job that holds less does not have anybody look at the others."""
HEADROOM_BYTES = 8192
"""Left of `max_payload` for a grant's envelope."""
ENCODE_HERE_CHARS = 2**20
"""A job with more text than this is encoded, and hashed, in a thread."""


class Jobs:
    """Every job of this gateway. All methods run on its event loop."""

    def __init__(
        self,
        *,
        gateway_id: str,
        bus: Bus,
        subjects: Subjects,
        boards: Observer[WorkerBeat],
        offers: Offers,
        admission: Admission,
        metrics: Metrics,
        tasks: asyncio.TaskGroup,
        no_worker_s: float,
    ) -> None:
        self._gateway_id = gateway_id
        self._bus = bus
        self._subjects = subjects
        self._boards = boards
        self._tasks = tasks
        self._offers = offers
        self._orders = Orders(bus=bus, subjects=subjects, tasks=tasks)
        self._admission = admission
        self._metrics = metrics
        self._no_worker_s = no_worker_s
        self._held: dict[str, HeldJob] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._order = 0
        self.idle = asyncio.Event()
        """No job is held."""
        self.idle.set()
        self._reconnected_at = -math.inf

    async def listen(self) -> None:
        """Answer boards, and hear chunks."""
        subjects, me, bus = self._subjects, self._gateway_id, self._bus
        await bus.answer(subjects.gateway(me, ANY, GatewayVerb.CLAIM), self._on_claim)
        await bus.answer(subjects.gateway(me, ANY, GatewayVerb.BODY), self._on_body)
        await bus.answer(subjects.gateway(me, ANY, GatewayVerb.LEASE), self._on_lease)
        await bus.answer(subjects.gateway(me, ANY, GatewayVerb.FINISHED), self._on_finished)
        await bus.subscribe(subjects.replies(me), self._on_chunk)
        bus.on_reconnect(self._on_reconnect)

    async def watch(self) -> None:
        """Repeat offers, and notice boards that are gone, for ever."""
        offered_at, looked_at = 0.0, monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = monotonic()
            if now - looked_at > STOOD_STILL_S:
                # What boards said in that time is yet to be read.
                self._on_reconnect()
            looked_at = now
            again = now - offered_at >= OFFER_INTERVAL_S
            if again:
                offered_at = now
            if not self._bus.connected:
                continue
            for held in tuple(self._held.values()):
                if held.job_id not in self._held:
                    # It was let go while another one was seen to.
                    continue
                worker_id = held.worker_id
                if held.lease_lost(now, reconnected_at=self._reconnected_at):
                    await self._next_attempt(held, worker_id)
                elif held.expired(now):
                    self._wake[held.job_id].set()
                elif again:
                    self._give_up(held, now)
            if again:
                await self._offers.say_again(self.held())

    def held(self) -> tuple[HeldJob, ...]:
        """Every job, the oldest first."""
        return tuple(self._held.values())

    def counts(self) -> Counter[JobState]:
        """How many jobs are in each state."""
        return Counter(held.state for held in self._held.values())

    # ------------------------------------------------------------------ the client's side

    async def submit(self, job: Job, terms: Terms) -> HeldJob:
        """Take a job in and offer it. Whoever submits must `release`.

        Raises:
            OverloadedError: Too many jobs wait for this model, or of this key.
            ExpiredError: It could not begin before its deadline.
        """
        # Keys have names; a request without one is nobody's.
        body, links = await _prepared(job, salt=terms.key or "")
        now = monotonic()
        held = HeldJob(
            job=job,
            body=body,
            job_class=terms.job_class,
            order=self._order + 1,
            accepted_at=now,
            key=terms.key,
            chain=links,
            deadline_at=now + self._admission.deadline_s(terms),
        )
        self._metrics.accepted(job.model.name)
        try:
            held.place = self._admission.admit(held, terms, self._held.values())
        except (OverloadedError, ExpiredError) as error:
            self._metrics.not_admitted(job.model.name, error)
            raise
        self._order += 1
        self._held[job.job_id] = held
        self.idle.clear()
        self._wake[job.job_id] = asyncio.Event()
        log.info(
            "job accepted",
            extra={"job_id": job.job_id, "model": job.model.name, "ahead": held.place.ahead},
        )
        await self._offers.say_new(self.held())
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
        # Its key may have another one that was held back.
        await self._offers.say_new(self.held())
        if held.error is not None:
            # Its traceback knows frames that know the job: a large body would stay until they are collected.
            held.error.__traceback__ = None
        if held.ended and held.error is None:
            return
        held.cancel()
        await self._offers.take_back(held)
        if held.worker_id:
            self._orders.cancel(held, held.worker_id)

    def fail_all(self, error: RkllamaError) -> None:
        """End every job with `error`: each client is told."""
        for held in self._held.values():
            held.fail(error)
            self._wake[held.job_id].set()

    async def _next_attempt(self, held: HeldJob, worker_id: str) -> None:
        """Offer a job that `worker_id` did not bring to its end, or tell its client that it failed."""
        loss = held.losses[-1]
        if loss is Loss.LOAD and self._offers.nobody_else(held, worker_id):
            held.give_up()
        self._metrics.lost(held)
        log.warning(
            "attempt lost",
            extra={
                "job_id": held.job_id,
                "model": held.job.model.name,
                "worker_id": worker_id,
                "reason": loss,
                "given_up": held.ended,
            },
        )
        if held.ended:
            # Its client may have gone in the meantime.
            if (wake := self._wake.get(held.job_id)) is not None:
                wake.set()
            return
        held.body = codec.encode(held.job)
        await self._offers.say(held)

    def _give_up(self, held: HeldJob, now: float) -> None:
        since = held.unservable_since
        if held.state is not JobState.WAITING or since is None:
            return
        if now - since >= self._no_worker_s:
            held.fail(NoWorkerError(self._offers.why_unservable(held)))
            self._wake[held.job_id].set()

    def _on_reconnect(self) -> None:
        self._reconnected_at = monotonic()
        self._boards.forgive()
        self._admission.forgive()

    # ------------------------------------------------------------------ the boards' side

    def _check_asker(self, subject: str, worker_id: str) -> None:
        """The broker lets a board publish under its own name; that has to be the one it gives."""
        if (asker := self._subjects.parse_asker(subject)) != worker_id:
            raise InvalidJobError(f"the worker {asker} spoke as {worker_id}")

    def _on_claim(self, subject: str, data: bytes) -> bytes:
        claim = codec.decode(Claim, data)
        self._check_asker(subject, claim.worker_id)
        held = self._held.get(claim.job_id)
        if held is None or not held.claim(claim.worker_id, claim.attempt, monotonic()):
            return codec.encode(Grant(granted=False))
        waited_s = held.age_s(monotonic())
        if held.attempt == 1:
            self._note_grant(held, claim.worker_id, waited_s)
        log.info(
            "job granted",
            extra={
                "job_id": held.job_id,
                "model": held.job.model.name,
                "worker_id": claim.worker_id,
                "attempt": held.attempt,
                "waited_s": round(waited_s, 3),
            },
        )
        self._tasks.create_task(self._offers.take_back(held))
        if len(held.body) <= self._bus.max_payload - HEADROOM_BYTES:
            return codec.encode(Grant(granted=True, body=held.job))
        return codec.encode(Grant(granted=True, body_bytes=len(held.body)))

    def _note_grant(self, held: HeldJob, worker_id: str, waited_s: float) -> None:
        result = None
        if held.chain:
            ticket = self._offers.ticket(held)
            result = affinity(ticket, worker_id, self._boards.living())
        self._metrics.granted(held, waited_s, result)

    def _on_body(self, subject: str, data: bytes) -> bytes:
        request = codec.decode(BodyRequest, data)
        self._check_asker(subject, request.worker_id)
        held = self._held.get(request.job_id)
        if held is None or not held.holds(request.worker_id, request.attempt):
            raise UnreachableError("the job is not wanted any more")
        end = request.offset + self._bus.max_payload - HEADROOM_BYTES
        return held.body[request.offset : end]

    def _on_lease(self, subject: str, data: bytes) -> bytes:
        lease = codec.decode(Lease, data)
        self._check_asker(subject, lease.worker_id)
        held = self._held.get(lease.job_id)
        if held is None or not held.holds(lease.worker_id, lease.attempt):
            return codec.encode(LeaseReply(wanted=False))
        missing = held.lease(lease.worker_id, lease.attempt, lease.last_seq, monotonic())
        if missing is not None:
            self._orders.replay(held)
        return codec.encode(LeaseReply(wanted=True))

    def _on_finished(self, subject: str, data: bytes) -> bytes:
        finished = codec.decode(Finished, data)
        self._check_asker(subject, finished.worker_id)
        held = self._held.get(finished.job_id)
        if held is None or not held.holds(finished.worker_id, finished.attempt):
            return codec.encode(FinishedReply())
        if held.next_seq <= finished.last_seq:
            held.lease_at = monotonic()
            return codec.encode(FinishedReply(replay_from=held.next_seq))
        if finished.reason == "released":
            held.released()
            self._tasks.create_task(self._next_attempt(held, finished.worker_id))
        return codec.encode(FinishedReply())

    def _on_chunk(self, subject: str, data: bytes) -> None:
        speaker, job_id, attempt = self._subjects.parse_reply(subject)
        held = self._held.get(job_id)
        # A board's chunks are heard under its own name only, which the broker vouches for.
        if held is None or held.worker_id != speaker:
            return
        worker_id, lost = held.worker_id, len(held.losses)
        if not held.chunk(attempt, codec.decode_chunk(data), len(data)):
            self._orders.replay(held)
        if len(held.losses) > lost:
            self._tasks.create_task(self._next_attempt(held, worker_id))
        self._wake[job_id].set()
        if held.buffered_bytes > SMALL_BUFFER_BYTES:
            self._make_room()

    def _make_room(self) -> None:
        """Cut the slowest clients off where what is held for all of them is too much."""
        slow = [held for held in self._held.values() if not held.ended]
        excess = sum(held.buffered_bytes for held in self._held.values()) - ALL_BUFFERS_BYTES
        if excess <= 0 or not slow:
            return
        slowest = max(slow, key=lambda held: held.buffered_bytes)
        log.warning(
            "slow client cut off",
            extra={"job_id": slowest.job_id, "buffered_bytes": slowest.buffered_bytes},
        )
        slowest.cut_off()
        self._wake[slowest.job_id].set()


async def _prepared(job: Job, *, salt: str) -> tuple[bytes, tuple[Link, ...]]:
    """The job's body, made once, for a large one is read in many pieces; and its conversation."""
    images = sum(len(image) for message in job.messages for image in message.images)
    chars = len(job.prompt) + images + sum(len(said.content) for said in job.messages)

    def prepare() -> tuple[bytes, tuple[Link, ...]]:
        return codec.encode(job), chain(job, salt=salt)

    if chars + sum(map(len, job.inputs)) < ENCODE_HERE_CHARS:
        return prepare()
    return await asyncio.to_thread(prepare)
