"""What a board unloads to make room: idle models only, the one whose keep-alive ends first."""

from __future__ import annotations

import math
from collections.abc import Collection

from rkllama_protocol.messages import ResidentModel


def to_evict(
    models: Collection[ResidentModel], *, need_bytes: int, limit_bytes: int
) -> list[str] | None:
    """Digests to unload so that `need_bytes` fit into `limit_bytes`; None if they cannot.

    Keep-alive orders eviction and never forbids it; a model with a run is never evicted.
    """
    used = sum(model.size for model in models)
    idle = sorted(
        (model for model in models if not model.runs and model.state == "ready"),
        key=lambda model: math.inf if model.expires_in_s is None else model.expires_in_s,
    )
    evicted: list[str] = []
    for model in idle:
        if used + need_bytes <= limit_bytes:
            break
        evicted.append(model.digest)
        used -= model.size
    return evicted if used + need_bytes <= limit_bytes else None
