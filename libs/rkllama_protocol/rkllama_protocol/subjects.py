"""The subjects of the bus: the only module that spells one (grammar in ADR 0002).

    <p>.offers.<class>.<model>              gateway -> workers   publish
    <p>.taken                               gateway -> workers   publish
    <p>.gateway.<id>.<worker>.<verb>        worker -> gateway    request
    <p>.reply.<gateway>.<worker>.<job>.<attempt>   worker -> gateway    publish
    <p>.worker.<id>.<verb>                  gateway -> worker    request
    <p>.store.<verb>                        anyone -> store      request
    <p>.progress.<id>                       store -> asker       publish
    <p>.events.model.<verb>                 store -> all         publish
    <p>.beats.<role>.<id>                   all -> all           publish

`<p>` is the prefix, `rkllama` unless configured. Every other part is one token of letters, digits,
`_` and `-`; `<model>` is the first 16 hexadecimal digits of the manifest digest. Whoever publishes
stands in the subject, so that the broker can hold everybody to their own name (`permissions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from rkllama_protocol.names import Digest, token


class JobClass(StrEnum):
    """In which lane a job waits; boards take `resume` first and `batch` last."""

    RESUME = "resume"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class GatewayVerb(StrEnum):
    """What a worker asks of the gateway that offered a job."""

    CLAIM = "claim"
    BODY = "body"
    LEASE = "lease"
    FINISHED = "finished"


class WorkerVerb(StrEnum):
    """What a gateway or an administrator asks of one worker."""

    CANCEL = "cancel"
    REPLAY = "replay"
    KEEP = "keep"
    UNLOAD = "unload"
    DRAIN = "drain"
    STATUS = "status"


class StoreVerb(StrEnum):
    """What anyone asks of the model store."""

    RESOLVE = "resolve"
    TAGS = "tags"
    SHOW = "show"
    COPY = "copy"
    DELETE = "delete"
    CREATE = "create"
    PULL = "pull"
    VERIFY = "verify"
    CANCEL = "cancel"


class ModelEvent(StrEnum):
    """What happened to a name in the store."""

    CREATED = "created"
    DELETED = "deleted"


Role = Literal["gateway", "worker", "store"]

ANY = "*"
"""Stands for every id, where permissions and listeners mean all of them."""


def _id(text: str) -> str:
    return text if text == ANY else token(text)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Builds and reads the subjects under one prefix."""

    prefix: str = "rkllama"

    def __post_init__(self) -> None:
        for part in self.prefix.split("."):
            token(part)

    def offer(self, job_class: JobClass, model: Digest) -> str:
        """Where a ticket of this class and model is published."""
        return f"{self.prefix}.offers.{job_class.value}.{model.hex[:16]}"

    def offers_of(self, job_class: JobClass) -> str:
        """Offers of one class, of any model."""
        return f"{self.prefix}.offers.{job_class.value}.*"

    @property
    def offers(self) -> str:
        """What a worker listens to for every offer."""
        return f"{self.prefix}.offers.*.*"

    @property
    def taken(self) -> str:
        """Where a gateway says that a job is no longer offered."""
        return f"{self.prefix}.taken"

    def gateway(self, gateway_id: str, worker_id: str, verb: GatewayVerb) -> str:
        """Where a worker asks `verb` of one gateway; `ANY` stands for every id."""
        return f"{self.prefix}.gateway.{_id(gateway_id)}.{_id(worker_id)}.{verb.value}"

    @staticmethod
    def parse_asker(subject: str) -> str:
        """The worker that asks on a gateway's subject."""
        return subject.rsplit(".", 2)[1]

    def reply(self, gateway_id: str, worker_id: str, job_id: str, attempt: int) -> str:
        """Where the chunks of one attempt go."""
        ids = f"{token(gateway_id)}.{token(worker_id)}.{token(job_id)}"
        return f"{self.prefix}.reply.{ids}.{attempt:d}"

    def replies(self, gateway_id: str, worker_id: str = ANY) -> str:
        """What a gateway listens to for the chunks of all its jobs."""
        return f"{self.prefix}.reply.{_id(gateway_id)}.{_id(worker_id)}.*.*"

    @staticmethod
    def parse_reply(subject: str) -> tuple[str, str, int]:
        """Worker, job and attempt of a reply subject."""
        _, worker_id, job_id, attempt = subject.rsplit(".", 3)
        return worker_id, job_id, int(attempt)

    def worker(self, worker_id: str, verb: WorkerVerb) -> str:
        """Where one worker answers `verb`; `ANY` stands for every worker."""
        return f"{self.prefix}.worker.{_id(worker_id)}.{verb.value}"

    def store(self, verb: StoreVerb) -> str:
        """Where the store answers `verb`."""
        return f"{self.prefix}.store.{verb.value}"

    def progress(self, stream_id: str) -> str:
        """Where the store streams the records of one pull or create; `ANY` stands for every one."""
        return f"{self.prefix}.progress.{_id(stream_id)}"

    def event(self, event: ModelEvent) -> str:
        """Where the store says what happened to a name."""
        return f"{self.prefix}.events.model.{event.value}"

    @property
    def events(self) -> str:
        """What caches of names listen to."""
        return f"{self.prefix}.events.model.*"

    def beat(self, role: Role, process_id: str) -> str:
        """Where a process says once a second how it is; `ANY` stands for every process."""
        return f"{self.prefix}.beats.{role}.{_id(process_id)}"

    @staticmethod
    def parse_beat(subject: str) -> str:
        """The process whose beat this is."""
        return subject.rpartition(".")[2]

    def beats(self, role: Role | None = None) -> str:
        """What observers of a role, or of every role, listen to."""
        return f"{self.prefix}.beats.{role or '*'}.*"
