"""Logs: lines of text on a terminal, JSON anywhere else. Data are fields, never parts of the phrase."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import orjson

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _data(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
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


def configure(*, debug: bool, stream: TextIO | None = None) -> None:
    """Send every logger to `stream`, standard error if none is given. Called once, in `__main__`."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JsonFormatter())
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True
    )
    for noisy in ("uvicorn.access", "uvicorn.error", "httpx2", "httpcore2", "asyncio", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
