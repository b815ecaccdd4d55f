"""Who is there: the last beat of each process, and when it was heard.

Silence is counted only while this process itself was connected: after a broker's restart everybody
was silent, and nobody is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from rkllama_protocol import codec
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.messages import Beat
from rkllama_protocol.subjects import Subjects

BEAT_LOST_S = 3.0
"""A process unheard for this long is not counted on."""

B = TypeVar("B", bound=Beat)


def hear(kind: type[B], subject: str, data: bytes) -> B:
    """The beat in a message; the broker vouches for the process that its subject names.

    Raises:
        InvalidJobError: It names another process.
    """
    beat = codec.decode(kind, data)
    if (speaker := Subjects.parse_beat(subject)) != beat.process_id:
        raise InvalidJobError(f"{speaker} spoke as {beat.process_id}")
    return beat


class Observer(Generic[B]):
    """The living processes of one role."""

    def __init__(self, kind: type[B], *, clock: Callable[[], float] = monotonic) -> None:
        self.kind = kind
        self._clock = clock
        self._last: dict[str, tuple[B, float]] = {}
        """The last word of each, and when it came."""
        self._forgiven_at = -math.inf

    def note(self, process_id: str, beat: B) -> None:
        """A beat was heard."""
        self._last[process_id] = (beat, self._clock())

    def forgive(self) -> None:
        """This process was disconnected until now: everybody's silence starts again."""
        self._forgiven_at = self._clock()

    def living(self) -> list[B]:
        """The last beats of all that were heard within `BEAT_LOST_S`."""
        return [beat for beat, _ in self.heard()]

    def heard(self) -> list[tuple[B, float]]:
        """The same with the seconds that each is old."""
        now = self._clock()
        self._last = {
            key: (beat, at)
            for key, (beat, at) in self._last.items()
            if now - max(at, self._forgiven_at) < BEAT_LOST_S
        }
        return [(beat, now - at) for beat, at in self._last.values()]
