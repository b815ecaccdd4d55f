"""Lines of real libraries, as users posted them (rkllm-abi facts), and what is read out of them."""

from __future__ import annotations

import dataclasses

import pytest
from rkllama_worker.engine.runtime.init_log import parse

LOADED = """\
I rkllm: rkllm-runtime version: 1.2.3, rknpu driver version: 0.9.8, platform: RK3588
I rkllm: loading rkllm model from /models/blobs/sha256-00
I rkllm: rkllm-toolkit version: 1.2.2, max_context_limit: 4096, npu_core_num: 3, \
target_platform: RK3576, model_dtype: W8A8
I rkllm: Enabled cpus: [4, 5, 6, 7]
"""


def test_the_facts_of_a_load() -> None:
    assert dataclasses.asdict(parse(LOADED)) == {
        "context_limit": 4096,
        "toolkit": "1.2.2",
        "runtime": "1.2.3",
        "driver": "0.9.8",
        "platform": "RK3588",
        "target_platform": "RK3576",
        "model_dtype": "W8A8",
        "reason": "",
    }


def test_nothing_is_made_up() -> None:
    said = parse("W rkllm: something else\n")

    assert (said.context_limit, said.toolkit, said.platform, said.reason) == (None, "", "", "")


def test_the_limit_that_was_exceeded_is_the_one() -> None:
    line = "max_context[16384] must be less than the model's max_context_limit[4096]"

    assert parse(f"E rkllm: {line}").context_limit == 4096


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("failed to open rknpu module, need to insmod rknpu dirver!", "rknpu driver loaded"),
        ("failed to open rknn device!", "open its device node"),
        ("the model's target_platform does not match the real platform", "another SoC"),
        ("failed to malloc npu memory, size: 4022272000", "no memory left"),
        ("failed to allocate handle, ret: -1, errno: 14, errstr: Bad address", "no memory left"),
        ("Mismatch driver version, rknn requires driver version >= 0.9.0", "driver is too old"),
        (
            "The rkllm-runtime version is lower than the rkllm-toolkit version. Please update",
            "older than the model's toolkit",
        ),
        ("invalid rkllm model!", "no RKLLM model"),
        ("invalid rknn llm model magic", "another generation"),
        ("invalid magic number, got 46554747", "another generation"),
        ("set affinity failed", "CPUs of the mask"),
        ("Mismatch between enabled CPUs mask and expected count", "CPUs of the mask"),
    ],
)
def test_known_reasons_in_words(line: str, words: str) -> None:
    assert words in parse(f"E rkllm: {line}\nE rkllm: rkllm_init failed\n").reason
