"""Waiting for a word in a log, where nothing else tells that something has happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noticed(log: logging.Logger, text: str) -> Iterator[asyncio.Future[logging.LogRecord]]:
    """What `log` says with `text` first, to be awaited on the event loop that runs now."""
    said: asyncio.Future[logging.LogRecord] = asyncio.get_running_loop().create_future()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == text and not said.done():
                said.set_result(record)

    log.addHandler(listener := Listener())
    try:
        yield said
    finally:
        log.removeHandler(listener)
