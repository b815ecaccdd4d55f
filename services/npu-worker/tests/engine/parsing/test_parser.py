"""Text becomes thinking, calls and content, the same wherever it was cut, and no later than it must."""

from __future__ import annotations

import codecs
import string
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.templates import TAGS, ThinkingTags, thinking_tags
from rkllama_worker.engine.parsing.arguments import tools_of
from rkllama_worker.engine.parsing.parser import Delta, Format, OutputParser
from rkllama_worker.engine.parsing.syntax import marks_of, words_of

from .corpus import TEMPLATES, TOOLS, Output, outputs

OUTPUTS = outputs()
TOOLS_BY_NAME = tools_of(TOOLS)
ALL = " ".join(TEMPLATES.values()) + "<|tool_call|> <|/tool_call|> <seed:tool_call> <TOOLCALL>"
CALL = '{"name": "get_time", "arguments": {"zone": "UTC"}}'
FOUND = ("get_time", {"zone": "UTC"})


def form(template: str) -> Format:
    return Format(tags=thinking_tags(template), marks=marks_of(template), tools=TOOLS_BY_NAME)


def through(
    parts: list[str], template: str, *, prompt: str = "", hidden: tuple[str, ...] = ()
) -> Delta:
    """The sum of everything."""
    parser = OutputParser(form(template), job_id="job", prompt=prompt, hidden=hidden)
    total = Delta()
    for part in parts:
        total = total.then(parser.feed(part))
    return total.then(parser.flush())


