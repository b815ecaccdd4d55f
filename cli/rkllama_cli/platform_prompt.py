"""Which SoC this is, asked of the person at the terminal when nothing else tells.

--runtime rkllm?  no --> nobody asks
  RKLLAMA_PLATFORM set? --> it has to be a SoC that is known
    detected? --> nobody asks
      terminal? no --> exit 2, naming the variable; yes --> the prompt, 1 or 2
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from rkllama_board import PLATFORM_VARIABLE, Board, Soc, detect
from rkllama_service.process import SetupError

log = logging.getLogger(__name__)

CHOICES = {"1": Soc.RK3588, "2": Soc.RK3576}
QUESTION = f"Enter selection (1-{len(CHOICES)}):"
MENU = "\n".join(
    [
        "CPU model not detected automatically.",
        "Please select your CPU model:",
        *(f"{number}) {soc}" for number, soc in CHOICES.items()),
    ]
)
_READ_BYTES = 4096


def unknown(board: Board, *, runtime: str) -> bool:
    """Whether a person has to say which SoC this is; `board` was detected with the variable's text.

    Raises:
        SetupError: The variable names no SoC that is known.
    """
    if runtime != "rkllm":
        return False
    if board.setting and board.setting_soc is None:
        raise SetupError(f"{PLATFORM_VARIABLE} is {board.setting!r}; it can be {_known()}")
    return board.soc is None


def chosen(answer: str) -> Soc | None:
    """The SoC of a line that was typed, or None if it is no choice."""
    return CHOICES.get(answer.strip())


def with_platform(environ: dict[str, str], soc: Soc | None) -> dict[str, str]:
    """The environment of the children, which are told what the person chose."""
    return environ if soc is None else environ | {PLATFORM_VARIABLE: soc.value}


async def choose(runtime: str, setting: str, *, library_named: bool) -> Soc | None:
    """Ask, if it has to be asked; None if it had not, or nobody can be.

    Args:
        runtime: `auto`, `rkllm` or `cpu`; only `rkllm` asks.
        setting: What the variable says, or empty.
        library_named: A person named the library: without a terminal the worker runs all the same, since a
            machine without an NPU, such as one with the emulator, is then meant.

    Raises:
        SetupError: Nobody is there to ask, or the input ended.
    """
    if not unknown(detect(platform=setting), runtime=runtime):
        return None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        if library_named:
            log.warning("SoC not detected", extra={"variable": PLATFORM_VARIABLE})
            return None
        raise SetupError(
            f"the SoC was not detected; set {PLATFORM_VARIABLE} to one of {_known()}, or use a terminal"
        )
    print(MENU)
    while True:
        print(QUESTION, end=" ", flush=True)
        if (soc := chosen(await _line())) is not None:
            return soc


def _known() -> str:
    return ", ".join(Soc)


async def _line() -> str:
    """One line from the terminal, which gives whole lines; waiting for it can be cancelled."""
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    try:
        data = os.read(fd, _READ_BYTES)
    except OSError:
        data = b""  # The terminal was closed.
    if not data:
        raise SetupError(f"no CPU model was selected; set {PLATFORM_VARIABLE} to one of {_known()}")
    return data.decode(errors="replace")
