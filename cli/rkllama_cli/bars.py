"""How far a pull, a creation or a check is: bars on a terminal, lines anywhere else.

On a terminal every layer has one bar with bytes, speed and the time that is left, and what has no
size has a line of its own. A pipe gets a line when something begins, every tenth of it, and its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from rkllama_cli import wire, words
from rkllama_cli.api import SUCCESS
from rkllama_cli.flow import printable
from rkllama_cli.screen import undisturbed, uninterrupted

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{12})[0-9a-f]{52}")
_STEPS = 10
_STATUS = len("verifying sha256 digest")
"""Of a pull, so that its bars stay where they are."""
_WIDEST_STATUS = len("using existing layer 0123456789ab")
_LONGEST_ETA_S = 99 * 3600


class Bars(Protocol):
    """Where progress is shown."""

    def show(self, record: wire.Progress) -> None:
        """Show one record."""


def follow(records: Iterable[wire.Progress], console: Console) -> None:
    """Show records until they end."""
    with showing(console) as bars:
        for record in records:
            bars.show(record)


@contextmanager
def showing(console: Console) -> Iterator[Bars]:
    """Bars on a terminal that can move its cursor, lines elsewhere."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console)
        return
    spinner = _Spinner()
    progress = Progress(
        spinner,
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, min_width=_STATUS, max_width=_WIDEST_STATUS),
        ),
        _OfLayers(BarColumn(bar_width=None), Column(ratio=1)),
        _OfLayers(TaskProgressColumn(), Column(no_wrap=True)),
        _Amount(Column(justify="right", no_wrap=True, min_width=13)),
        _Speed(Column(justify="right", no_wrap=True, min_width=9)),
        _Left(Column(justify="right", no_wrap=True, min_width=6)),
        console=console,
        expand=True,
    )
    shown = Drawn(progress)
    with undisturbed(), progress:
        try:
            yield shown
        except BaseException:
            # Whatever was under way is not any more.
            spinner.still = True
            raise
        shown.settle()


class Lines:
    """Progress for a pipe or a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: dict[str, int] = {}
        self._last = ""

    def show(self, record: wire.Progress) -> None:
        """Print a line if there is something new to say."""
        if not record.total:
            if record.status != self._last:
                self._print(short(record.status))
        else:
            step = _STEPS * record.completed // record.total
            key = record.digest or record.status
            if self._steps.get(key) != step:
                self._steps[key] = step
                done = f"{100 * record.completed // record.total}%"
                self._print(f"{short(record.status)} {done} of {words.size(record.total)}")
        self._last = record.status

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Drawn:
    """Progress on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._current: TaskID | None = None
        """What has no size and is not known to be over."""

    def show(self, record: wire.Progress) -> None:
        """Move the layer's bar, or begin a line."""
        # An interrupt between what is written and what is remembered of it would have it written again.
        with uninterrupted():
            self._show(record)

    def _show(self, record: wire.Progress) -> None:
        if not record.status:
            return
        if record.digest and not record.total:
            # A remark about a layer is no progress of it.
            self._progress.console.print(short(record.status), markup=False, highlight=False)
            return
        key = record.digest or record.status
        task = self._tasks.get(key)
        if task is None:
            self.settle()
            text = short(record.status)
            # What was there before is where the bar begins, not what was fast.
            task = self._progress.add_task(
                text, total=record.total or None, completed=record.completed
            )
            self._tasks[key] = task
            if record.status == SUCCESS:
                self._progress.update(task, total=0, completed=0)
        if record.total:
            self._progress.update(task, total=record.total, completed=record.completed)
        if not record.total:
            self._current = task

    def settle(self) -> None:
        """What was under way without a size is over."""
        if self._current is not None:
            self._progress.update(self._current, total=0, completed=0)
            self._current = None


def short(status: str) -> str:
    """A status with its digests cut as tables have them."""
    return _DIGEST.sub(r"\1", printable(status))


def _sized(task: Task) -> bool:
    return bool(task.total)


class _Spinner(SpinnerColumn):
    """Turns while something is under way."""

    def __init__(self) -> None:
        super().__init__(finished_text=" ")
        self.still = False

    def render(self, task: Task) -> Text:
        return Text(" ") if self.still else super().render(task)  # type: ignore[return-value]


class _OfLayers(ProgressColumn):
    """Another column, for what has a size."""

    def __init__(self, inner: ProgressColumn, column: Column) -> None:
        super().__init__(table_column=column)
        self._inner = inner

    def render(self, task: Task) -> Text:
        return self._inner.render(task) if _sized(task) else Text("")  # type: ignore[return-value]


class _Amount(ProgressColumn):
    """`312 MB/1.3 GB`, and the size alone at the end."""

    def __init__(self, column: Column) -> None:
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        if not _sized(task):
            return Text("")
        whole = words.size(int(task.total or 0))
        if task.finished:
            return Text(whole)
        return Text(f"{words.size(int(task.completed))}/{whole}")


class _Speed(ProgressColumn):
    """`12.3 MB/s` while it moves."""

    def __init__(self, column: Column) -> None:
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        if not _sized(task) or task.finished or not task.speed:
            return Text("")
        return Text(f"{words.size(int(task.speed))}/s", style="dim")


class _Left(ProgressColumn):
    """`2m05s`, the time that is left."""

    max_refresh = 0.5

    def __init__(self, column: Column) -> None:
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        left_s = task.time_remaining
        if not _sized(task) or task.finished or left_s is None or left_s > _LONGEST_ETA_S:
            return Text("")
        return Text(left(int(left_s)))


def left(seconds: int) -> str:
    """`7s`, `2m05s`, `1h12m`."""
    minutes, rest_s = divmod(seconds, 60)
    if not minutes:
        return f"{rest_s}s"
    hours, rest_min = divmod(minutes, 60)
    return f"{hours}h{rest_min:02d}m" if hours else f"{minutes}m{rest_s:02d}s"
