"""Sets of CPUs, as bit masks and as the kernel writes them."""

from __future__ import annotations

from collections.abc import Iterable


def cpus_of(mask: int) -> frozenset[int]:
    """The CPU numbers of a bit mask: 0xF0 is CPUs 4 to 7."""
    return frozenset(number for number in range(mask.bit_length()) if mask >> number & 1)


def parse_cpus(text: str) -> frozenset[int]:
    """The CPUs of a list such as `0-3,6` (cpuset(7), list format)."""
    found: set[int] = set()
    for piece in text.strip().split(","):
        first, _, last = piece.partition("-")
        if first.isdigit() and (last.isdigit() or not last):
            found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_cpus(cpus: Iterable[int]) -> str:
    """The list format of these CPUs."""
    runs: list[list[int]] = []
    for number in sorted(cpus):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
