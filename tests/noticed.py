"""Waiting for a word in a log, where nothing else tells that something has happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noticed(log: logging.Logger, text: str) -> Iterator[asyncio.Event]:
    """Is set once `log` has said `text`, on the event loop that runs now."""
    said = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == text:
                said.set()

    log.addHandler(listener := Listener())
    try:
        yield said
    finally:
        log.removeHandler(listener)
