"""What a board lets go to make room.

Of its memory: idle models, the one whose keep-alive ends first. Of its disk: fetched files that no
model uses, and saved conversations, the one that was used least recently.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from rkllama_protocol.messages import ResidentModel


def to_evict(
    models: Collection[ResidentModel],
    *,
    need_bytes: int,
    limit_bytes: float,
    max_models: int = 0,
    later: bool = False,
) -> list[str] | None:
    """Digests to unload so that one more model, of `need_bytes`, fits; None if it cannot.

    It fits into `limit_bytes`, with at most `max_models` together; 0 is no bound. Keep-alive orders
    eviction and never forbids it; a model with a run is never evicted, unless it is asked about `later`,
    when nothing runs.
    """
    used = sum(model.size for model in models)
    most = (max_models or math.inf) - 1
    idle = sorted(
        (model for model in models if later or (not model.runs and model.state == "ready")),
        key=lambda model: math.inf if model.expires_in_s is None else model.expires_in_s,
    )
    evicted: list[str] = []
    for model in idle:
        if used + need_bytes <= limit_bytes and len(models) - len(evicted) <= most:
            break
        evicted.append(model.digest)
        used -= model.size
    fits = used + need_bytes <= limit_bytes and len(models) - len(evicted) <= most
    return evicted if fits else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """A fetched file, whole or in part."""

    name: str
    size: int
    used_at: float
    """Seconds, of any clock that goes on over restarts."""
    in_use: bool
    """By a model that is resident or loading."""


def to_drop(
    files: Collection[CachedFile], *, need_bytes: int, limit_bytes: int
) -> list[str] | None:
    """Names to remove so that `need_bytes` fit into `limit_bytes`; None if they cannot."""
    used = sum(file.size for file in files)
    dropped: list[str] = []
    for file in sorted(files, key=lambda file: file.used_at):
        if used + need_bytes <= limit_bytes:
            break
        if not file.in_use:
            dropped.append(file.name)
            used -= file.size
    return dropped if used + need_bytes <= limit_bytes else None


MOST_SAVED = 64
"""Conversations: their hashes travel with every beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFile:
    """A conversation's context in a file."""

    hash: str
    size: int
    used_at: float
    """Seconds, of a monotonic clock."""


def to_forget(
    saved: Collection[SavedFile], *, now: float, limit_bytes: int, max_age_s: float
) -> list[str]:
    """Hashes of the conversations to forget: too old, or too many or too large with those used later."""
    forgotten: list[str] = []
    used = kept = 0
    for file in sorted(saved, key=lambda file: -file.used_at):
        fits = used + file.size <= limit_bytes and kept < MOST_SAVED
        if not fits or now - file.used_at > max_age_s:
            forgotten.append(file.hash)
            continue
        used, kept = used + file.size, kept + 1
    return forgotten
