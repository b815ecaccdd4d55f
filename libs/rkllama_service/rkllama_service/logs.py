"""Logs: lines of text on a terminal, JSON anywhere else. Data are fields, never parts of the phrase.

With `debug` they also go to a file that all processes of a machine share (`DEBUG_FILE`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO

import orjson

from rkllama_service.process import SetupError

DEBUG_FILE = "rkllama_debug.log"
"""In the data folder; what was in it before the last rotation is in the same with `.1` added."""
DEBUG_FILE_BYTES = 16 * 2**20
"""A file that is larger is put aside."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _data(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `pid` is told where several processes write to one place."""

    def __init__(self, *, pid: int | None = None) -> None:
        super().__init__()
        self._pid = {} if pid is None else {"pid": pid}

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._pid,
            "event": record.getMessage(),
            **_data(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """`12:00:00.123 info  gateway: job finished  job_id=… tokens=5`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        data = "".join(f"  {name}={value}" for name, value in _data(record).items())
        line = f"{clock} {record.levelname.lower():7} {record.name}: {record.getMessage()}{data}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _OfWorker(logging.Filter):
    """Lets every line pass, with the worker's id."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self._worker_id = worker_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Name the worker, unless the line names one itself."""
        if not hasattr(record, "worker_id"):
            record.worker_id = self._worker_id
        return True


class SharedFile(WatchedFileHandler):
    """One file for several processes: whoever finds it full puts it aside, the others follow.

    Lines are appended whole, and `WatchedFileHandler` opens the file again when it has become
    another one, so that no line is lost to a rotation.
    """

    def __init__(self, path: Path, *, most_bytes: int = DEBUG_FILE_BYTES) -> None:
        super().__init__(path, encoding="utf-8")
        self._path = path
        self._most_bytes = most_bytes

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in a new file if this one is full."""
        try:
            if self.stream is not None:
                self._put_aside(self.stream.fileno())
        except OSError:
            self.handleError(record)
        super().emit(record)

    def _put_aside(self, fd: int) -> None:
        mine = os.fstat(fd)
        if mine.st_size < self._most_bytes:
            return
        # The lock belongs to the full file: of all who have it open, the first one puts it aside.
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if self._path.exists() and os.path.samestat(self._path.stat(), mine):
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)


def configure(
    *,
    debug: bool,
    stream: TextIO | None = None,
    data_dir: Path | None = None,
    worker_id: str = "",
) -> None:
    """Send every logger to `stream`, standard error if none is given. Called once, in `__main__`.

    With `debug` there is more of it, and it goes to `DEBUG_FILE` in `data_dir` too, if that is given.
    A worker's lines all have its `worker_id`.

    Raises:
        SetupError: The file cannot be written.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JsonFormatter())
    handlers: list[logging.Handler] = [handler]
    if debug and data_dir is not None:
        handlers.append(_debug_file(data_dir / DEBUG_FILE))
    if worker_id:
        for each in handlers:
            each.addFilter(_OfWorker(worker_id))
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, handlers=handlers, force=True
    )
    for noisy in ("uvicorn.access", "uvicorn.error", "httpx2", "httpcore2", "asyncio", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _debug_file(path: Path) -> SharedFile:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = SharedFile(path)
    except OSError as error:
        raise SetupError(f"cannot write to {path}: {error.strerror}") from error
    handler.setFormatter(JsonFormatter(pid=os.getpid()))
    return handler
