"""How everybody is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rkllama_protocol.messages.base import DigestText, Message, Part, Token
from rkllama_protocol.messages.models import ModelDetails
from rkllama_protocol.subjects import JobClass, Role


class ResidentModel(Part):
    """A model that a board holds, or is loading."""

    digest: DigestText
    name: str
    full_name: str
    details: ModelDetails
    size: int
    """Bytes in use, all memory."""
    size_vram: int
    """Bytes of it that the accelerator uses."""
    context_length: int
    """Tokens; 0 while it loads."""
    context_limit: int | None = None
    """Tokens that its file was made for, where only loading it tells."""
    num_ctx: int | None = None
    """What the job that loaded it asked for; the model may have been able to give less."""
    state: Literal["loading", "ready", "unloading"]
    expires_in_s: float | None
    """None: never."""
    runs: int = 0
    """Jobs running on it now."""
    holds: tuple[str, ...] = ()
    """Hashes of the prefixes of conversations that it need not read again."""


class RunningJob(Part):
    """What a board runs now."""

    job_id: Token
    model: DigestText
    left_s: float
    """Predicted seconds until the board is free."""
    overdue_s: float = 0.0
    """The least that is left while it goes on: how long an answer goes on that gets longer than usual."""


class Speed(Part):
    """What a board has learned of a model; seconds."""

    model: DigestText
    load_s: float | None = None
    prefill_s_per_token: float | None = None
    decode_s_per_token: float | None = None
    tokens_per_answer: float | None = None
    restore_s: float | None = None
    """To put a saved conversation back into its context."""


class WorkerBeat(Message):
    """A worker's word about itself, once a second and on every change."""

    worker_id: Token
    ready: bool
    draining: bool = False
    runtimes: tuple[str, ...] = ()
    """Model formats it can run: `gguf`, `rkllm`."""
    platform: str = ""
    memory_bytes: int = 0
    """What it may use for models."""
    max_models: int = 0
    """Most that are loaded at one time; 0 for as many as fit."""
    models: tuple[ResidentModel, ...] = ()
    running: RunningJob | None = None
    speeds: tuple[Speed, ...] = ()
    saved: tuple[str, ...] = ()
    """Hashes of the conversations whose contexts are kept here in files, of any model."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Manifest digest to the sentence why it did not load here."""
    shares_store: bool = False
    """The store's folder is on this machine: nothing has to be fetched."""
    blobs: dict[DigestText, int] = Field(default_factory=dict)
    """The large files that were fetched, last used first, digest to the bytes that are here."""
    fetch_bytes_per_s: float | None = None
    """What fetching from the store brought, if any did."""
    http_url: str = ""

    @property
    def process_id(self) -> str:
        """Who says it: the last part of the beat's subject."""
        return self.worker_id


class StoreBeat(Message):
    """The store's word about itself."""

    store_id: Token
    ready: bool
    http_url: str
    """Where blobs are read and written."""

    @property
    def process_id(self) -> str:
        """Who says it: the last part of the beat's subject."""
        return self.store_id


class QueuedModel(Part):
    """The jobs of one model and class that wait in a gateway."""

    model: DigestText
    name: str
    """As it is shown."""
    job_class: JobClass
    waiting: int
    work_s: float
    """Predicted seconds that they will keep boards busy for, together."""
    wait_s: float | None
    """Predicted seconds to the first token of the last of them; None if no board can run it."""


class GatewayBeat(Message):
    """A gateway's word about itself."""

    gateway_id: Token
    ready: bool
    waiting: int
    running: int
    queues: tuple[QueuedModel, ...] = ()
    """What waits; of many models the longest queues."""

    @property
    def process_id(self) -> str:
        """Who says it: the last part of the beat's subject."""
        return self.gateway_id


Beat = WorkerBeat | StoreBeat | GatewayBeat

BEAT_BY_ROLE: dict[Role, type[WorkerBeat] | type[StoreBeat] | type[GatewayBeat]] = {
    "worker": WorkerBeat,
    "store": StoreBeat,
    "gateway": GatewayBeat,
}
