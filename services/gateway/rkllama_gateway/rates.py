"""Who asks how often: one bucket for each key, and for each address that shows none."""

from __future__ import annotations

import time
from collections.abc import Callable

from rkllama_policy.rate import Bucket, Rate, take
from starlette.types import Scope

MOST_BUCKETS = 4096
"""Of askers that are remembered; then those are forgotten that have not asked for longest."""
FREE = frozenset({"/", "/livez", "/readyz", "/metrics"})
"""Paths that whoever watches this server asks for."""


class Rates:
    """The buckets of one gateway."""

    def __init__(self, rate: Rate | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Without a `rate` nothing is bounded."""
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def wait_s(self, scope: Scope) -> float:
        """How long whoever asks has to wait; 0 lets the request in, and counts it."""
        if self._rate is None or scope["path"] in FREE:
            return 0.0
        now, asker = self._clock(), _asker(scope)
        before = self._buckets.pop(asker, None) or Bucket.full(self._rate, now)
        bucket, wait_s = take(before, self._rate, now)
        # The last in the table asked last.
        self._buckets[asker] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return wait_s


def _asker(scope: Scope) -> str:
    """A key's name, or the address of who shows none; a name has no blank in it."""
    key: str | None = scope["state"]["key_name"]
    if key is not None:
        return key
    client = scope.get("client")
    return f"address {client[0]}" if client else "address"