def byte_by_byte(text: str) -> list[str]:
    """What each byte completes, as of a tokenizer whose tokens are bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(bytes([byte])) for byte in text.encode()]


def calls(delta: Delta) -> tuple[tuple[str, object], ...]:
    functions = [call["function"] for call in delta.tool_calls]
    assert [function["index"] for function in functions] == list(range(len(functions)))
    return tuple((function["name"], function["arguments"]) for function in functions)


def cut(text: str, places: set[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise([0, *sorted(places), len(text)])]


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_an_output_means_what_it_means(output: Output) -> None:
    """At once, a character and a byte at a time, and cut in two at every place; more cuts are below."""
    text = output.text
    in_two = ([text[:at], text[at:]] for at in range(1, len(text)))
    for parts in ([text], list(text), byte_by_byte(text), *in_two):
        delta = through(parts, TEMPLATES[output.family])

        assert delta.thinking == output.thinking
        assert delta.content == output.content
        assert calls(delta) == output.calls


def test_there_are_sixty_outputs_of_each_family() -> None:
    families = Counter(output.family for output in OUTPUTS)

    assert families.keys() == TEMPLATES.keys()
    assert min(families.values()) >= 60
    assert max(Counter(map(str, OUTPUTS)).values()) == 1


@given(output=st.sampled_from(OUTPUTS), data=st.data())
def test_how_an_output_is_cut_does_not_matter(output: Output, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(output.text))))
    template = TEMPLATES[output.family]

    assert through(cut(output.text, places), template) == through([output.text], template)


PIECES = st.sampled_from(
    [
        *words_of(marks_of(ALL)),
        *("<think>", "</think>", "```json\n", "```", CALL, "\n", " ", "  ", ",", ";", "é", "🦜"),
        *("[", "]", "{", "}", '"', ":", "<", "/", ">", "\\", "get_time", "null", "1", "a"),
        *("<function=get_time>", "<parameter=zone>", "</parameter>", "</function>"),
        *('{"name": "get_time", ', '"arguments": {', '"zone": "<tool_call>"', "[ARGS]{}"),
    ]
)
TEXTS = st.lists(PIECES, max_size=20).map("".join) | st.text(st.sampled_from(string.printable))


@given(text=TEXTS, template=st.sampled_from([*TEMPLATES.values(), ALL]), data=st.data())
def test_how_any_text_is_cut_does_not_matter(text: str, template: str, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(text))))

    assert through(cut(text, places), template) == through([text], template)
    assert through(list(text), template) == through([text], template)


@given(text=TEXTS, template=st.sampled_from([*TEMPLATES.values(), ALL]))
def test_a_text_without_a_call_is_kept_to_the_letter(text: str, template: str) -> None:
    delta = through([text], template)
    if not (delta.tool_calls or delta.thinking or "<think>" in text or "[]" in text):
        assert delta.content == text


@given(text=TEXTS)
def test_without_tools_all_text_is_content(text: str) -> None:
    parser = OutputParser(Format(tools={}), job_id="job")

    assert parser.feed(text) == Delta(content=text)


# ------------------------------------------------------------------ no later than it must


@pytest.mark.parametrize(
    ("family", "parts", "shown"),
    [
        ("hermes", ["It", " rains", " in", " Paris"], ["It", " rains", " in", " Paris"]),
        ("hermes", ["a", "\n", "\n", "b"], ["a", "", "", "\n\nb"]),
        ("hermes", ["2 <", " 3"], ["2", " < 3"]),
        ("hermes", ["x<tool", "_box>"], ["x", "<tool_box>"]),
        ("hermes", ["<tool_call>", "no"], ["", "<tool_call>no"]),
        (
            "hermes",
            ["<tool_call>", '{"name": "get_w', "x"],
            ["", "", '<tool_call>{"name": "get_wx'],
        ),
        ("hermes", ["{", '"', "t", "emp"], ["", "", "", '{"temp']),
        ("hermes", ["{", '"name": "A'], ["", '{"name": "A']),
        ("hermes", ["[", "1"], ["", "[1"]),
        ("hermes", ["`", "``", "py"], ["", "", "```py"]),
        ("hermes", ["see ", '{"name": "get_time"'], ["see", ' {"name": "get_time"']),
        ("mistral", ["[", "TOOL", "S"], ["", "", "[TOOLS"]),
        ("mistral", ["[TOOL_CALLS]", "get", "_x"], ["", "", "[TOOL_CALLS]get_x"]),
        ("coder", ["<function=", "get_x"], ["", "<function=get_x"]),
        ("generic", ["1", " <", " 2\n", "[TOOL"], ["1", " <", " 2\n", "[TOOL"]),
        ("thinking", ["<think>a", " b", "</", "i>", "\n"], ["", "", "", "", ""]),
    ],
)
def test_what_cannot_be_a_call_any_more_is_shown_at_once(
    family: str, parts: list[str], shown: list[str]
) -> None:
    parser = OutputParser(form(TEMPLATES[family]), job_id="job")

    assert [parser.feed(part).content for part in parts] == shown


def test_a_call_comes_with_the_piece_that_makes_it_whole() -> None:
    """Also the first of several in an array; nothing waits for a closing mark."""
    parser = OutputParser(form(TEMPLATES["hermes"]), job_id="job")
    parts = ["Hm. <tool_call>[", CALL[:-1], "}", ", ", CALL, "]", "</tool_call>"]

    assert [len(parser.feed(part).tool_calls) for part in parts] == [0, 0, 1, 0, 1, 0, 0]


def test_thinking_is_shown_as_it_comes() -> None:
    parser = OutputParser(form(TEMPLATES["thinking"]), job_id="job")
    parts = ["<thi", "nk>", "\n", "I ", "see", " <", "b", ".", "\n</thi", "nk>\n", "\nYes"]
    deltas = [parser.feed(part) for part in parts]

    thinking = ["", "", "", "I", " see", "", " <b", ".", "", "", ""]
    assert [delta.thinking for delta in deltas] == thinking
    assert [delta.content for delta in deltas] == [""] * 10 + ["Yes"]


# ------------------------------------------------------------------ ids, special tokens, marks


def test_ids_follow_from_the_job_and_the_index() -> None:
    """Every attempt of a job repeats them."""
    text = f"<tool_call>{CALL}{CALL}</tool_call>"
    ids = [
        call["id"]
        for job in ("one", "one", "two")
        for call in (OutputParser(form(ALL), job_id=job).feed(text).tool_calls)
    ]

    assert ids[:2] == ids[2:4]
    assert len(set(ids)) == 4
    for call_id in ids:
        assert call_id[:5] == "call_"
        assert len(call_id) == 13
        assert set(call_id[5:]) <= set(string.digits + string.ascii_lowercase)


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        (["Hm. ", "[TOOL_CALLS]", "fly", "[ARGS]", "{}"], "Hm. fly{}"),
        (["Yes", "[/THINK]", " and no."], "Yes and no."),
        (["[TOOL_CALLS]", "get_ti"], "get_ti"),
        (["[TOOL_CALLS]"], ""),
    ],
)
def test_a_mark_that_is_a_special_token_is_never_shown(parts: list[str], content: str) -> None:
    hidden = ("[TOOL_CALLS]", "[ARGS]", "[/THINK]")

    assert through(parts, "[TOOL_CALLS] [/THINK]", hidden=hidden).content == content


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("<|tool_call|>", f"<|tool_call|>{CALL}<|/tool_call|>"),
        ("<|tool_call|>", f"<|tool_call|>[{CALL}]"),
        ("<TOOLCALL>", f"<TOOLCALL>[{CALL}]</TOOLCALL>"),
        (
            "<seed:tool_call> <function=",
            "<seed:tool_call><function=get_time><parameter=zone>UTC</parameter></function>\n",
        ),
    ],
)
def test_other_families_have_other_marks(template: str, text: str) -> None:
    delta = through(list(text), template)

    assert (delta.content, calls(delta)) == ("", (FOUND,))


def test_a_tool_may_have_properties_as_a_parameter() -> None:
    """What looks like a definition is a call where the tool takes such things."""
    text = '{"name": "make", "arguments": {"type": "object", "properties": {}}}'
    tool = {"name": "make", "parameters": {"properties": {"type": {}, "properties": {}}}}
    made = Format(tools={"make": tool})

    assert OutputParser(made, job_id="job").feed(text).tool_calls
    assert not OutputParser(form(""), job_id="job").feed(text).tool_calls


def test_nesting_has_an_end() -> None:
    """Deep brackets are refused, not followed until the stack is full."""
    text = '<tool_call>{"name": "calculate", "arguments": {"a": ' + "[" * 5000

    assert through([text], ALL).content == text


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ('<tool_call>{"name": "write_file", "arguments": {"content": "', '"}}'),
        ("<function=write_file><parameter=content>", "</parameter></function>"),
    ],
)
def test_a_call_may_be_as_long_as_a_context(begin: str, end: str) -> None:
    written = "word " * 10_000
    delta = through([begin, *written, *end], ALL)

    assert calls(delta) == (("write_file", {"content": written}),)


# ------------------------------------------------------------------ thinking


@pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.open)
def test_tags_of_every_family_part_thinking_from_content(tags: ThinkingTags) -> None:
    template = f"{tags.open} {tags.close}"
    text = f"{tags.open}\nhm {tags.close[:-1]}, well\n{tags.close}\n\nParis."
    for parts in ([text], list(text)):
        delta = through(parts, template)

        assert (delta.thinking, delta.content) == (f"hm {tags.close[:-1]}, well", "Paris.")


@pytest.mark.parametrize(
    "text", ["so</think>\n\nyes", "<think>\nso</think>yes", " <think> so </think> yes"]
)
def test_a_prompt_that_opened_the_tag_begins_with_thinking(text: str) -> None:
    """Some models write it once more."""
    template = "<think> </think>"
    prompt = "<|im_start|>assistant\n<think>\n"
    for parts in ([text], list(text)):
        delta = through(parts, template, prompt=prompt)

        assert (delta.thinking, delta.content) == ("so", "yes")


def test_a_template_that_only_cuts_thinking_off_shows_how_it_is_marked() -> None:
    assert thinking_tags("{{ content.split('</think>')[-1] }}") == TAGS[0]
    assert thinking_tags("{{ content }}") is None
