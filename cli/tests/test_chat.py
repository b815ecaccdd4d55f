"""The conversation as a state machine: what a line changes, and what it asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rkllama_cli import chat
from rkllama_cli.chat import (
    Action,
    Ask,
    Chat,
    Leave,
    Load,
    Save,
    Say,
    Show,
    Turn,
)
from rkllama_cli.slash import HELP, HELP_SET, HELP_SHOW, USAGE_PARAMETER, Topic

BEGUN = Chat(model="m")


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("/set parameter temperature 0.2", {"parameters": {"temperature": 0.2}}),
        ("/set parameter num_ctx 4096", {"parameters": {"num_ctx": 4096}}),
        ('/set parameter stop ### "a b"', {"parameters": {"stop": ["###", "a b"]}}),
        ("/set system You are brief.", {"system": "You are brief."}),
        ('/set system "You are brief."', {"system": "You are brief."}),
        ('/set system """You\nare\nbrief."""', {"system": "You\nare\nbrief."}),
        ("/set think", {"think": True}),
        ("/set think high", {"think": "high"}),
        ("/set nothink", {"think": False}),
        ("/set format json", {"format": "json"}),
        ('/set format {"type":"object"}', {"format": {"type": "object"}}),
        ("/set verbose", {"verbose": True}),
        ("/set nohistory", {"history": False}),
        ("/set nowordwrap", {"wrap": False}),
    ],
)
def test_a_setting_changes_the_conversation(line: str, changes: dict[str, Any]) -> None:
    after, action = chat.respond(BEGUN, line)

    assert after == replace(BEGUN, **changes)
    assert isinstance(action, Say)


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("/set verbose", "/set quiet"),
        ("/set nohistory", "/set history"),
        ("/set nowordwrap", "/set wordwrap"),
        ("/set format json", "/set noformat"),
    ],
)
def test_a_setting_can_be_taken_back(on: str, off: str) -> None:
    after, _ = chat.respond(chat.respond(BEGUN, on)[0], off)

    assert after == BEGUN


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("hello", Ask("hello")),
        ('"""two\nlines"""', Ask("two\nlines")),
        ("/home/me/cat.png what is this?", Ask("/home/me/cat.png what is this?")),
        ("/show info", Show(Topic.INFO)),
        ("/show license", Show(Topic.LICENSE)),
        ("/save mine", Save("mine")),
        ("/load qwen3:4b", Load("qwen3:4b")),
        ("/bye", Leave()),
        ("/exit", Leave()),
        ("/?", Say(HELP)),
        ("/help", Say(HELP)),
        ("/? set", Say(HELP_SET)),
        ("/? /show", Say(HELP_SHOW)),
        ("/set", Say(HELP_SET)),
        ("/set verbose now", Say(HELP_SET)),
        ("/set think a lot", Say(HELP_SET)),
        ("/set system", Say(HELP_SET)),
        ("/show", Say(HELP_SHOW)),
        ("/show nothing", Say(HELP_SHOW)),
        ("/save", Say("Use /save NAME")),
        ("/load a b", Say("Use /load NAME")),
        ("/foo", Say("There is no command /foo. Type /? for help.")),
        ("/set parameter", Say(USAGE_PARAMETER)),
        ("/set parameter seed", Say(USAGE_PARAMETER)),
        ("/set parameter foo 1", Say("Unknown parameter 'foo'.")),
        ("/set parameter seed x", Say("Invalid int value [x].")),
        ("/set parameter mirostat 1", Say("mirostat is no longer used and was left out.")),
        ("/set format xml", Say("A format is json, or a JSON schema in one line.")),
    ],
)
def test_a_line_asks_for_one_thing(line: str, action: Action) -> None:
    assert chat.respond(BEGUN, line) == (BEGUN, action)


def test_clear_forgets_what_was_said_and_keeps_the_settings() -> None:
    talked = replace(chat.answered(chat.asked(BEGUN, "a"), "b"), system="s")

    assert chat.respond(talked, "/clear")[0] == replace(BEGUN, system="s")


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        ("hello", False),
        ('"""', True),
        ('"""a\nb', True),
        ('"""a\nb"""', False),
        ('/set system """a', True),
        ('what does """ mean in Python', False),
    ],
)
def test_three_quotes_open_a_message_of_several_lines(text: str, open_: bool) -> None:
    assert chat.unfinished(text) is open_


def test_a_request_holds_the_whole_conversation_and_only_what_was_set() -> None:
    talked = chat.asked(chat.answered(chat.asked(BEGUN, "a", ("aW1n",)), "b", "hm"), "c")

    assert chat.request(talked) == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "a", "images": ["aW1n"]},
            {"role": "assistant", "content": "b", "thinking": "hm"},
            {"role": "user", "content": "c"},
        ],
    }
    settled = replace(
        BEGUN,
        system="s",
        parameters={"seed": 1},
        format="json",
        think=False,
        keep_alive="5m",
    )
    assert chat.request(settled) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}],
        "options": {"seed": 1},
        "format": "json",
        "think": False,
        "keep_alive": "5m",
    }
    # A model that cannot think says so before anybody has typed a question.
    assert chat.loading(settled) == {"options": {"seed": 1}, "keep_alive": "5m", "think": False}


def test_what_is_saved_has_the_models_own_messages_too() -> None:
    """They are replaced by those that come with the request."""
    given = replace(BEGUN, given=(Turn(role="user", content="old"),))

    assert chat.saving(given) == {"from": "m"}
    assert chat.saving(chat.asked(given, "new"))["messages"] == [
        {"role": "user", "content": "old"},
        {"role": "user", "content": "new"},
    ]


def test_another_model_begins_anew_and_looks_the_same() -> None:
    talked = replace(chat.asked(BEGUN, "a"), system="s", think=True, verbose=True)

    assert chat.switched(talked, "n") == Chat(model="n", verbose=True)
