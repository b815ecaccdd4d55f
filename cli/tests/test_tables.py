"""Tables for people: 80 columns, names whole; and without a terminal one line for each row."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rkllama_cli import tables
from rkllama_cli.wire import Details, Facts, Model

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
LONG = "hf.co/somebody/Qwen2.5-3B-Instruct-rk3588-1.1.4-w8a8-opt-1-hybrid-ratio-0.5:w8a8"


def terminal() -> Console:
    return Console(
        file=io.StringIO(), width=80, force_terminal=True, color_system=None, highlight=False
    )


def lines(screen: Console) -> list[str]:
    assert isinstance(screen.file, io.StringIO)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def test_a_list_is_a_row_for_each_model() -> None:
    screen = terminal()
    rows = [
        Model(name="a:1", digest="0123456789abcdef", size=10**9, modified_at="2026-01-02T10:00:00Z")
    ]

    tables.models(rows, screen, now=NOW)

    assert lines(screen) == [
        "NAME  ID            SIZE    MODIFIED",
        "a:1   0123456789ab  1.0 GB  2 hours ago",
    ]


def test_a_pulled_model_says_where_it_is_from() -> None:
    screen = terminal()
    info = {"rkllama.source": "https://hf.co/u/r", "rkllama.revision": "c" * 40}

    tables.facts(Facts(model_info=info), screen, verbose=False)

    assert [line.split() for line in lines(screen)] == [
        ["pulled", "from", "https://hf.co/u/r"],
        ["commit", "c" * 40],
    ]


def test_a_long_name_is_broken_and_never_cut() -> None:
    """It has to be copied."""
    screen = terminal()

    tables.models(
        [Model(name=LONG, digest="0" * 64, size=5, modified_at="2026-01-02T10:00:00Z")],
        screen,
        now=NOW,
    )

    shown = lines(screen)[1:]
    assert "".join(line.split("  ")[0] for line in shown) == LONG
    assert max(map(len, shown)) <= 80
    assert shown[0].endswith("2 hours ago")


def test_what_is_loaded_fits_80_columns() -> None:
    screen = terminal()
    row = Model(
        name="qwen2.5-coder:7b-instruct",
        digest="0" * 64,
        size=10_200_000_000,
        size_vram=5_000_000_000,
        context_length=262144,
        expires_at="2026-01-02T12:04:10Z",
    )

    tables.loaded(
        [row, row.model_copy(update={"expires_at": "2026-01-02T11:59:59Z"})], screen, now=NOW
    )

    shown = "\n".join(lines(screen))
    assert "51%/49% CPU/NPU  262144   4 minutes from now" in shown
    assert "262144   stopping" in shown
    assert max(map(len, lines(screen))) <= 80


@pytest.mark.parametrize(
    ("size", "npu", "text"),
    [(10, 10, "100% NPU"), (10, 12, "100% NPU"), (10, 0, "100% CPU"), (10, 7, "30%/70% CPU/NPU")],
)
def test_where_a_model_is(size: int, npu: int, text: str) -> None:
    assert tables.processor(size, npu) == text


def test_facts_are_only_those_that_are_known() -> None:
    screen = terminal()
    shown = Facts(
        details=Details(format="rkllm", parameter_size="3B"),
        model_info={"general.architecture": "qwen2", "qwen2.context_length": 4096},
        capabilities=("completion", "tools"),
        parameters='stop                           "<|a|>"\nseed                           1',
        license="One\nTwo\nThree",
        system="[bold]You are brief.",
    )

    tables.facts(shown, screen, verbose=False)

    assert lines(screen) == [
        "architecture     qwen2",
        "parameters       3B",
        "context length   4096",
        "format           rkllm",
        "capabilities     completion, tools",
        'options          stop "<|a|>"',
        "                 seed 1",
        "system           [bold]You are brief.",
        "license          One",
        "                 Two",
        "                 ...",
    ]
