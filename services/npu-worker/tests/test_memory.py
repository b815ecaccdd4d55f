"""What models may use where nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest
from rkllama_worker.memory import for_models, machine_bytes

GIB = 2**30
V2 = "sys/fs/cgroup/memory.max"
V1 = "sys/fs/cgroup/memory/memory.limit_in_bytes"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({V2: "max\n"}, 8 * GIB),
        ({V2: f"{5 * GIB}\n"}, 4 * GIB),
        ({V2: f"{50 * GIB}\n"}, 8 * GIB),
        ({V1: "9223372036854771712\n"}, 8 * GIB),
        ({V1: f"{5 * GIB}\n"}, 4 * GIB),
        ({V2: ""}, 8 * GIB),
    ],
    ids=["no groups", "v2 none", "v2", "v2 above", "v1 none", "v1", "empty"],
)
def test_the_smaller_of_machine_and_container_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert for_models(10 * GIB, tmp_path) == expected


def test_this_machine_has_memory() -> None:
    assert machine_bytes() > 2**28
