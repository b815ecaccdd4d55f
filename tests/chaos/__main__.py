"""`python -m tests.chaos [--seconds 60] [--seed N]`: run chaos, print the figures, fail if any promise broke."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Run, and say how it went."""
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, help="a folder for logs and traces, which stay")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        report = run(options.keep or Path(folder), seed=seed, seconds=options.seconds)
    print(report)
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
