"""Figures in rows to read, beside those of an earlier run where there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import Figure

Earlier = Mapping[str, Mapping[str, Any]]
WIDTH = 48


def earlier(path: Path | None) -> Earlier:
    """The figures of a file of results, by their names."""
    if path is None:
        return {}
    figures: Earlier = json.loads(path.read_text())["figures"]
    return figures


def row(figure: Figure, before: Earlier) -> str:
    """One line: the median, its spread, the goal and whether it is reached, and what it was before."""
    low, high = figure.spread
    text = f"  {figure.name:{WIDTH}} {number(figure.median):>9} {figure.unit:10}"
    if len(figure.values) > 1:
        text += f" ({number(low)} to {number(high)}, n={len(figure.values)})"
    if figure.goal is not None:
        sign = ">=" if figure.better == "more" else "<="
        verdict = "held" if figure.held else "MISSED"
        text += f"  goal: {figure.judged} {sign} {number(figure.goal)}: {verdict}"
    if (known := before.get(figure.key)) and known["median"]:
        text += f"  {figure.median / known['median']:.2f} of before"
    return f"{text}  [{figure.note}]" if figure.note else text


def number(value: float) -> str:
    """Four digits, or all before the point."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
