"""The lock on a device node, with plain files as nodes and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rkllama_board.errors import NodeBusyError, NodeUnusableError
from rkllama_board.lock import acquire, holders

HANG_S = 20.0

WORKER = """
import subprocess, sys
from pathlib import Path
from rkllama_board.lock import acquire
lock = acquire(Path(sys.argv[1]), wait_s=0)
engine = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fd]) if "engine" in sys.argv else None
print(engine.pid if engine else 0, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "renderD129"
    path.touch()
    return path


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """What a test has to end, whatever becomes of it."""
    with ExitStack() as stack:
        yield stack


def worker(node: Path, cleanup: ExitStack, *words: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the lock, and the id of its engine or 0."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(node), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    cleanup.enter_context(process)
    cleanup.callback(process.kill)
    assert process.stdout is not None
    engine = int(process.stdout.readline())
    if engine:
        cleanup.callback(kill, engine)
    return process, engine


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_a_second_process_is_refused_and_told_who_holds_the_node(
    node: Path, cleanup: ExitStack
) -> None:
    process, _ = worker(node, cleanup)

    with pytest.raises(NodeBusyError) as refused:
        acquire(node, wait_s=0.2)

    assert refused.value.holders == (process.pid,)
    assert str(node) in str(refused.value)
    assert f"process {process.pid}" in str(refused.value)


def test_a_process_that_waits_gets_the_node_when_the_holder_ends(
    node: Path, cleanup: ExitStack
) -> None:
    process, _ = worker(node, cleanup)
    process.kill()

    with acquire(node, wait_s=HANG_S) as lock:
        assert holders(node) == (os.getpid(),)
        assert os.get_inheritable(lock.fd)


def test_an_engine_keeps_the_node_after_its_worker_was_killed(
    node: Path, cleanup: ExitStack
) -> None:
    """A restarted worker must not drive the NPU beside an orphan of its predecessor."""
    process, engine = worker(node, cleanup, "engine")
    assert holders(node) == (process.pid, engine)
    process.kill()
    process.wait(HANG_S)

    with pytest.raises(NodeBusyError) as refused:
        acquire(node, wait_s=0)
    assert refused.value.holders == (engine,)

    kill(engine)
    acquire(node, wait_s=HANG_S).close()


def test_closing_does_not_take_the_lock_from_an_engine_that_inherited_it(node: Path) -> None:
    lock = acquire(node, wait_s=0)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fd]) as engine:
        lock.close()

        with pytest.raises(NodeBusyError):
            acquire(node, wait_s=0)
        engine.kill()


def test_closing_twice_is_harmless(node: Path) -> None:
    lock = acquire(node, wait_s=0)
    lock.close()
    lock.close()

    acquire(node, wait_s=0).close()


def test_a_node_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeUnusableError, match="renderD128: No such file"):
        acquire(tmp_path / "renderD128", wait_s=0)


def test_a_holder_of_another_user_is_found_in_the_list_of_locks(node: Path, tmp_path: Path) -> None:
    """Its descriptors cannot be read; /proc/locks tells of everyone."""
    status = node.stat()
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    (tmp_path / "locks").write_text(
        f"1: POSIX  ADVISORY  WRITE 11 {where} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 12 {where}9 0 EOF\n"
        f"3: FLOCK  ADVISORY  WRITE 4711 {where} 0 EOF\n"
        f"3: -> FLOCK  ADVISORY  WRITE 4712 {where} 0 EOF\n"
    )

    assert holders(node, proc=tmp_path) == (4711,)
