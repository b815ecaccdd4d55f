"""The benchmark measures what it says, and does not rot: parts of it are run, and none of its figures believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import scaling
from bench.__main__ import FAMILIES, main
from bench.client import END, Asked
from bench.figures import Figure, quantile
from bench.table import earlier, row


def figure(*values: float, **facts: object) -> Figure:
    return Figure(**{"family": "f", "name": "n", "unit": "ms", "values": values} | facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "facts", "held"),
    [
        ((1, 2, 9), {}, None),
        ((1, 2, 9), {"goal": 2}, True),
        ((1, 2, 9), {"goal": 1.5}, False),
        ((1, 2, 9), {"goal": 2, "better": "more"}, True),
        ((1, 2, 9), {"goal": 3, "better": "more"}, False),
        ((1, 2, 9), {"goal": 8, "judged": "p99"}, False),
        ((1, 2, 9), {"goal": 9, "judged": "p99"}, True),
    ],
)
def test_a_goal_is_held_by_what_it_is_about(
    values: tuple[float, ...], facts: dict[str, object], held: bool | None
) -> None:
    assert figure(*values, **facts).held is held


def test_quantiles_are_values_that_were_measured() -> None:
    values = list(range(1, 101))

    assert [quantile(values, share) for share in (0, 0.05, 0.5, 0.99, 1)] == [1, 6, 51, 99, 100]
    assert quantile([7], 0.99) == 7


def test_a_row_says_the_spread_and_what_it_was_before(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"figures": {"f/n": {"median": 4.0}}}))

    said = row(figure(1, 2, 3, goal=1.5, note="why"), earlier(tmp_path / "old.json"))

    assert said.split() == (
        [
            "n",
            "2",
            "ms",
            "(1",
            "to",
            "3,",
            "n=3)",
            "goal:",
            "median",
            "<=",
            "1.5:",
            "MISSED",
            "0.50",
            "of",
            "before",
            "[why]",
        ]
    )


def test_an_answer_is_read_from_its_chunks() -> None:
    body = b"".join(
        b"%x\r\n%s\r\n" % (len(line), line)
        for line in (
            b'{"response":"a","done":false}\n{"response":"\xc3\xa9","done":false}\n',
            b'{"response":"","done":true,"eval_count":2}\n',
        )
    )
    asked = Asked(first_s=0, whole_s=0, raw=b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n" + body + END)

    assert (asked.text, asked.last["eval_count"]) == ("aé", 2)


def test_a_part_of_the_benchmark_runs(tmp_path: Path) -> None:
    run(tmp_path, "first-token")


@pytest.mark.boards
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"first-token", "scaling"}))
def test_each_part_of_the_benchmark_runs(family: str, tmp_path: Path) -> None:
    run(tmp_path, family)


@pytest.mark.boards
def test_boards_are_added_one_after_the_other() -> None:
    figures = list(scaling.measure(1, (1, 2)))

    assert [figure.name for figure in figures] == [
        "1 board, 1 gateway",
        "1 board, 2 gateways",
        "2 boards, 1 gateway",
        "2 boards, 2 gateways",
    ]
    assert all(0 < value < 2 for figure in figures for value in figure.values)


def run(folder: Path, family: str) -> None:
    main(["--only", family, "--rounds", "1", "--out", str(folder)])

    (results,) = folder.glob("*.json")
    report = json.loads(results.read_text())
    assert list(report["busy"]) == [family]
    assert all(one["values"] and one["median"] >= one["p5"] for one in report["figures"].values())
    (plot,) = folder.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    # What was written is what a later run is compared with.
    assert earlier(results).keys() == report["figures"].keys()
