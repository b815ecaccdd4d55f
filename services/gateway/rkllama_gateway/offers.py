"""What boards are told of the jobs that wait: tickets, said again and again, and taken back.

A job is held back, and no board hears of it, while its key has as many jobs with boards as it may
have, running or offered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from time import monotonic

from rkllama_policy.cost import large_blobs, prompt_tokens, refusal, weights_bytes
from rkllama_protocol.beats import Observer
from rkllama_protocol.bus import Bus
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import Taken, Ticket, WorkerBeat
from rkllama_protocol.names import Digest
from rkllama_protocol.subjects import Subjects

from rkllama_gateway.job import HeldJob


class Offers:
    """Says what this gateway's jobs are."""

    def __init__(
        self,
        *,
        gateway_id: str,
        bus: Bus,
        subjects: Subjects,
        boards: Observer[WorkerBeat],
        running_per_key: int,
    ) -> None:
        """`running_per_key` is how many jobs of a key boards may know of; 0 is no bound."""
        self._gateway_id = gateway_id
        self._bus = bus
        self._subjects = subjects
        self._boards = boards
        self._running_per_key = running_per_key

    def ticket(self, held: HeldJob) -> Ticket:
        """The job as boards hear of it now."""
        job = held.job
        return Ticket(
            job_id=job.job_id,
            attempt=held.attempt,
            job_class=held.job_class,
            model=job.model.digest,
            model_format=job.model.details.format,
            weights_bytes=weights_bytes(job.model),
            blobs=large_blobs(job.model),
            num_ctx=job.num_ctx,
            age_s=held.age_s(monotonic()),
            order=held.order,
            prompt_tokens=prompt_tokens(job),
            chain=held.chain,
            num_predict=job.num_predict if job.generates else 0,
            gateway_id=self._gateway_id,
        )

    async def say_new(self, jobs: Iterable[HeldJob]) -> None:
        """Offer those of this gateway's `jobs` that boards have not heard of, and now may, in order."""
        jobs = tuple(jobs)
        known = Counter(held.key for held in jobs if held.offered and not held.ended)
        for held in jobs:
            if held.offered or held.state is not JobState.WAITING:
                continue
            if held.key is not None and 0 < self._running_per_key <= known[held.key]:
                continue
            held.offered = True
            known[held.key] += 1
            await self.say(held)

    async def say_again(self, jobs: Iterable[HeldJob]) -> None:
        """Repeat every offer that stands: boards forget what they have not heard for a while."""
        for held in tuple(jobs):
            if held.offered:
                await self.say(held)

    async def say(self, held: HeldJob) -> None:
        """Offer a job, if it waits."""
        if held.state is not JobState.WAITING:
            return
        ticket = self.ticket(held)
        await self._bus.say(
            self._subjects.offer(held.job_class, Digest.parse(ticket.model)), ticket
        )
        refusals = [refusal(ticket, beat) for beat in self._boards.living()]
        if any(not reason for reason in refusals):
            held.unservable_since = None
        elif held.unservable_since is None:
            held.unservable_since = monotonic()

    async def take_back(self, held: HeldJob) -> None:
        """Tell boards that this attempt, and every earlier one, is no longer offered."""
        await self._bus.say(self._subjects.taken, Taken(job_id=held.job_id, attempt=held.attempt))

    def nobody_else(self, held: HeldJob, worker_id: str) -> bool:
        """Whether no board but `worker_id` could run the job."""
        ticket = self.ticket(held)
        others = (board for board in self._boards.living() if board.worker_id != worker_id)
        return all(refusal(ticket, board) for board in others)

    def why_unservable(self, held: HeldJob) -> str:
        """The sentence for a client whose job no board can run."""
        boards = self._boards.living()
        if not boards:
            return "no worker is connected to run the model"
        ticket = self.ticket(held)
        reasons = "; ".join(f"{b.worker_id} {refusal(ticket, b)}" for b in boards)
        return f"no worker can run the model: {reasons}"
