"""Contexts in files, around one run: one taken up before it, one left behind it.

The file of a save grows under a name of its own and is renamed when it is whole, so that nobody ever
finds half of one; what a run leaves unfinished it removes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from time import perf_counter_ns

from rkllama_worker.engine.runtime.base import Runtime
from rkllama_worker.engine.wire import RunEnded, Saving

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"


class Keeper:
    """What one run does with files."""

    def __init__(self, runtime: Runtime, saving: Saving) -> None:
        self._runtime = runtime
        self._restore = Path(saving.restore) if saving.restore else None
        self._target = Path(saving.save_to) if saving.save_to else None
        self._restored: bool | None = None
        self._restore_ns = 0
        self._saved_bytes = 0
        self._refused = False

    @property
    def part(self) -> Path | None:
        """Where the runtime writes."""
        if self._target is None:
            return None
        return self._target.with_name(self._target.name + PART_SUFFIX)

    def restore(self) -> None:
        """Take the context up; a run whose context cannot be had reads its whole prompt."""
        if self._restore is None:
            return
        begun_ns = perf_counter_ns()
        self._restored = self._runtime.restore(self._restore)
        self._restore_ns = perf_counter_ns() - begun_ns

    def save(self, *, whole: bool) -> None:
        """Leave the context, if the run came to its end."""
        part, target = self.part, self._target
        if part is None or target is None:
            return
        try:
            saved = self._runtime.save(part) if whole else None
            if saved:
                size = part.stat().st_size
                part.replace(target)
                self._saved_bytes = size
            else:
                self._refused = saved is False
                part.unlink(missing_ok=True)
        except OSError as error:
            # A disk that became read-only refuses to remove even what is not there.
            log.warning("context not saved", extra={"reason": error.strerror})
            self._refused = True

    def told(self, ended: RunEnded) -> RunEnded:
        """The same, and what became of the files."""
        return ended.model_copy(
            update={
                "restored": self._restored,
                "restore_ns": self._restore_ns,
                "saved_bytes": self._saved_bytes,
                "save_refused": self._refused,
            }
        )
