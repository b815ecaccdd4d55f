"""Compiles the emulator: one C11 source for every ABI family, with whatever compiler there is.

`cc`, or else the clang of the PyPI package `ziglang`, which also builds for other machines.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rkllm_bindings._abi import FAMILIES
from rkllm_bindings.errors import RkllmError

LIBRARY_NAME = "librkllmrt.so"
SOURCES = Path(__file__).with_name("src")
FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O1",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-pthread",
    f"-Wl,-soname,{LIBRARY_NAME}",
)
# The oldest glibc each target is linked for, so that a build runs on boards older than its builder.
_ZIG_TARGETS = {"x86_64": "x86_64-linux-gnu.2.17", "aarch64": "aarch64-linux-gnu.2.28"}


class EmulatorBuildError(RkllmError):
    """The emulator could not be compiled."""


def build(
    family: str, out_dir: Path, *, arch: str | None = None, vendor_marker: str | None = None
) -> Path:
    """Build the emulator for a family, once for each state of its source.

    Args:
        family: Such as `abi-1.3.0`.
        out_dir: Where the libraries are kept, each in a folder named by what it was made of.
        arch: `x86_64` or `aarch64`; None for this machine.
        vendor_marker: A version to claim with the vendor's marker instead of the emulator's own: a
            library as somebody else might build it, which identification cannot tell from theirs.

    Returns:
        The path of a `librkllmrt.so`.

    Raises:
        EmulatorBuildError: There is no compiler for that machine, or it failed.
        KeyError: There is no such family.
    """
    number = list(FAMILIES).index(FAMILIES[family].id) + 1
    machine = arch or platform.machine()
    command = [*_compiler(machine), *FLAGS, f"-DRKLLM_ABI={number}"]
    if vendor_marker is not None:
        command.append(f'-DVENDOR_MARKER_VERSION="{vendor_marker}"')
    sources = sorted(SOURCES.glob("*.c"))
    name = hashlib.sha256(
        b"\0".join(path.read_bytes() for path in sorted(SOURCES.iterdir())) + repr(command).encode()
    ).hexdigest()[:12]
    library = out_dir / f"{family}-{machine}-{name}" / LIBRARY_NAME
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / LIBRARY_NAME
        done = subprocess.run(  # noqa: S603 - a compiler of this machine and our own source
            [*command, "-o", str(made), *map(str, sources)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EmulatorBuildError(f"{' '.join(command)}\n{done.stderr}")
        # Builds that run at the same time make the same file; the last one stays.
        made.replace(library)
    return library


def _compiler(machine: str) -> list[str]:
    names = ["cc"] if machine == platform.machine() else [f"{machine}-linux-gnu-gcc"]
    for name in names:
        found = shutil.which(name)
        if found:
            return [found]
    target = _ZIG_TARGETS.get(machine)
    if target and importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", target]
    raise EmulatorBuildError(
        f"no C compiler for {machine}: install {names[0]}, or `pip install ziglang`"
    )
