"""What `monitoring/` has for others to run, as tests read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "monitoring"
CONFIG = FOLDER / "prometheus.yml"
RULES = FOLDER / "rules" / "rkllama.yaml"
RULE_TESTS = FOLDER / "tests" / "rkllama.yaml"
DASHBOARD = FOLDER / "dashboards" / "rkllama.json"

_METRIC = re.compile(r"\b(?:rkllama[a-z0-9_:]+|gen_ai_\w+)")


def rules() -> list[dict[str, Any]]:
    """Every rule, in order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by their names."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> list[tuple[str, str]]:
    """Each query of the dashboard, after the title of its panel."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def variables() -> dict[str, str]:
    """The query of each variable that asks for labels, `label_values(metric, label)`."""
    listed = dashboard()["templating"]["list"]
    return {each["name"]: each["definition"] for each in listed if each["type"] == "query"}


def filled_in(query: str, *, interval: str) -> str:
    """A query as Grafana sends it with nothing chosen."""
    query = query.replace("$__rate_interval", interval)
    return re.sub(r"\$(?:model|worker)\b", ".*", query)


def metrics_in(query: str) -> set[str]:
    """The metrics that a query names, those of a histogram without their endings."""
    return {
        re.sub(r"_(?:bucket|sum|count)$", "", name)
        for name in _METRIC.findall(re.sub(r'"[^"]*"', "", query))
    }
