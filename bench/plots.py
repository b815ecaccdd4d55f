"""A picture of each family: medians as bars, spreads as whiskers, goals as ticks; a panel for each unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot

from bench.figures import Figure


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Write `path` as PNG."""
    units = list(dict.fromkeys(figure.unit for figure in figures))
    panels = [[figure for figure in figures if figure.unit == unit] for unit in units]
    made, axes = pyplot.subplots(
        len(panels),
        figsize=(9, 1.2 + 0.32 * len(figures) + 0.6 * len(panels)),
        height_ratios=[len(panel) + 1 for panel in panels],
        layout="constrained",
        squeeze=False,
    )
    for axis, panel, unit in zip(axes[:, 0], panels, units, strict=True):
        places = range(len(panel))
        medians = [figure.median for figure in panel]
        low = [max(0.0, figure.median - figure.spread[0]) for figure in panel]
        high = [max(0.0, figure.spread[1] - figure.median) for figure in panel]
        axis.barh(places, medians, xerr=[low, high], color="#4c78a8", ecolor="#333333", capsize=2)
        for place, figure in zip(places, panel, strict=True):
            if figure.goal is not None:
                axis.plot([figure.goal] * 2, [place - 0.45, place + 0.45], color="#d62728", lw=2)
        axis.set_yticks(places, [figure.name for figure in panel], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel(unit)
    made.suptitle(f"{figures[0].family} (bars: medians; whiskers: 5-95 %; red: goals)", fontsize=10)
    made.savefig(path, dpi=110)
    pyplot.close(made)
