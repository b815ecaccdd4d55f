"""What a pull's text asks for, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.names import ModelName
from rkllama_store.sources import Named, OnHub, is_repo, parse

LONG = "L" * 90


def hub(repo: str, wanted: str = "", name: str | None = None, *, short: bool = True) -> OnHub:
    parsed = ModelName.parse(name) if name else None
    return OnHub(repo=repo, wanted=wanted, name=parsed, short_name=short)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("smollm2:135m", Named(name=ModelName(model="smollm2", tag="135m"))),
        (
            "registry.ollama.ai/library/smollm2:135m",
            Named(name=ModelName(model="smollm2", tag="135m")),
        ),
        ("me/mine", Named(name=ModelName(namespace="me", model="mine"))),
        ("hf.co/u/r", hub("u/r", "", "hf.co/u/r")),
        ("https://hf.co/u/r/", hub("u/r", "", "hf.co/u/r")),
        ("  hf.co/u/r:latest ", hub("u/r", "", "hf.co/u/r:latest")),
        ("HF.co/u/R.1:Q4_K_M", hub("u/R.1", "Q4_K_M", "HF.co/u/R.1:Q4_K_M")),
        ("huggingface.co/u/r:a.rkllm", hub("u/r", "a.rkllm", "huggingface.co/u/r:a.rkllm")),
        ("hf.co/u/r:sub/a.gguf", hub("u/r", "sub/a.gguf", "hf.co/u/r:a.gguf")),
        ("hf.co/u/r/a.rkllm", hub("u/r", "a.rkllm", "hf.co/u/r:a.rkllm")),
        ("hf.co/u/r/a.rkllm:latest", hub("u/r", "a.rkllm", "hf.co/u/r:a.rkllm")),
        (
            "https://huggingface.co/u/r/blob/main/a.rkllm",
            hub("u/r", "a.rkllm", "huggingface.co/u/r:a.rkllm"),
        ),
        (f"hf.co/u/r:{LONG}.rkllm", hub("u/r", f"{LONG}.rkllm")),
        ("u/r.x/a.rkllm", hub("u/r.x", "a.rkllm")),
        ("u/r/sub/A.GGUF", hub("u/r", "sub/A.GGUF")),
        ("u/r/a.rkllm/mine", hub("u/r", "a.rkllm", "mine", short=False)),
        ("u/r/a.rkllm/mine:1b", hub("u/r", "a.rkllm", "mine:1b", short=False)),
        ("u/r/a.rkllm/ns/mine", hub("u/r", "a.rkllm", "ns/mine", short=False)),
        ("registry.example/u/m.gguf", Named(name=ModelName.parse("registry.example/u/m.gguf"))),
    ],
)
def test_every_form_is_understood(text: str, source: Named | OnHub) -> None:
    assert parse(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "x:",
        "hf.co",
        "hf.co/",
        "hf.co/u",
        "hf.co/u/",
        "hf.co//r",
        "hf.co/u/r:",
        "hf.co/u/r:a/../b",
        "hf.co/u/r:/a",
        "hf.co/u/r:..",
        "hf.co/u/..",
        "hf.co/../r",
        "hf.co/u/r/a.rkllm:b.rkllm",
        "hf.co/u/r:a\\b",
        "hf.co/u/r:a\nb",
        "hf.co/u/r--s",
        "hf.co/u/r.git",
        f"hf.co/u/{LONG}{LONG}",
        "u/r/../a.rkllm",
        "u/../a.rkllm",
        "u/r/a.rkllm/",
        "u/r/a.rkllm/..",
        "u/r/a.rkllm/a b",
        "a/b/c/d",
        "../../etc/passwd",
        "hf.co/u/r:" + "a/" * 300,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidJobError, match="invalid model name"):
        parse(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("hf.co/u/r:q4_0", "HF.co/U/R:Q4_0", True),
        ("hf.co/u/r", "huggingface.co/u/r", False),
        ("u/r/a.rkllm", "u/r/a.rkllm/mine", False),
        ("SmolLM2", "smollm2:latest", True),
    ],
)
def test_what_means_the_same_is_the_same_work(one: str, other: str, *, same: bool) -> None:
    assert (parse(one).key == parse(other).key) is same


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Qwen/Qwen2.5-3B", True), ("Qwen", False), ("a/b/c", False), ("../x", False), ("", False)],
)
def test_what_a_card_can_name(text: str, *, answer: bool) -> None:
    assert is_repo(text) is answer


@given(st.text(alphabet="hf.co/ur:a\\\0 \n%-_.rkllmgguf", max_size=60))
def test_nothing_asked_for_leaves_the_repository(text: str) -> None:
    try:
        source = parse(text)
    except InvalidJobError:
        return
    if isinstance(source, OnHub):
        assert ".." not in source.wanted.split("/")
        assert "\\" not in source.wanted
        assert not source.wanted.startswith("/")
        assert source.repo.count("/") == 1
