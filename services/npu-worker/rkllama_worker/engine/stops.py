"""Stop strings in a stream of text: what may be shown, and whether one has come."""

from __future__ import annotations

from collections.abc import Iterable


class StopMatcher:
    """Text goes in piece by piece; what surely stands before every stop string comes out.

    The stop string that is complete first wins, and of those that end together the one that began
    first, so that the outcome does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = ""
        """The stop string that came."""

    @property
    def expected(self) -> bool:
        """Whether there is any that could come."""
        return bool(self._stops)

    @property
    def matched(self) -> bool:
        """Whether one has come."""
        return bool(self.found)

    def feed(self, text: str) -> str:
        """What may be shown now; after a match, nothing any more."""
        if self.matched:
            return ""
        if not self._stops:
            return text
        self._held += text
        if found := self._first():
            _, begin, self.found = found
            return self._take(begin)
        return self._take(len(self._held) - self._possible())

    def flush(self) -> str:
        """What was held back for a stop string that did not come."""
        return "" if self.matched else self._take(len(self._held))

    def _take(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _first(self) -> tuple[int, int, str] | None:
        """End and begin of the winner, and the winner."""
        begins = ((stop, self._held.find(stop)) for stop in self._stops)
        return min(((at + len(stop), at, stop) for stop, at in begins if at >= 0), default=None)

    def _possible(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = min(len(self._held), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
