"""`/api/chat`: loads, answers, what becomes of messages and how prompts are put together (contract 2.8, 2.9)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import ABSENT, UTC, Match, Partial, both
from tests.integration.conformance.models import LONG, SENTENCE, THOUGHT
from tests.integration.conformance.shapes import (
    answered,
    chat,
    chat_stream,
    loaded,
    refused,
)
from tests.integration.conformance.table import Row, post, row, whole

PIRATE = "You are a PIRATE."
AHOY = ("user", "Ahoy?"), ("assistant", 'Ahoy, "friend".')


def said_by(*turns: tuple[str, str]) -> list[dict[str, str]]:
    """Messages, of roles and contents."""
    return [{"role": role, "content": content} for role, content in turns]


def chats(*turns: tuple[str, str], model: str = "plain", **more: Any) -> Any:
    """A chat without a stream."""
    return whole("/api/chat", model=model, messages=said_by(*turns), **more)


def renders(*turns: tuple[str, str], model: str = "plain", **more: Any) -> Any:
    """What the prompt would be."""
    return chats(*turns, model=model, _debug_render_only=True, **more)


def rendered(*turns: tuple[str, str], end: str = "") -> Any:
    """A prompt of these turns, in the template of `plain`."""
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return prompt(f"{text}<|im_start|>assistant\n{end}")


def prompt(text: Any) -> Any:
    """A prompt of this text."""
    return answered(Partial({"_debug_info": Partial({"rendered_template": text})}))


def ours(*turns: tuple[str, str]) -> Any:
    """A prompt of these turns, in the template of `voiced`."""
    return prompt("".join(f"[{role}] {content}\n" for role, content in turns) + "[assistant] ")


TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
SOME_TOO_LONG = Match(
    r".*context.*(exceed|too large|longer|too long).*|.*(exceed|too large|longer|too long).*context.*"
)
WORDS = "word " * 40

ROWS: tuple[Row, ...] = (
    row("2.8", "an answer", chats(("user", "hi")), chat("plain", "Hello.")),
    row("2.8", "an answer with an emoji", chats(("user", "forecast")), chat("plain", SENTENCE)),
    row("2.8", "a stream", post("/api/chat", {"model": "plain", "messages": said_by(("user", "hi"))}),
        chat_stream("plain", "Hello.")),
    row("2.8", "a long stream", post(
        "/api/chat", {"model": "plain", "messages": said_by(("user", "count")), "stream": True}),
        chat_stream("plain", LONG)),
    *(
        row("2.8", f"{what} loads", post("/api/chat", {"model": "plain", **more}), loaded("chat", "plain"))
        for what, more in (
            ("nothing", {}), ("no messages", {"messages": []}), ("null messages", {"messages": None}),
            ("no messages, streaming,", {"messages": [], "stream": True}),
        )
    ),
    row("2.8", "roles may be in capitals", chats(("SYSTEM", "PIRATE"), ("User", "hi")),
        chat("plain", "Arr.")),
    row("2.8", "roles are lower-cased", renders(("User", "hi")), rendered(("user", "hi"))),
    row("2.8", "any role will do", chats(("wizard", "forecast")), chat("plain", SENTENCE)),
    row("2.8", "any role is shown", renders(("wizard", "hi")), rendered(("wizard", "hi"))),
    row("2.8", "the whole conversation counts", chats(
        ("user", "BUTLER, please"), ("assistant", "Sir?"), ("user", "hi")),
        chat("plain", "Yes, my lord.")),
    row("2.8", "what stands last is asked last", chats(("user", "forecast"), ("assistant", "x"), ("user", "count")),
        chat("plain", LONG)),
    row("2.8", "a system message", chats(("system", "PIRATE"), ("user", "hi")), chat("plain", "Arr.")),
    row("2.8", "what is not known of a message is ignored", whole(
        "/api/chat", model="plain", messages=[{"role": "user", "content": "hi", "name": "x", "nope": {}}]),
        chat("plain", "Hello.")),
    row("2.8", "the render is shown", renders(("user", "hi")),
        answered(both(
            Partial({"model": "plain", "created_at": UTC, "done_reason": ABSENT}),
            Partial({"_debug_info": Partial({"rendered_template": Match(".*hi.*")})}),
        ))),
    row("2.8", "a render of a conversation", renders(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c")),
        rendered(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))),
    row("2.8", "two of one role are merged", renders(("user", "one"), ("user", "two")),
        rendered(("user", "one\n\ntwo"))),
    row("2.8", "three of one role are merged", renders(
        ("user", "q"), ("assistant", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "r")),
        rendered(("user", "q"), ("assistant", "a\n\nb\n\nc"), ("user", "r"))),
    row("2.8", "system messages are merged", renders(("system", "A"), ("system", "B"), ("user", "hi")),
        rendered(("system", "A\n\nB"), ("user", "hi"))),
    row("2.8", "results of tools are not merged", renders(
        ("user", "q"), ("tool", "1"), ("tool", "2"), model="tools"),
        prompt(Match(r".*<\|im_start\|>tool\n1<\|im_end\|>\n<\|im_start\|>tool\n2<\|im_end\|>\n.*"))),
    row("2.8", "the model's SYSTEM and MESSAGEs come first", renders(("user", "hi"), model="voiced"),
        ours(("system", PIRATE), *AHOY, ("user", "hi"))),
    row("2.8", "a system message of the client's replaces the model's SYSTEM", renders(
        ("system", "BUTLER"), ("user", "hi"), model="voiced"),
        prompt(both(Match(r".*BUTLER.*\[user\] hi\n\[assistant\] "), Match(r"((?!PIRATE).)*")))),
    row("2.8", "a system message further on does not", renders(
        ("user", "a"), ("system", "BUTLER"), ("user", "b"), model="voiced"),
        prompt(Match(r"\[system\] You are a PIRATE\..*BUTLER.*"))),
    row("2.8", "the model's SYSTEM is answered", chats(("user", "hi"), model="voiced", options={"num_predict": 9}),
        chat("voiced", "Arr.")),
    # ---------------------------------------------------------------- too long
    row("2.8", "the oldest messages are dropped", renders(
        ("user", WORDS), ("assistant", "yes"), ("user", "hi"), model="short"),
        prompt(both(Match(r".*hi<\|im_end\|>\n.*"), Match(r"((?!word).)*")))),
    row("2.8", "the system message is kept", renders(
        ("system", "BE BRIEF"), ("user", WORDS), ("assistant", "yes"), ("user", "hi"), model="short"),
        prompt(both(Match(r".*BE BRIEF.*hi<\|im_end\|>\n.*"), Match(r"((?!word).)*")))),
    row("2.8", "what was too long is answered", chats(
        ("user", WORDS), ("assistant", "yes"), ("user", "hi"), model="short"), chat("short", "Hello.")),
    row("2.9", "not truncated, it is refused", chats(
        ("user", WORDS), ("assistant", "yes"), ("user", "hi"), model="short", truncate=False),
        refused(400, SOME_TOO_LONG)),
    row("2.9", "one message is too long, and must not be shifted", chats(
        ("user", WORDS), model="short", shift=False), refused(400, TOO_LONG)),
    row("2.9", "one message is too long, and is cut", chats(
        ("user", WORDS + "count"), model="short", options={"num_predict": 4}),
        answered(Partial({"done": True, "message": Partial({"role": "assistant"})}))),
    # ---------------------------------------------------------------- thinking
    row("2.8", "thinking is unset, and on", chats(("user", "2+2"), model="thinker"),
        chat("thinker", "The answer is 4.", thinking=THOUGHT)),
    row("2.8", "thinking is on", chats(("user", "2+2"), model="thinker", think=True),
        chat("thinker", "The answer is 4.", thinking=THOUGHT)),
    *(
        row("2.8", f"thinking is {level}", chats(("user", "2+2"), model="thinker", think=level),
            chat("thinker", "The answer is 4.", thinking=THOUGHT))
        for level in ("low", "medium", "high", "max")
    ),
    row("2.8", "thinking streams first", post(
        "/api/chat", {"model": "thinker", "messages": said_by(("user", "2+2"))}),
        chat_stream("thinker", "The answer is 4.", thinking=THOUGHT)),
    row("2.8", "nothing thought is nothing", chats(("user", "nothing"), model="thinker", think=True),
        chat("thinker", "Nothing to think about.")),
    row("2.8", "no tags, no thoughts", chats(("user", "at once"), model="thinker", think=True),
        chat("thinker", "No thought at all.")),
    row("2.7", "tags stay in the answer if not asked to think", chats(
        ("user", "2+2"), model="thinker", think=False),
        chat("thinker", f"<think>\n{THOUGHT}\n</think>\n\nThe answer is 4.")),
    row("2.7", "not asked to think, the prompt says so", renders(("user", "2+2"), model="thinker", think=False),
        rendered(("user", "2+2"), end="<think>\n\n</think>\n\n")),
    row("2.7", "unset, the prompt is as for thinking", renders(("user", "2+2"), model="thinker"),
        rendered(("user", "2+2"))),
    row("2.8", "thoughts of earlier turns are left out", renders(
        ("user", "a"), ("assistant", "<think>secret</think>b"), ("user", "c"), model="thinker"),
        rendered(("user", "a"), ("assistant", "b"), ("user", "c"))),
    row("2.8", "cut short in its thoughts", chats(
        ("user", "2+2"), model="thinker", options={"num_predict": 12}),
        chat("thinker", "", thinking=THOUGHT[:4].rstrip(), reason="length")),
)  # fmt: skip
