"""Rules and dashboard name what there is, and what they name is explained; see `tests/system` for the rest."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import monitoring
from tests.metrics_page import SECTIONS, documented
from tests.monitoring import CONFIG, RULE_TESTS, alerts, dashboard, metrics_in, queries, rules

OPERATIONS = Path(__file__).parents[1] / "docs" / "operations.md"
KNOWN = {name for section in SECTIONS for name in documented(section)}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
PORTS = {"gateway": "gateway:8080", "worker": "worker:8081", "store": "store:8082"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_metrics_that_there_are(rule: dict[str, Any]) -> None:
    named = metrics_in(rule["expr"])

    assert named or rule["expr"].startswith("up{")
    assert named <= KNOWN | RECORDED


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_panel_reads_metrics_that_there_are(title: str, query: str) -> None:
    named = metrics_in(query)

    assert named or query.startswith("count(ALERTS")
    assert named <= KNOWN | RECORDED


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_when_how_bad_and_what(name: str) -> None:
    alert = alerts()[name]

    assert re.fullmatch(r"\d+[smh]", alert["for"])
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"].keys() == {"summary", "description"}


def test_operations_tell_what_to_do_about_every_alert() -> None:
    rows = re.findall(r"^\| `(Rkllama\w+)` \| \S.+ \|$", OPERATIONS.read_text(), re.M)

    assert rows == list(alerts())


def test_every_alert_is_tested_silent_and_firing() -> None:
    cases = [
        case
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    is_silent = {case["alertname"] for case in cases if not case["exp_alerts"]}

    assert fires == is_silent == set(alerts())


def test_the_configuration_has_the_ports_of_the_compose_stack_and_the_rules() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }

    assert targets == {job: [target] for job, target in PORTS.items()}
    assert [CONFIG.parent / name for name in config["rule_files"]] == [monitoring.RULES]


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """What its importer asks for, and what people cannot see there: panels over one another."""
    board = dashboard()
    panels = board["panels"]
    sources = {target["datasource"]["uid"] for p in panels for target in p.get("targets", ())}

    assert board["templating"]["list"][0]["type"] == "datasource"
    assert sources == {"${datasource}"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["targets"] for panel in panels if panel["type"] != "row")
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    assert not [
        (one["title"], other["title"])
        for one, other in combinations(panels, 2)
        if _overlap(one["gridPos"], other["gridPos"])
    ]


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    apart = (
        one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
        for at, size in (("x", "w"), ("y", "h"))
    )
    return not any(apart)
