"""`python -m rkllm_bindings.emulator abi-1.3.0 FOLDER` builds the emulator and prints its path."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rkllm_bindings._abi import FAMILIES
from rkllm_bindings.emulator._build import build


def main() -> None:
    """Build one library."""
    parser = argparse.ArgumentParser(prog="python -m rkllm_bindings.emulator")
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", choices=["x86_64", "aarch64"])
    chosen = parser.parse_args()
    sys.stdout.write(f"{build(chosen.family, chosen.folder, arch=chosen.arch)}\n")


if __name__ == "__main__":
    main()
