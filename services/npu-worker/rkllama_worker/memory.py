"""How much memory there is for models: the machine's, or what its container may use."""

from __future__ import annotations

import os
from pathlib import Path

SHARE = 0.8
"""Of it; the rest is for engines without their weights, and for everything else."""
_LIMITS = (
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Of the container itself, in the second and the first version of control groups (cgroups(7))."""


def machine_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def for_models(machine: int, root: Path = Path("/")) -> int:
    """Bytes that models may use where nobody says, below `machine` bytes and a container's limit.

    Unlimited is the word `max`, or a number that no machine has.
    """
    return int(min([machine, *_limits(root)]) * SHARE)


def _limits(root: Path) -> list[int]:
    found = []
    for name in _LIMITS:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text))
    return found
