"""What the machine and its processes did meanwhile, read from proc(5)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20


def _jiffies() -> tuple[int, int]:
    """Of all CPUs since the start: all, and those without work."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def cpu_us(pid: int) -> float:
    """Microseconds on a CPU, over all threads that live (schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(task.read_text().split()[0])
    return total / 1000


def rss_bytes(pid: int) -> int:
    """Resident memory, shared pages counted in full."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def pss_bytes(pid: int) -> int:
    """Resident memory, shared pages counted by share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass
class Watched:
    """A stretch of time: filled in when it is over."""

    seconds: float = 0.0
    busy: float = 0.0
    """Share of all CPUs that had work, whoever's."""
    cpu_us: dict[str, float] = field(default_factory=dict)
    """By process."""


@contextlib.contextmanager
def watched(processes: Mapping[str, int] | None = None) -> Iterator[Watched]:
    """How busy the machine is inside this context, and how much of that is these processes (name to id)."""
    processes = processes or {}
    found = Watched()
    before = {name: cpu_us(pid) for name, pid in processes.items()}
    (all_before, idle_before), began = _jiffies(), time.perf_counter()
    yield found
    (all_after, idle_after), found.seconds = _jiffies(), time.perf_counter() - began
    found.cpu_us = {name: cpu_us(pid) - before[name] for name, pid in processes.items()}
    passed = all_after - all_before
    found.busy = 1 - (idle_after - idle_before) / passed if passed else 1.0
