"""`docs/metrics.md`, and what processes really tell, in one shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
SECTIONS = ("Gateway", "Worker", "Model store")
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One metric: its name as rules write it, its type, its labels, and its help."""

    name: str
    kind: str
    labels: frozenset[str] | None
    """None where no series is there that would show them."""
    text: str


def documented(section: str) -> dict[str, Described]:
    """The metrics of one service, by their names."""
    page = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {
        name: Described(
            name=name, kind=kind, labels=frozenset(re.findall(r"`(\w+)`", labels)), text=text
        )
        for name, kind, labels, text in _ROW.findall(page)
    }


def exposed(url: str) -> dict[str, Described]:
    """The metrics of the process that listens there, by their names."""
    found = {}
    text = httpx2.get(f"{url}/metrics", trust_env=False).text
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = [frozenset(sample.labels) - {"le"} for sample in family.samples]
        assert len(set(labels)) <= 1, f"{name} has series with other labels than others"
        found[name] = Described(
            name=name,
            kind=family.type,
            labels=labels[0] if labels else None,
            text=family.documentation,
        )
    return found
