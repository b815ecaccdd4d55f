"""How often somebody may ask, and how slow somebody may be: token buckets, with the clock passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many a minute on average, and so many at once after a pause."""

    per_minute: float
    burst: int

    @property
    def per_second(self) -> float:
        """The same in other units."""
        return self.per_minute / 60


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one asker has left, and as of when (monotonic seconds)."""

    left: float
    at: float

    @classmethod
    def full(cls, rate: Rate, now: float) -> Bucket:
        """Of somebody who has not asked for long."""
        return cls(float(rate.burst), now)

    def refilled(self, rate: Rate, now: float) -> Bucket:
        """The same bucket at a later time."""
        left = self.left + max(0.0, now - self.at) * rate.per_second
        return Bucket(min(float(rate.burst), left), max(now, self.at))


def take(bucket: Bucket, rate: Rate, now: float) -> tuple[Bucket, float]:
    """One request now: the bucket after it, and 0; or the bucket as it is, and the seconds to wait."""
    bucket = bucket.refilled(rate, now)
    if bucket.left >= 1:
        return Bucket(bucket.left - 1, bucket.at), 0.0
    return bucket, (1 - bucket.left) / rate.per_second


@dataclass(slots=True)
class Pace:
    """How far a peer that should send or read something is behind the slowest allowed.

    It is behind by the seconds that pass, less those that what it moved would take at the slowest
    allowed rate; being ahead is not saved up.
    """

    bytes_per_s: float
    behind_s: float = 0.0

    def note(self, moved_bytes: int, elapsed_s: float) -> float:
        """So many bytes went in so many seconds; the seconds it is behind now."""
        behind = self.behind_s + elapsed_s - moved_bytes / self.bytes_per_s
        self.behind_s = max(0.0, behind)
        return self.behind_s

    def reset(self) -> None:
        """Nothing is expected of the peer at present."""
        self.behind_s = 0.0


def retry_after_s(wait_s: float) -> int:
    """A wait as the header `Retry-After` has it: whole seconds, one at least."""
    return max(1, math.ceil(wait_s))
