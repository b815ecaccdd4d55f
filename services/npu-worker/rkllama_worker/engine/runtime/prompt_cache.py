"""Prompt caches of the vendor's library: files that a run writes, and the next process may load.

One is loaded at a time, and released before the next (manual 1.3.0, section 3.2.9). A missing, empty or
damaged file, and one of another model, is refused with a status; RWKV models refuse all. The library then
reuses what the prompt has in common with the file (semantics.md section 6). Whether an aborted run writes
one is not documented: it is not waited for.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rkllm_bindings import Model, RkllmError

log = logging.getLogger(__name__)


class PromptCache:
    """Those of one model."""

    def __init__(self, model: Model, *, wanted: bool) -> None:
        self._model = model
        library = model.library
        # Without its measurements nobody would know whether a file that was loaded is of any use.
        usable = wanted and library.family.gives_perf
        # Whether another release can read them is not documented.
        self.written_as = f"rkllm-{library.identity.version}" if usable else ""
        """What reads the files; empty if there are none."""
        self._loaded = False
        self._whole = False

    def run(self, *, whole: bool) -> None:
        """A run begins, or came to its end by itself: only such a one writes a file."""
        self._whole = whole

    def written(self, path: Path) -> bool | None:
        """Whether the last run left the file that it was asked for; None if it was not to be expected."""
        if not self._whole:
            return None
        return path.is_file() and path.stat().st_size > 0

    def load(self, path: Path) -> bool:
        """Load the file, in place of the one before; whether the library took it."""
        try:
            if self._loaded:
                self._loaded = False
                self._model.release_prompt_cache()
            self._model.load_prompt_cache(path)
        except RkllmError as error:
            log.warning("prompt cache was not loaded", extra={"reason": str(error)})
            return False
        self._loaded = True
        return True
