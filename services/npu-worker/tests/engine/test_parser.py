"""Reasoning in tags becomes thinking, the rest content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_worker.engine.parser import OutputParser, thinks


def through(parts: list[str], *, thinking: bool = True, prompt: str = "") -> tuple[str, str]:
    parser = OutputParser(thinking=thinking, prompt=prompt)
    deltas = [*(parser.feed(part) for part in parts), parser.flush()]
    return "".join(d.content for d in deltas), "".join(d.thinking for d in deltas)


@pytest.mark.parametrize(
    ("text", "content", "thinking"),
    [
        ("just an answer", "just an answer", ""),
        ("  spaced answer", "  spaced answer", ""),
        ("<think>\nhm, well\n</think>\n\nParis.", "Paris.", "hm, well"),
        ("\n<think>\n\n</think>\n\nParis.", "Paris.", ""),
        ("<think>never done </thin", "", "never done </thin"),
        ("<think>a < b </b> c</think>d</think>", "d</think>", "a < b </b> c"),
        ("<thi", "<thi", ""),
        ("", "", ""),
    ],
)
def test_tags_part_thinking_from_content(text: str, content: str, thinking: str) -> None:
    assert through([text]) == (content, thinking)
    assert through(list(text)) == (content, thinking)


def test_a_prompt_that_opened_the_tag_begins_with_thinking() -> None:
    prompt = "<|im_start|>assistant\n<think>\n"

    assert through(["so</think>\n\nyes"], prompt=prompt) == ("yes", "so")


def test_a_model_that_does_not_think_keeps_its_tags() -> None:
    assert through(["<think>x</think>y"], thinking=False) == ("<think>x</think>y", "")


def test_a_template_that_shows_the_tags_is_of_a_thinking_model() -> None:
    assert thinks("{{ content.split('</think>')[-1] }}")
    assert not thinks("{{ content }}")


@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "/", " ", "\n", "a"])).map("".join),
    data=st.data(),
)
def test_how_the_text_is_cut_does_not_matter(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert through(parts) == through([text])
