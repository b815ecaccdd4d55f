"""Chat templates see what Hugging Face gives them, and can do no more."""

from __future__ import annotations

from typing import Any

import pytest
from rkllama_protocol.errors import InvalidJobError, InvalidModelError
from rkllama_worker.engine.template import ChatTemplate

NOW = "2026-03-01T12:00:00Z"


def render(source: str, *messages: dict[str, Any], tools: tuple[dict[str, Any], ...] = ()) -> str:
    variables = {"bos_token": "<s>"}
    return ChatTemplate(source).render(messages, tools=tools, now=NOW, variables=variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{% if add_generation_prompt %}go{% endif %}", "<s>go"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{{ strftime_now('%d %b %Y') }}", "01 Mar 2026"),
        ("{{ {'a': '<é>', 'b': 1} | tojson }}", '{"a": "<é>", "b": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("a{% generation %}b{% endgeneration %}c", "abc"),
        ("{{ tools is none }}{{ documents is none }}", "TrueTrue"),
        ("{{ messages[0].content }}{{ messages[0]['role'] }}", "hiuser"),
    ],
)
def test_the_names_that_templates_count_on_are_there(source: str, text: str) -> None:
    assert render(source, {"role": "user", "content": "hi"}) == text


def test_tools_are_handed_over() -> None:
    tool = {"type": "function", "function": {"name": "look"}}

    assert render("{{ tools[0].function.name }}", tools=(tool,)) == "look"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ 1 + 'x' }}", "unsupported operand"),
        ("{{ 1 // 0 }}", "by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
    ],
)
def test_a_template_that_refuses_says_why(source: str, reason: str) -> None:
    with pytest.raises(InvalidJobError, match=reason):
        render(source)


def test_what_is_no_jinja_is_the_models_fault() -> None:
    with pytest.raises(InvalidModelError, match="line 2"):
        ChatTemplate("\n{% for %}")
