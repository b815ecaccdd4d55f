"""`make bench`: what the stack costs beside the bare runtime, in one run on one machine (README.md)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import first_token, footprint, pace, plots, scaling, stores, tokens
from bench.figures import Figure
from bench.machine import watched
from bench.table import earlier, row


@dataclass(frozen=True, slots=True)
class Family:
    """One of the six measures."""

    measure: Callable[[int], Iterator[Figure]]
    rounds: int
    """How often it repeats what it does, unless it is told."""


FAMILIES = {
    "first-token": Family(first_token.measure, 40),
    "tokens": Family(tokens.measure, 5),
    "efficiency": Family(pace.measure, 5),
    "scaling": Family(scaling.measure, 3),
    "footprint": Family(footprint.measure, 5),
    "store": Family(stores.measure, 3),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write figures and plots."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("--only", action="append", choices=FAMILIES, help="may be repeated")
    arguments.add_argument("--rounds", type=int, help="instead of each family's own number")
    arguments.add_argument("--previous", type=Path, metavar="FILE", help="results to compare with")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = arguments.parse_args(argv)
    before = earlier(given.previous)
    found: list[Figure] = []
    busy: dict[str, float] = {}
    report: dict[str, object] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "busy": busy,
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    for name in given.only or FAMILIES:
        family = FAMILIES[name]
        print(f"\n{name}")
        with watched() as machine:
            for figure in family.measure(given.rounds or family.rounds):
                print(row(figure, before), flush=True)
                found.append(figure)
        busy[name] = round(machine.busy, 3)
        print(f"  {machine.seconds:.0f} s, machine {machine.busy:.0%} busy")
    _write(given.out, report | {"figures": {figure.key: figure.as_json() for figure in found}})
    for family_name in dict.fromkeys(figure.family for figure in found):
        of_family = [figure for figure in found if figure.family == family_name]
        plots.draw(of_family, given.out / f"{family_name.replace(' ', '-')}.png")
    missed = [figure.key for figure in found if figure.held is False]
    print(f"\ngoals missed: {', '.join(missed) or 'none'}\nwritten to {given.out}")


def _write(folder: Path, report: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y-%m-%d')}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
