"""LoRA adapters on the real small model: what they change, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.runtime.base import GenerateRequest
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp

PROMPT = (504, 1228, 338, 260)
WIDTH = 576
RANK = 4


def adapter(path: Path, *, scale: float, width: int = WIDTH, architecture: str = "llama") -> Path:
    """An adapter of the first layers' attention output, with random weights."""
    writer = GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    random = np.random.default_rng(1)
    for layer in range(6):
        name = f"blk.{layer}.attn_output.weight"
        narrow = random.standard_normal((RANK, width), dtype=np.float32)
        wide = random.standard_normal((width, RANK), dtype=np.float32)
        writer.add_tensor(f"{name}.lora_a", narrow)
        writer.add_tensor(f"{name}.lora_b", wide * np.float32(scale))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def said(weights: Path, adapters: Sequence[Path]) -> list[int]:
    """Twelve tokens, greedy."""
    runtime = LlamaCpp(weights, num_ctx=64, adapters=adapters)
    ids: list[int] = []

    def emit(more: Sequence[int], _logprobs: object = (), /) -> bool:
        ids.extend(more)
        return True

    request = GenerateRequest(sampling=Sampling(temperature=0), max_tokens=12)
    try:
        runtime.generate(PROMPT, request, emit)
    finally:
        runtime.close()
    return ids


@pytest.fixture(scope="module")
def base(weights: Path) -> list[int]:
    return said(weights, ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


def test_an_adapter_changes_what_the_model_says(
    weights: Path, base: list[int], folder: Path
) -> None:
    changed = said(weights, [adapter(folder / "strong.gguf", scale=0.1)])

    assert changed != base
    assert len(changed) == 12


def test_an_adapter_of_zeros_changes_nothing(weights: Path, base: list[int], folder: Path) -> None:
    assert said(weights, [adapter(folder / "none.gguf", scale=0)]) == base


def test_adapters_add_up(weights: Path, base: list[int], folder: Path) -> None:
    """Two that are each other's opposite."""
    one = adapter(folder / "plus.gguf", scale=0.1)
    other = adapter(folder / "minus.gguf", scale=-0.1)

    assert said(weights, [one, other]) == base


@pytest.mark.parametrize(
    ("name", "fields"),
    [("wide", {"width": WIDTH + 64}), ("foreign", {"architecture": "gemma3"})],
)
def test_an_adapter_of_another_model_is_refused(
    weights: Path, folder: Path, name: str, fields: dict[str, object]
) -> None:
    path = adapter(folder / f"{name}.gguf", scale=0.1, **fields)  # type: ignore[arg-type]

    with pytest.raises(InvalidModelError, match=rf"cannot use the adapter {name}\.gguf: .*\w"):
        LlamaCpp(weights, num_ctx=64, adapters=[path])


def test_a_file_that_is_no_adapter_is_refused(weights: Path, folder: Path) -> None:
    path = folder / "text.gguf"
    path.write_text("not a GGUF file, whatever its name says")

    with pytest.raises(InvalidModelError, match=r"cannot use the adapter text\.gguf"):
        LlamaCpp(weights, num_ctx=64, adapters=[path])
