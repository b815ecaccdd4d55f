"""What the worker decides about its NPU before it loads anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from rkllama_board import acquire, detect
from rkllama_protocol.errors import RuntimeFailedError
from rkllama_service.process import SetupError
from rkllama_worker.npu import Npu, take, usable_mask
from rkllama_worker.runtimes import RuntimeChoice, offered
from rkllm_bindings import Identity, identify
from rkllm_bindings.emulator import build

GIB = 2**30


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identify(build("abi-1.3.0", tmp_path_factory.mktemp("emulator")))


@pytest.mark.parametrize(
    ("mask", "available", "used"),
    [
        (0xF0, range(8), 0xF0),
        (0x0F, range(4), 0x0F),
        (0xF0, range(4), 0x0F),
        (0xF0, [0, 1], 0x03),
        (0xF0, [2, 3, 4, 5], 0x3C),
        (0xF0, range(16), 0xF0),
        (0xF00, range(4, 20), 0xF00),
    ],
)
def test_the_mask_names_only_cpus_this_process_may_use(
    mask: int, available: Iterable[int], used: int
) -> None:
    assert usable_mask(mask, available) == used


def test_two_models_over_four_gib_get_domains_of_their_own(identity: Identity) -> None:
    npu = Npu(identity=identity, abi="", cpu_mask=0xF0, first_domain=1, lock=None)
    first = npu.domains_for(5 * GIB, [])
    second = npu.domains_for(5 * GIB, [first])

    assert set(first).isdisjoint(second)
    assert npu.spec(second).base_domain_id == second.start
    with pytest.raises(RuntimeFailedError, match="16 domains"):
        npu.domains_for(60 * GIB, [])


def test_a_node_that_another_worker_has_is_said_in_a_sentence(
    identity: Identity, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    node.touch()
    board = replace(detect(), npu_node=node)
    with acquire(node, wait_s=0), pytest.raises(SetupError, match=f"{node} is in use"):
        take(board, identity, abi="", explicit=True, wait_s=0)


def test_without_a_node_only_a_named_library_makes_a_board(identity: Identity) -> None:
    board = replace(detect(), npu_node=None)

    assert take(board, identity, abi="", explicit=True).lock is None
    with pytest.raises(SetupError, match="no NPU device node"):
        take(board, identity, abi="", explicit=False)


def test_auto_offers_all_there_is_and_a_choice_only_that(identity: Identity) -> None:
    board = detect()

    def formats(choice: RuntimeChoice, library: Path | None) -> tuple[str, ...]:
        return offered(choice, board, library=library, abi="").formats

    assert formats(RuntimeChoice.AUTO, identity.path) == ("rkllm", "gguf")
    assert formats(RuntimeChoice.RKLLM, identity.path) == ("rkllm",)
    assert formats(RuntimeChoice.CPU, identity.path) == ("gguf",)


def test_a_named_library_that_is_none_is_refused_and_the_override_named(tmp_path: Path) -> None:
    wrong = tmp_path / "librkllmrt.so"
    wrong.write_bytes(b"not a library")
    with pytest.raises(SetupError):
        offered(RuntimeChoice.AUTO, detect(), library=wrong, abi="")
