"""A figure: repeated measurements of one thing, their median and spread, and what it is to be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, every time."""

    family: str
    name: str
    unit: str
    values: tuple[float, ...]
    better: Better = "less"
    goal: float | None = None
    """At least, or at most, this, as `better` says; None is for figures to look at."""
    judged: Literal["median", "p99", "lowest"] = "median"
    """What of it the goal is about."""
    note: str = ""

    @property
    def key(self) -> str:
        """Names it in a file of results."""
        return f"{self.family}/{self.name}"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The 5 % and 95 % quantiles; of a few values, the ends."""
        return quantile(self.values, 0.05), quantile(self.values, 0.95)

    @property
    def held(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        value = {
            "median": self.median,
            "p99": quantile(self.values, 0.99),
            "lowest": min(self.values),
        }[self.judged]
        return value >= self.goal if self.better == "more" else value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file of results."""
        low, high = self.spread
        return {
            "unit": self.unit,
            "median": self.median,
            "p5": low,
            "p95": high,
            "p99": quantile(self.values, 0.99),
            "goal": self.goal,
            "judged": self.judged,
            "held": self.held,
            "better": self.better,
            "note": self.note,
            "values": self.values,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of `values` is, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
