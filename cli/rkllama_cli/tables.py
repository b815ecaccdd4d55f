"""Tables for people, in 80 columns; a name is never cut, for it has to be copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rkllama_service.keys import PREFIX, Key

from rkllama_cli import words
from rkllama_cli.flow import printable
from rkllama_cli.wire import Facts, Model

ID_LENGTH = 12
_LICENSE_LINES = 2
_SYSTEM_LINES = 6


def models(rows: Iterable[Model], screen: Console, *, now: datetime) -> None:
    """What `rkllama list` shows."""
    _print(
        screen,
        ["NAME", "ID", "SIZE", "MODIFIED"],
        [
            [m.name, m.digest[:ID_LENGTH], words.size(m.size), _apart(m.modified_at, now=now)]
            for m in rows
        ],
    )


def loaded(rows: Iterable[Model], screen: Console, *, now: datetime) -> None:
    """What `rkllama ps` shows."""
    _print(
        screen,
        ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"],
        [
            [
                m.name,
                m.digest[:ID_LENGTH],
                words.size(m.size),
                processor(m.size, m.size_vram),
                str(m.context_length or "-"),
                _until(m.expires_at, now=now),
            ]
            for m in rows
        ],
    )


def keys(rows: Iterable[Key], screen: Console, *, now: datetime) -> None:
    """What `rkllama key list` shows."""
    _print(
        screen,
        ["NAME", "SCOPE", "CREATED", "KEY"],
        [[k.name, k.scope, words.apart(k.created, now=now), f"{PREFIX}...{k.hint}"] for k in rows],
    )


def processor(size_bytes: int, npu_bytes: int) -> str:
    """Which part of a model is where: `100% NPU`, `100% CPU`, `30%/70% CPU/NPU`."""
    if npu_bytes <= 0:
        return "100% CPU"
    if npu_bytes >= size_bytes:
        return "100% NPU"
    npu = round(100 * npu_bytes / size_bytes)
    return f"{100 - npu}%/{npu}% CPU/NPU"


def facts(shown: Facts, screen: Console, *, verbose: bool) -> None:
    """What `rkllama show` shows: a table of facts, then texts, cut."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in fact_rows(shown, verbose=verbose):
        table.add_row(_cell(name), _cell(value))
    screen.print(table)


def fact_rows(shown: Facts, *, verbose: bool) -> list[tuple[str, str]]:
    """The facts in order, only those that are known."""
    details = shown.details
    info = shown.model_info
    family = _text(info.get("general.architecture")) or details.family
    parameters = info.get("general.parameter_count")
    rows = [
        ("architecture", family),
        (
            "parameters",
            details.parameter_size
            or (words.count(parameters) if isinstance(parameters, int) else ""),
        ),
        ("context length", _of(info, family, "context_length")),
        ("embedding length", _of(info, family, "embedding_length")),
        ("quantization", details.quantization_level),
        ("format", details.format),
        ("made from", details.parent_model),
        ("pulled from", _text(info.get("rkllama.source"))),
        ("commit", _text(info.get("rkllama.revision"))),
        ("capabilities", ", ".join(shown.capabilities)),
        ("options", "\n".join(options(shown.parameters))),
        ("system", _cut(shown.system, _SYSTEM_LINES)),
        ("license", _cut(shown.license, _LICENSE_LINES)),
    ]
    if verbose:
        rows += [
            (key, _text(value)) for key, value in (info | (shown.projector_info or {})).items()
        ]
    return [(name, value) for name, value in rows if value]


def options(parameters: str) -> Iterable[str]:
    """Name and value of each: `/api/show` pads the names to thirty columns."""
    for line in parameters.splitlines():
        name, _, value = line.strip().partition(" ")
        yield f"{name} {value.strip()}"


def _of(info: dict[str, Any], family: str, key: str) -> str:
    return _text(info.get(f"{family}.{key}"))


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _cut(text: str, most: int) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n".join([*lines[:most], *(["..."] if len(lines) > most else [])])


def _apart(text: str, *, now: datetime) -> str:
    moment = words.moment(text)
    return words.apart(moment, now=now) if moment else text


def _until(text: str, *, now: datetime) -> str:
    moment = words.moment(text)
    if moment is not None and moment <= now:
        return "stopping"
    return _apart(text, now=now)


def _cell(text: str) -> Text:
    """Text of a server: no markup, and nothing that a terminal would obey."""
    return Text(printable(text))


def _print(screen: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for column in columns:
        if column == "NAME":
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell, row))
    screen.print(table)
