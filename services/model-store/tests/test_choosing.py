"""Which file is pulled, as a table."""

from __future__ import annotations

import pytest
from rkllama_board import Soc
from rkllama_protocol.errors import InvalidJobError, RkllamaError, UpstreamError
from rkllama_store.choosing import chip_of, small_files, vision_encoder, weights
from rkllama_store.recipe import SMALL_FILES

A = "Q-3B-rk3588-w8a8-opt-0-hybrid-ratio-0.0.rkllm"
B = "Q-3B-rk3588-w8a8-opt-1-hybrid-ratio-0.5.rkllm"
C = "Q-3B-rk3588-w8a8-opt-1-hybrid-ratio-0.0.rkllm"
D = "Q-3B-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.0.rkllm"
E = "Q-3B-rk3576-w8a8.rkllm"
F = "Q-3B-rk3576-w4a16.rkllm"
BOTH = [A, B, C, D, E, F, "README.md", "tokenizer.json"]
GGUF = [
    "q-Q2_K.gguf",
    "q-Q4_K_M.gguf",
    "q-Q8_0.gguf",
    "mmproj-f16.gguf",
    "q-F16-00001-of-00002.gguf",
]
RK3588, RK3576, RK3562 = Soc.RK3588, Soc.RK3576, Soc.RK3562


@pytest.mark.parametrize(
    ("paths", "wanted", "soc", "chosen"),
    [
        (BOTH, "", RK3588, C),
        (BOTH, "", RK3576, F),
        (BOTH, "w8a8", RK3576, E),
        (BOTH, "W8A8-G128", RK3588, D),
        (BOTH, A, RK3588, A),
        (BOTH, A.lower(), RK3588, A),
        (BOTH, B.removesuffix(".rkllm"), None, B),
        ([A, B, C], "", None, C),
        (["model.rkllm"], "", RK3576, "model.rkllm"),
        (["rk3588/m.rkllm", "rk3576/m.rkllm"], "", RK3576, "rk3576/m.rkllm"),
        (["rk3588/m.rkllm", "rk3576/m.rkllm"], "m.rkllm", RK3588, "rk3588/m.rkllm"),
        (["x-rk3588s.rkllm"], "", RK3588, "x-rk3588s.rkllm"),
        (GGUF, "", None, "q-Q4_K_M.gguf"),
        (GGUF, "q8_0", RK3588, "q-Q8_0.gguf"),
        (GGUF, "Q2_K", None, "q-Q2_K.gguf"),
        (["b-Q8_0.gguf", "a-Q6_K.gguf"], "", None, "a-Q6_K.gguf"),
        ([*GGUF, A], "", None, "q-Q4_K_M.gguf"),
        ([*GGUF, A], "", RK3588, A),
        ([*GGUF, A], "", RK3576, "q-Q4_K_M.gguf"),
        ([*GGUF, A], A, None, A),
    ],
)
def test_the_file_that_suits_is_chosen(
    paths: list[str], wanted: str, soc: Soc | None, chosen: str
) -> None:
    assert weights(paths, repo="u/r", wanted=wanted, soc=soc) == chosen


@pytest.mark.parametrize(
    ("paths", "wanted", "soc", "kind", "text"),
    [
        (
            [A],
            "",
            RK3576,
            InvalidJobError,
            f"{A} is for the rk3588; models here are for the rk3576",
        ),
        (BOTH, "", RK3562, InvalidJobError, "has files for rk3576 and rk3588 only"),
        (BOTH, E, RK3588, InvalidJobError, "is for the rk3576; models here are for the rk3588"),
        (BOTH, "", None, InvalidJobError, "set RKLLAMA_PLATFORM, or name one of"),
        (BOTH, "w8a8", None, InvalidJobError, "files for rk3576 and rk3588"),
        (
            BOTH,
            "nope.rkllm",
            RK3588,
            UpstreamError,
            "there is no nope.rkllm in u/r; there are Q-3B",
        ),
        (GGUF, "Q5_K_M", None, UpstreamError, "there is no Q5_K_M in u/r"),
        (["m-00001-of-00002.gguf"], "", None, UpstreamError, "no .gguf file in one piece"),
        (GGUF, "F16", None, UpstreamError, "q-F16-00001-of-00002.gguf in u/r is one of several"),
        (GGUF, "q-F16-00001-of-00002", None, UpstreamError, "is one of several parts"),
        (["README.md", "../m.rkllm", "a//m.gguf"], "", None, UpstreamError, "no model"),
        ([], "", RK3588, UpstreamError, "there is no model for this product in u/r"),
    ],
)
def test_what_does_not_suit_is_refused(
    paths: list[str], wanted: str, soc: Soc | None, kind: type[RkllamaError], text: str
) -> None:
    with pytest.raises(kind) as refused:
        weights(paths, repo="u/r", wanted=wanted, soc=soc)

    assert text in refused.value.message


@pytest.mark.parametrize(
    ("path", "repo", "chip"),
    [
        ("m-rk3588-w8a8.rkllm", "u/r", RK3588),
        ("m_RK3576.rkllm", "u/r-rk3588", RK3576),
        ("rk3588/m.rkllm", "u/r", RK3588),
        ("m.rkllm", "u/Qwen-rk3588-1.1.4", RK3588),
        ("m-rk3588-rk3576.rkllm", "u/r-rk3588", None),
        ("m-rv1126.rkllm", "u/r", None),
        ("m-rv1126b.rkllm", "u/r", Soc.RV1126B),
        ("m-rk35888.rkllm", "u/r", None),
    ],
)
def test_names_say_which_chip_a_file_is_for(path: str, repo: str, chip: Soc | None) -> None:
    assert chip_of(path, repo=repo) == chip


def test_the_tokenizer_beside_the_weights_wins() -> None:
    paths = [
        "tokenizer.json",
        "config.json",
        "a/tokenizer.json",
        "a/1_Pooling/config.json",
        "b/config.json",
    ]

    assert small_files(paths, beside="a/m.rkllm") == {
        "tokenizer.json": "a/tokenizer.json",
        "config.json": "config.json",
        "1_Pooling/config.json": "a/1_Pooling/config.json",
    }


@pytest.mark.parametrize(
    ("paths", "encoder"),
    [
        (["v-rk3588.rknn", "v-rk3576.rknn"], "v-rk3588.rknn"),
        (["v.rknn"], "v.rknn"),
        (["a.rknn", "b.rknn"], None),
        (["sub/a.rknn", "b.rknn"], "b.rknn"),
        (["v-rk3576.rknn"], None),
        ([], None),
    ],
)
def test_the_one_vision_encoder_for_the_chip_comes_along(
    paths: list[str], encoder: str | None
) -> None:
    assert vision_encoder(paths, beside="m-rk3588.rkllm", repo="u/r") == encoder


def test_small_files_have_one_order() -> None:
    """Which of them a set gives first differs from process to process."""
    names = sorted(SMALL_FILES)

    assert list(small_files(list(reversed(names)), beside="m.rkllm")) == names
