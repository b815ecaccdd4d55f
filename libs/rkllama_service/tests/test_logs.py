"""The file that all processes of a machine share in debug mode."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rkllama_service import logs
from rkllama_service.process import SetupError

WRITER = """
import logging, sys
from pathlib import Path
from rkllama_service.logs import SharedFile
handler = SharedFile(Path(sys.argv[1]), most_bytes=int(sys.argv[2]))
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
for number in range(400):
    handler.emit(logging.makeLogRecord({"msg": f"{sys.argv[3]} {number}"}))
"""


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield root
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_debug_lines_go_to_the_console_and_to_the_file(tmp_path: Path, root: object) -> None:
    console = io.StringIO()
    logs.configure(debug=True, stream=console, data_dir=tmp_path / "new")
    logging.getLogger("a").debug("thing happened", extra={"model": "m"})

    line = (tmp_path / "new" / "rkllama_debug.log").read_text()
    told = json.loads(line)
    assert (told["event"], told["model"], told["level"]) == ("thing happened", "m", "debug")
    assert told["pid"]
    assert "thing happened" in console.getvalue()


def test_without_debug_there_is_no_file(tmp_path: Path, root: object) -> None:
    console = io.StringIO()
    logs.configure(debug=False, stream=console, data_dir=tmp_path)
    logging.getLogger("a").debug("detail")
    logging.getLogger("a").info("news")

    assert list(tmp_path.iterdir()) == []
    assert "news" in console.getvalue()
    assert "detail" not in console.getvalue()


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "rkllama_debug.log").mkdir()

    with pytest.raises(SetupError, match=r"cannot write to .*rkllama_debug\.log"):
        logs.configure(debug=True, data_dir=tmp_path)


def test_a_full_file_is_put_aside_once_whoever_writes(tmp_path: Path) -> None:
    """Two hold it open: the one who comes later follows, and puts nothing aside again."""
    path = tmp_path / "log"
    first, second = (logs.SharedFile(path, most_bytes=20) for _ in range(2))
    for handler, text in ((first, "long enough to be full"), (first, "a"), (second, "b")):
        handler.emit(logging.makeLogRecord({"msg": text}))
    first.close()
    second.close()

    assert (tmp_path / "log.1").read_text() == "long enough to be full\n"
    assert path.read_text() == "a\nb\n"


def test_processes_that_write_at_once_lose_no_line_of_the_last_two_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    argv = [sys.executable, "-c", WRITER, str(path)]
    # All of it is a little less than twice what one file takes.
    writers = [
        subprocess.Popen(
            [*argv, "4096", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n")
        assert writer.returncode == 0

    both = (tmp_path / "log.1").read_text() + path.read_text()
    assert sorted(both.splitlines()) == sorted(
        f"{name} {number}" for name in "ab" for number in range(400)
    )


def test_every_line_of_a_worker_has_its_id(root: object) -> None:
    console = io.StringIO()
    logs.configure(debug=False, stream=console, worker_id="w1")
    logging.getLogger("a").info("beat")
    logging.getLogger("b").info("heard", extra={"worker_id": "w2"})

    assert [json.loads(line)["worker_id"] for line in console.getvalue().splitlines()] == [
        "w1",
        "w2",
    ]
