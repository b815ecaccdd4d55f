"""One worker for one NPU: a lock on the device node's own file.

    worker --opens, flock--> open file description <--inherited-- engine, engine, ...

flock(2) belongs to the open file description, so it lasts until every process that inherited the
descriptor is gone. A worker that was killed leaves engines behind for a moment, and its successor waits
for them. The lock is on the inode: processes exclude one another only if they see the *same* node.
Containers that get the node by `--device` have a copy each, and one that bind-mounts `/dev/dri` does not.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from rkllama_board.errors import NodeBusyError, NodeUnusableError

POLL_S = 0.1


class NodeLock:
    """A device node that this process, and who inherits `fd`, has to itself."""

    def __init__(self, node: Path, fd: int) -> None:
        self.node = node
        self.fd = fd
        """Descriptor that holds the lock; inheritable. Give it to engines (`pass_fds`)."""

    def close(self) -> None:
        """Let go. The lock itself ends when every engine that inherited the descriptor has ended."""
        # No LOCK_UN: that would take the lock from the engines too.
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def acquire(node: Path, *, wait_s: float) -> NodeLock:
    """Take the node for this process; blocks the calling thread for at most `wait_s` seconds.

    Raises:
        NodeUnusableError: The node is not there, or may not be opened for reading and writing.
        NodeBusyError: Somebody still held it after `wait_s`.
    """
    deadline = monotonic() + wait_s
    try:
        fd = os.open(node, os.O_RDWR)
    except OSError as error:
        raise NodeUnusableError(f"cannot open {node}: {error.strerror}", node=node) from error
    try:
        os.set_inheritable(fd, True)  # noqa: FBT003 - positional only
        _wait(fd, node, deadline)
    except BaseException:
        os.close(fd)
        raise
    return NodeLock(node, fd)


def holders(node: Path, *, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """The processes that hold the lock on `node`, as far as they can be seen, ascending.

    `/proc/<pid>/fdinfo` tells of processes of the same user, those that inherited the lock included.
    `/proc/locks` tells of everyone, but only who took it, who may be gone.
    """
    status = node.stat()
    found = {
        int(process.name)
        for process in proc.iterdir()
        if process.name.isdigit() and _holds(process, status)
    }
    return tuple(sorted(found or _from_locks(proc, status)))


def _wait(fd: int, node: Path, deadline: float) -> None:
    while not _locked(fd):
        left_s = deadline - monotonic()
        if left_s <= 0:
            pids = holders(node)
            raise NodeBusyError(_busy(node, pids), node=node, holders=pids)
        sleep(min(POLL_S, left_s))


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def _busy(node: Path, pids: tuple[int, ...]) -> str:
    match pids:
        case ():
            who = "another process"
        case (pid,):
            who = f"process {pid}"
        case _:
            who = f"processes {', '.join(map(str, pids))}"
    return f"the NPU node {node} is in use by {who}; one worker drives one NPU"


def _holds(process: Path, status: os.stat_result) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return False  # Gone, or somebody else's.
    return any(_descriptor_holds(process, entry, status) for entry in descriptors)


def _descriptor_holds(process: Path, entry: Path, status: os.stat_result) -> bool:
    try:
        opened = entry.stat()
        if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino):
            return False
        return "FLOCK" in (process / "fdinfo" / entry.name).read_text()
    except OSError:
        return False


def _from_locks(proc: Path, status: os.stat_result) -> set[int]:
    """Lines are `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`: pid, then device and inode (proc(5))."""
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return set()
    fields = [line.split() for line in lines]
    return {
        int(line[4])
        for line in fields
        if len(line) > 5 and line[1] == "FLOCK" and line[5] == where and int(line[4]) > 0
    }
