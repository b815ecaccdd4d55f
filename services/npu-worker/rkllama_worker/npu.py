"""This worker's NPU: the vendor's library, the device node it has to itself, and its IOMMU domains."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass

from rkllama_board.board import Board
from rkllama_board.cpus import cpus_of
from rkllama_board.domains import allocate
from rkllama_board.errors import NodeBusyError, NodeUnusableError
from rkllama_board.lock import NodeLock, acquire
from rkllama_board.soc import FACTS
from rkllama_protocol.errors import RuntimeFailedError
from rkllama_service.process import SetupError
from rkllm_bindings import Identity

from rkllama_worker.engine.wire import RkllmSpec

log = logging.getLogger(__name__)

MASK_BITS = 32
MOST_CPUS = 8
"""What the library accepts on RK3588 and RK3576 (semantics.md section 11)."""
NODE_WAIT_S = 10.0
"""How long a worker waits for the node: an engine of a worker that died lives for a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Npu:
    """What an engine needs to know to load a `.rkllm` model here."""

    identity: Identity
    abi: str
    """The operator's override, or empty."""
    cpu_mask: int
    first_domain: int
    lock: NodeLock | None
    constrained: bool = False
    """Whether the experiment of constrained runs is on."""
    saves: bool = False
    """Whether conversations are saved."""

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """The lock goes with every engine: an orphan still has the NPU."""
        return () if self.lock is None else (self.lock.fd,)

    def domains_for(self, size_bytes: int, used: Iterable[range]) -> range:
        """The IOMMU domains of a model of this size.

        Raises:
            RuntimeFailedError: They are taken.
        """
        found = allocate(size_bytes, first=self.first_domain, used=used)
        if found is None:
            raise RuntimeFailedError("the NPU's address space (16 domains of 4 GiB) is taken")
        return found

    def spec(self, domains: range) -> RkllmSpec:
        """How the engine loads a model into these domains."""
        return RkllmSpec(
            library=str(self.identity.path),
            abi=self.abi,
            base_domain_id=domains.start,
            cpu_mask=self.cpu_mask,
            constrained=self.constrained,
            saves=self.saves,
        )


def take(
    board: Board, identity: Identity, *, abi: str, explicit: bool, wait_s: float = NODE_WAIT_S
) -> Npu:
    """This board's NPU, for this process alone; blocks for `wait_s` while an orphan still has it.

    `explicit` says that the library was named by a person: then a machine without a device node,
    such as one with the emulator, is a board too.

    Raises:
        SetupError: There is no NPU, or another worker has it.
    """
    facts = FACTS[board.soc] if board.soc else None
    lock: NodeLock | None = None
    if board.npu_node is not None:
        try:
            lock = acquire(board.npu_node, wait_s=wait_s)
        except (NodeBusyError, NodeUnusableError) as error:
            raise SetupError(str(error)) from error
    elif explicit:
        log.warning("no NPU device node; the library is used all the same")
    else:
        raise SetupError("there is no NPU device node here; is the rknpu driver loaded?")
    return Npu(
        identity=identity,
        abi=abi,
        cpu_mask=usable_mask(facts.cpu_mask if facts else 0xF0, os.sched_getaffinity(0)),
        first_domain=facts.first_domain if facts else 1,
        lock=lock,
    )


def usable_mask(mask: int, available: Iterable[int]) -> int:
    """The vendor's CPU mask, or, where a CPU of it is not available, all that are (at most 8).

    Pinning a thread to a CPU outside of the process's set fails (semantics.md section 11).
    """
    cpus = sorted(available)
    if cpus_of(mask) <= set(cpus):
        return mask
    usable = [cpu for cpu in cpus if cpu < MASK_BITS][:MOST_CPUS]
    return sum(1 << cpu for cpu in usable)
