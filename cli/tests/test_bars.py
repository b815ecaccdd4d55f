"""Progress: lines for a pipe, bars for a terminal of 80 columns."""

from __future__ import annotations

import io

import pyte
from rich.console import Console
from rkllama_cli import bars
from rkllama_cli.wire import Progress

DIGEST = "sha256:" + "0123456789ab" + "c" * 52
OTHER = "sha256:" + "ba9876543210" + "c" * 52


def pulled(*completed: int, total: int = 1000) -> list[Progress]:
    layer = [
        Progress(status="pulling 0123456789ab", digest=DIGEST, total=total, completed=c)
        for c in completed
    ]
    return [Progress(status="pulling manifest"), *layer, Progress(status="success")]


def on_pipe(*records: Progress) -> list[str]:
    screen = Console(file=io.StringIO(), width=80)
    bars.follow(records, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def on_terminal(*records: Progress) -> list[str]:
    """What stands there at the end."""
    screen = Console(file=io.StringIO(), width=80, force_terminal=True)
    bars.follow(records, screen)
    assert isinstance(screen.file, io.StringIO)
    seen = pyte.Screen(80, 20)
    seen.set_mode(pyte.modes.LNM)
    pyte.Stream(seen).feed(screen.file.getvalue())
    return [line.strip() for line in seen.display if line.strip()]


def test_a_pipe_gets_a_line_for_every_tenth() -> None:
    assert on_pipe(*pulled(0, 10, 20, 99, 150, 1000, 1000)) == [
        "pulling manifest",
        "pulling 0123456789ab 0% of 1.0 KB",
        "pulling 0123456789ab 15% of 1.0 KB",
        "pulling 0123456789ab 100% of 1.0 KB",
        "success",
    ]


def test_a_pipe_is_told_a_status_once_and_no_whole_digest() -> None:
    status = f"using existing layer {DIGEST}"

    assert on_pipe(Progress(status=status), Progress(status=status)) == [
        "using existing layer 0123456789ab"
    ]


def test_a_terminal_has_a_bar_for_each_layer_that_ends_with_its_size() -> None:
    shown = on_terminal(
        Progress(status="pulling manifest"),
        Progress(status="pulling 0123456789ab", digest=DIGEST, total=10**9, completed=10**9),
        Progress(status="pulling ba9876543210", digest=OTHER, total=616, completed=616),
        Progress(status="success"),
    )

    assert shown[0] == "pulling manifest"
    assert shown[1].startswith("pulling 0123456789ab")
    assert shown[1].split()[-3:] == ["100%", "1.0", "GB"]
    assert shown[2].split()[-3:] == ["100%", "616", "B"]
    assert shown[3] == "success"


def test_a_resumed_layer_begins_where_it_was() -> None:
    shown = on_terminal(
        Progress(status="pulling 0123456789ab", digest=DIGEST, total=1000, completed=750)
    )

    assert shown[0].split()[-4:] == ["75%", "750", "B/1.0", "KB"]


def test_what_a_server_says_is_no_markup() -> None:
    assert "[bold]x" in on_terminal(Progress(status="[bold]x"))[0]
    assert on_pipe(Progress(status="[bold]x")) == ["[bold]x"]


def test_a_remark_about_a_layer_is_a_line_of_its_own() -> None:
    """A long one does not push the bars together."""
    remark = "blob 0123456789ab (weights) of smollm2:135m is damaged: its bytes are not its own"
    shown = on_terminal(
        Progress(status="verifying 0123456789ab", digest=DIGEST, total=10**9, completed=10**9),
        Progress(status=remark, digest=DIGEST),
    )

    assert " ".join(shown[:2]) == remark
    assert shown[2].startswith("verifying 0123456789ab")
    assert shown[2].endswith("100%        1.0 GB")


def test_a_server_cannot_move_the_cursor() -> None:
    assert on_pipe(Progress(status="\x1b[2Jx")) == ["[2Jx"]
