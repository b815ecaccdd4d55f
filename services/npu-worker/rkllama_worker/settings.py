"""What the worker can be told from outside. Read once, in `__main__`."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rkllama_worker import memory
from rkllama_worker.runtimes import RuntimeChoice


def _worker_id() -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "worker"


def _memory_limit_bytes() -> int:
    return memory.for_models(memory.machine_bytes())


class Settings(BaseSettings):
    """One worker. Each field is the variable `RKLLAMA_WORKER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="RKLLAMA_WORKER_", frozen=True)

    worker_id: str = Field(default_factory=_worker_id, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name of the board on the bus; the host name if none is given. Dots become dashes."""
    runtime: RuntimeChoice = RuntimeChoice.AUTO
    """`auto` offers every runtime that can be loaded, `cpu` and `rkllm` only that one."""
    npu_node: Path | None = None
    """Device node of the NPU, where it is not found by itself; this worker has it to itself."""
    rkllm_constrained: bool = False
    """Experimental: hold answers on the NPU to a format token by token, through the logits; also tells `logprobs`."""
    http_host: str = "127.0.0.1"
    """Address of the port for probes and metrics."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """Port for probes and metrics; 0 takes a free one."""
    memory_limit_bytes: int = Field(default_factory=_memory_limit_bytes, gt=0)
    """What models may use; four fifths of the machine's memory, or of its container's limit, if nothing is said."""
    max_models: int = Field(default=0, ge=0)
    """Most models that are loaded at one time; 0 for as many as fit."""
    keep_alive_s: float = 300.0
    """How long an idle model stays when the request does not say; negative is for ever."""
    load_timeout_s: float = Field(default=300.0, gt=0)
    """How long a load may take."""
    cache_dir: Path | None = None
    """Folder of files that are fetched from a store on another machine; `cache/<worker id>` in `RKLLAMA_DATA` if nothing is said."""
    cache_bytes: int | None = Field(default=None, gt=0)
    """Most bytes of them, of which the least used go first; what the disk has if nothing is said."""
    saved_dir: Path | None = None
    """Folder of conversations whose contexts are kept in files, of this worker alone; `saved/<worker id>` in `RKLLAMA_DATA` if nothing is said."""
    saved_bytes: int = Field(default=2**30, ge=0)
    """Most bytes of them, of which the least used go first; 0 keeps none."""
    saved_age_s: float = Field(default=3600.0, gt=0)
    """How long one is kept that nobody goes on with."""
    rkllm_saved: bool = False
    """Keep conversations of models on the NPU too: `rkllama doctor` measures whether its library can, and how fast."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long a worker that is told to stop lets its run go on."""
    stall_s: float = Field(default=20.0, gt=0)
    """How long an engine may be silent, beside the time its prompt takes, before it is held to hang."""
    subject_prefix: str = "rkllama"
    """First part of every subject on the bus."""

    @field_validator("worker_id", mode="before")
    @classmethod
    def _is_one_part_of_a_subject(cls, value: str) -> str:
        # Machines and Kubernetes' nodes are often named with their domain.
        return value.replace(".", "-")
