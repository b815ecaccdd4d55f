"""Every family's emulator, built once a run, and models on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import FAMILIES, Library, Model, ModelConfig, Step, load_library
from rkllm_bindings.emulator import ModelScript, build, read_trace


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The emulator of each family."""
    folder = tmp_path_factory.mktemp("emulator")
    return {family: build(family, folder) for family in FAMILIES}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def library(family: str, libraries: dict[str, Path]) -> Library:
    return load_library(libraries[family])


@pytest.fixture
def newest(libraries: dict[str, Path]) -> Library:
    """For what is the same in every family."""
    return load_library(libraries["abi-1.3.0"])


class Stage:
    """Models of one test, with a trace of what crossed the border."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.trace_path = folder / "trace"
        self._stack = stack

    def script(self, **keys: Any) -> Path:
        """A model file that traces into this stage."""
        keys.setdefault("trace", self.trace_path)
        return ModelScript(**keys).write(self.folder / "model.rkllm")

    def load(self, library: Library, *, config: dict[str, Any] | None = None, **keys: Any) -> Model:
        """A loaded model on a script with these keys."""
        path = self.script(**keys)
        model = Model(library, ModelConfig(path=path, **(config or {})))
        return self._stack.enter_context(model)

    def trace(self, event: str | None = None) -> list[dict[str, Any]]:
        return [line for line in read_trace(self.trace_path) if event in (None, line["event"])]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


class Steps(list[Step]):
    """An `on_step` that keeps what it gets."""

    def __call__(self, step: Step) -> None:
        self.append(step)

    @property
    def text(self) -> bytes:
        return b"".join(step.text or b"" for step in self)

    @property
    def ids(self) -> list[int]:
        return [step.token_id for step in self if step.token_id >= 0]

    @property
    def states(self) -> list[str]:
        return [step.state.name for step in self]


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    """The layout facts, by family id."""
    listed = json.loads(Path(__file__).with_name("layouts.json").read_text())["families"]
    return {family["id"]: family for family in listed}


@pytest.fixture
def run_alone() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Load a model and run it in a process of its own, which may die of it."""

    def run(
        library: Path, model: Path, code: str = "", *, timeout_s: float = 20
    ) -> subprocess.CompletedProcess[str]:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from rkllm_bindings import *\n"
            "model = Model(load_library(Path(sys.argv[1])), ModelConfig(path=Path(sys.argv[2])))\n"
            "given = []\n" + (code or "model.load(); model.run(Text(prompt='hi'), given.append)")
        )
        return subprocess.run(
            [sys.executable, "-c", program, str(library), str(model)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run
