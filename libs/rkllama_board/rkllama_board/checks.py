"""What is wrong with a board, and how to mend it: pure functions from facts to findings.

Advice on driver versions, groups, cpusets and clocks is that of the manual of runtime 1.3.0, the rknpu driver's
source, the vendor's scripts, and users' reports; none of it was tried on a board.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rkllama_board.board import PLATFORM_VARIABLE, Board, Clock, NodeKind
from rkllama_board.cpus import cpus_of, format_cpus
from rkllama_board.domains import DOMAINS, domains_needed
from rkllama_board.soc import Soc, parse_soc

OLDEST_DRIVER = (0, 9, 6)
"""Below it, loading may seem to succeed and the first run crashes (users' reports)."""
QUIET_DRIVER = (0, 9, 7)
"""Below it, runtimes from 1.1.4 to 1.3.0 print a warning (their logs)."""
BEST_DRIVER = (0, 9, 8)
"""What the manuals from 1.1.0 on ask for."""
SMALLEST_MODEL_BYTES = 2**30
"""Room for the smallest models of the vendor's tables (0.3 to 0.8 GB) and the engine around them."""

_SOCS = ", ".join(Soc)
_KERNEL = "boot the vendor's kernel (5.10 or 6.1) with the rknpu driver 0.9.8"


class Level(StrEnum):
    """How bad it is: `error` means that models will not run."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    topic: str
    """`soc`, `node`, `driver`, `clocks`, `cpus`, `memory`, `library` or `model`."""
    text: str
    """What was found: a sentence without its full stop."""
    mend: str = ""
    """What to do about it; empty if there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryFacts:
    """What somebody else found out of `librkllmrt.so`."""

    path: str
    version: str = ""
    family: str = ""
    emulator: bool = False
    """It is the emulator, which needs no board."""
    named: bool = False
    """The operator named it; a worker then runs without a node too."""
    problem: str = ""
    """Why it cannot be used; a sentence without its full stop."""


def check(board: Board, *, library: LibraryFacts | None = None) -> list[Finding]:
    """Everything about the board itself, in the order in which a person would mend it."""
    named = library is not None and (library.named or library.emulator)
    emulator = library is not None and library.emulator
    return [
        *check_soc(board, needed=not emulator),
        *check_node(board, needed=not named),
        *check_driver(board),
        *(check_library(library) if library is not None else ()),
        *check_memory(board),
        *check_cpus(board),
        *check_clocks(board),
    ]


def check_soc(board: Board, *, needed: bool = True) -> Iterator[Finding]:
    """The chip, and what the operator said of it."""
    if board.soc is None:
        said = f"; {PLATFORM_VARIABLE} says {board.setting!r}" if board.setting else ""
        yield Finding(
            level=Level.ERROR if needed else Level.WARN,
            topic="soc",
            text=f"the SoC is unknown{said}",
            mend=f"set {PLATFORM_VARIABLE} to one of {_SOCS}",
        )
        return
    text = f"{board.soc_part}, told by {board.soc_source}; {board.npu_cores} NPU cores"
    if board.soc_part != board.soc:
        text = f"{board.soc_part} (a {board.soc}), told by {board.soc_source}; {board.npu_cores} NPU cores"
    yield Finding(level=Level.OK, topic="soc", text=text.replace("; 1 NPU cores", "; 1 NPU core"))
    if board.setting and board.setting_soc is not board.soc:
        yield Finding(
            level=Level.WARN,
            topic="soc",
            text=f"{PLATFORM_VARIABLE} says {board.setting!r}, {board.soc_source} says {board.soc}; "
            f"{board.soc} counts",
            mend=f"remove {PLATFORM_VARIABLE}; it is read only where nothing is detected",
        )


def check_node(board: Board, *, needed: bool = True) -> Iterator[Finding]:
    """The device node, and whether this process may open it."""
    bad = Level.ERROR if needed else Level.WARN
    if board.npu_node is None:
        yield _missing_node(board, bad)
        return
    if not board.node_permitted:
        groups = ",".join(dict.fromkeys(("video", "render", board.node_group or "render")))
        yield Finding(
            level=bad,
            topic="node",
            text=f"this process may not open {board.npu_node} (group {board.node_group or 'unknown'})",
            mend=f"add the user to the groups {groups} (usermod -aG {groups} USER, then log in again); "
            "in a container --group-add with the host's group numbers",
        )
        return
    yield Finding(level=Level.OK, topic="node", text=f"{board.npu_node} can be opened")
    if board.node_kind is NodeKind.MISC and not board.dma_heap:
        yield Finding(
            level=Level.WARN,
            topic="node",
            text="this driver takes its buffers from a DMA heap, and there is no /dev/dma_heap",
            mend="in a container add --device /dev/dma_heap",
        )


def _missing_node(board: Board, bad: Level) -> Finding:
    if board.announced_node is not None:
        folder = "/dev/dri" if board.node_kind is NodeKind.DRM else board.announced_node
        return Finding(
            level=bad,
            topic="node",
            text=f"the kernel has {board.announced_node}, but it is not in this process's /dev",
            mend=f"give it to the container: --device {folder} --group-add video --group-add render",
        )
    if board.rocket:
        return Finding(
            level=bad,
            topic="node",
            text="this kernel runs the mainline NPU driver (rocket), which the vendor's library cannot use",
            mend=_KERNEL,
        )
    return Finding(
        level=bad,
        topic="node",
        text="there is no NPU device node",
        mend=f"{_KERNEL}; in a container pass /dev/dri (or /dev/rknpu)",
    )


def check_driver(board: Board) -> Iterator[Finding]:
    """The kernel driver's version; nothing where there is no driver to speak of."""
    if not board.driver_version:
        if board.npu_node is not None or board.announced_node is not None:
            yield Finding(
                level=Level.WARN,
                topic="driver",
                text="the version of the rknpu driver cannot be read",
                mend="read it as root: cat /sys/kernel/debug/rknpu/version; 0.9.8 is recommended",
            )
        return
    version = tuple(int(number) for number in board.driver_version.split("."))
    text = f"rknpu driver {board.driver_version} ({board.driver_version_source})"
    mend = "update the host's kernel to one with the rknpu driver 0.9.8; a container cannot do it"
    if version < OLDEST_DRIVER:
        text = f"{text} is too old: models may seem to load and crash in their first run"
        yield Finding(level=Level.ERROR, topic="driver", text=text, mend=mend)
    elif version < QUIET_DRIVER:
        text = f"{text} is older than the runtime asks for (0.9.7)"
        yield Finding(level=Level.WARN, topic="driver", text=text, mend=mend)
    elif version < BEST_DRIVER:
        yield Finding(level=Level.OK, topic="driver", text=f"{text}; 0.9.8 is recommended")
    else:
        yield Finding(level=Level.OK, topic="driver", text=text)


def check_library(library: LibraryFacts) -> Iterator[Finding]:
    """The runtime library, as somebody else identified it."""
    if library.problem:
        yield Finding(
            level=Level.ERROR,
            topic="library",
            text=library.problem,
            mend="name the library with --rkllm-library or RKLLAMA_RKLLM_LIBRARY, "
            "its ABI family with RKLLAMA_RKLLM_ABI",
        )
        return
    what = " ".join(word for word in (library.version, library.family) if word) or "version unknown"
    if library.emulator:
        text = f"{library.path}: emulator, {what}; nothing here is proven of a board"
        yield Finding(level=Level.WARN, topic="library", text=text)
    else:
        yield Finding(level=Level.OK, topic="library", text=f"{library.path}: {what}")


def check_memory(board: Board) -> Iterator[Finding]:
    """RAM: weights live in the driver's buffers, outside what a container's limit may see."""
    total, available = board.memory_bytes, board.memory_available_bytes
    if total is None or available is None:
        yield Finding(level=Level.WARN, topic="memory", text="the amount of RAM cannot be read")
        return
    text = f"{_gib(available)} of {_gib(total)} RAM available"
    if available < SMALLEST_MODEL_BYTES:
        mend = "end other programs, or use a board with more RAM"
        yield Finding(level=Level.WARN, topic="memory", text=text, mend=mend)
    else:
        yield Finding(level=Level.OK, topic="memory", text=text)


def check_cpus(board: Board) -> Iterator[Finding]:
    """Whether the runtime can pin its threads to the CPUs that the vendor's programs give it."""
    if board.facts is None:
        return
    wanted = cpus_of(board.facts.cpu_mask)
    text = f"the runtime wants CPUs {format_cpus(wanted)}"
    if offline := wanted - board.cpus_online:
        yield Finding(
            level=Level.WARN,
            topic="cpus",
            text=f"{text}, of which {format_cpus(offline)} {_are(offline)} not online",
            mend="bring them online: echo 1 into /sys/devices/system/cpu/cpuN/online, as root",
        )
    elif board.cpus_allowed and (forbidden := wanted - board.cpus_allowed):
        yield Finding(
            level=Level.WARN,
            topic="cpus",
            text=f"{text}, and this process may not use {format_cpus(forbidden)}; loading may fail",
            mend="widen the cpuset or affinity (--cpuset-cpus, AllowedCPUs, taskset)",
        )
    else:
        yield Finding(level=Level.OK, topic="cpus", text=f"{text} and may use them")


def check_clocks(board: Board) -> Iterator[Finding]:
    """Clocks below their maximum. The vendor's figures were taken with all of them fixed at it."""
    seen = [clock for clock in (board.npu_clock, *board.clocks) if clock is not None]
    slow = [clock for clock in seen if _is_slow(clock)]
    script = f"fix_freq_{board.soc}.sh" if board.soc else "fix_freq_<soc>.sh"
    for clock in slow:
        yield Finding(
            level=Level.WARN,
            topic="clocks",
            text=f"{clock.name} at {_mhz(clock.current_hz)} of {_mhz(clock.maximum_hz)} MHz, "
            f"governor {clock.governor or 'unknown'}",
            mend=f"for full speed run the vendor's {script} with sh, as root, on the host "
            "(nothing restores what it changes), or take the governor performance",
        )
    if seen and not slow:
        names = ", ".join(clock.name for clock in seen)
        yield Finding(level=Level.OK, topic="clocks", text=f"at their maximum: {names}")


def check_model(
    board: Board, *, name: str, size_bytes: int, platform: str = "", dtype: str = ""
) -> Iterator[Finding]:
    """Whether a model can run here; yields its problems, or one finding that it fits.

    Args:
        board: This one.
        name: What the findings call it.
        size_bytes: Size of the weights.
        platform: The SoC it was converted for, as its file name or log says; empty if unknown.
        dtype: The type of its weights, such as `w8a8_g128`; empty if unknown.
    """
    problems = list(_model_problems(board, name, size_bytes, platform, dtype))
    yield from problems or [
        Finding(level=Level.OK, topic="model", text=f"{name} ({_gib(size_bytes)}) fits this board")
    ]


def _model_problems(
    board: Board, name: str, size_bytes: int, platform: str, dtype: str
) -> Iterator[Finding]:
    facts, total, available = board.facts, board.memory_bytes, board.memory_available_bytes
    target = parse_soc(platform)
    if facts is not None and target not in {None, facts.soc}:
        text = f"{name} was converted for {target}, this is {facts.soc}"
        mend = f"pull the model for {facts.soc}"
        yield Finding(level=Level.ERROR, topic="model", text=text, mend=mend)
    elif facts is not None and dtype and dtype.lower() not in facts.quantisations:
        text = f"{name} has {dtype} weights, which {facts.soc} cannot run"
        mend = f"pull one of {', '.join(facts.quantisations)}"
        yield Finding(level=Level.ERROR, topic="model", text=text, mend=mend)
    if facts is not None and domains_needed(size_bytes) > DOMAINS - facts.first_domain:
        text = f"{name} ({_gib(size_bytes)}) is larger than the NPU's addresses"
        yield Finding(level=Level.ERROR, topic="model", text=text, mend="take a smaller model")
    elif total is not None and size_bytes > total:
        text = f"{name} ({_gib(size_bytes)}) is larger than this board's RAM ({_gib(total)})"
        yield Finding(level=Level.ERROR, topic="model", text=text, mend="take a smaller model")
    elif available is not None and size_bytes > available:
        text = f"{name} ({_gib(size_bytes)}) is larger than the RAM available ({_gib(available)})"
        yield Finding(
            level=Level.WARN, topic="model", text=text, mend="unload models or end programs"
        )


def _is_slow(clock: Clock) -> bool:
    return (
        clock.current_hz is not None
        and clock.maximum_hz is not None
        and clock.current_hz < clock.maximum_hz
        and clock.governor != "performance"
    )


def _mhz(hertz: int | None) -> str:
    return "?" if hertz is None else f"{hertz / 1e6:.0f}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def _are(numbers: frozenset[int]) -> str:
    return "is" if len(numbers) == 1 else "are"
