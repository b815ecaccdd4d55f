"""A stop string ends the text in the same place, however the text arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_worker.engine.stops import StopMatcher


def through(stops: list[str], parts: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(part) for part in parts) + matcher.flush()
    return shown, matcher.matched


@pytest.mark.parametrize(
    ("stops", "text", "shown", "matched"),
    [
        ([], "all of it", "all of it", False),
        ([""], "all of it", "all of it", False),
        (["END"], "before END after", "before ", True),
        (["END"], "before EN", "before EN", False),
        (["aab"], "aaab", "a", True),
        (["\n\n", "User:"], "one\ntwo\n\nUser: x", "one\ntwo", True),
        (["abcd", "bc"], "xabcd", "xa", True),
        (["bc", "abc"], "xabc", "x", True),
        (["🦜"], "a 🦜 b", "a ", True),
    ],
)
def test_text_is_shown_up_to_the_stop_string(
    stops: list[str], text: str, shown: str, matched: bool
) -> None:
    assert through(stops, [text]) == (shown, matched)
    assert through(stops, list(text)) == (shown, matched)


def test_it_is_told_which_one_came() -> None:
    matcher = StopMatcher(["later", "abcd", "bc"])
    before = matcher.found
    matcher.feed("xab")
    matcher.feed("cd, later")

    assert (before, matcher.found) == ("", "bc")


def test_only_what_could_begin_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(["</end>"])

    assert [matcher.feed(part) for part in ("a<", "b</en", "d", ">c")] == ["a", "<b", "", ""]


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", max_size=4), max_size=3),
    data=st.data(),
)
def test_how_the_text_is_cut_does_not_matter(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert through(stops, parts) == through(stops, [text])
