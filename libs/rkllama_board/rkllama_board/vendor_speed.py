"""How fast Rockchip says a model is: the tables of runtimes 1.3.0 and 1.2.3 (`benchmark.md` of the SDK).

Taken by the vendor at the highest clocks, with a prompt of 128 tokens and 64 new ones, optimisation level 0. They are
what a board's own figures stand beside, not what it will reach.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from importlib import resources

from rkllama_board.soc import Soc

PROMPT_TOKENS = 128
NEW_TOKENS = 64
NEAR = 0.15
"""How far a model's size may be from one of the table to be compared with it, as a share."""

_SIZE = re.compile(r"(?<![a-z0-9.])(e?\d+(?:\.\d+)?)b(?![a-z0-9])")
_PLAIN_SIZE = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorFigure:
    """One row of the vendor's tables."""

    runtime: str
    soc: Soc
    family: str
    size: str
    """Parameters as the vendor writes them: `1.5B`, `E2B`, `3B(A570M)`."""
    dtype: str
    ttft_s: float
    """Seconds to the first token, that is to prefill `PROMPT_TOKENS`."""
    tokens_per_s: float
    """Of decoding."""
    memory_mb: float | None
    """As the vendor writes it."""
    exact: bool = True
    """It is the model that was asked for, and not one of about its size."""

    @property
    def model(self) -> str:
        """Such as `Qwen2.5 1.5B`."""
        return f"{self.family} {self.size}"

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens by time to the first token."""
        return PROMPT_TOKENS / self.ttft_s


def figures() -> list[VendorFigure]:
    """Every row, the newest runtime's first."""
    text = resources.files(__package__ or "").joinpath("vendor_speed.csv").read_text()
    return [
        VendorFigure(
            runtime=row["runtime"],
            soc=Soc(row["soc"]),
            family=row["family"],
            size=row["size"],
            dtype=row["dtype"],
            ttft_s=float(row["ttft_ms"]) / 1000,
            tokens_per_s=float(row["tokens_per_s"]),
            memory_mb=float(row["memory_mb"]) if row["memory_mb"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    ]


def vendor_figure(
    soc: Soc, model: str | int, dtype: str, *, runtime: str = ""
) -> VendorFigure | None:
    """The vendor's figure for a model, or for one of about its size.

    Args:
        soc: The chip.
        model: A name that holds family and size, such as `Qwen2.5-1.5B-Instruct` or `qwen3:0.6b`; or the number
            of parameters.
        dtype: Type of the weights, such as `w8a8`; the speed hangs on it, so no other one is taken.
        runtime: A version whose table is preferred; else the newest counts.

    Returns:
        The row of that family and size. Failing that, the nearest size of any family within `NEAR`, with `exact`
        False; vision and sparse models stand for no others. Else None.
    """
    rows = [row for row in figures() if row.soc is soc and row.dtype == dtype.lower()]
    rows.sort(key=lambda row: row.runtime != runtime)
    if isinstance(model, int):
        return _nearest(rows, model / 1e9)
    size = _size_in(model)
    family = _family_in(model, rows)
    kin = [row for row in rows if row.family == family]
    same = [row for row in kin if size in {"", _size_in(row.size)}]
    if len({row.size for row in same}) == 1:
        return same[0]
    return _nearest(rows, float(size)) if _PLAIN_SIZE.fullmatch(size) else None


def _nearest(rows: list[VendorFigure], billions: float) -> VendorFigure | None:
    near = [
        (abs(float(size) - billions), row)
        for row in rows
        if _PLAIN_SIZE.fullmatch(size := row.size.removesuffix("B"))
        and "VL" not in row.family
        and abs(float(size) - billions) <= NEAR * billions
    ]
    if not near:
        return None
    return replace(min(near, key=lambda pair: pair[0])[1], exact=False)


def _size_in(text: str) -> str:
    found = _SIZE.search(text.lower())
    return found.group(1) if found else ""


def _family_in(name: str, rows: list[VendorFigure]) -> str:
    """The longest family name inside `name`: qwen2.5 before qwen2."""
    wanted = _squeezed(name)
    families = {row.family for row in rows if _squeezed(row.family) in wanted}
    return max(families, key=len, default="")


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower())
