"""A model can do what its chat template shows, and not what it only mentions."""

from __future__ import annotations

import pytest
from rkllama_protocol.templates import TAGS, ThinkingTags, reads_tools, thinking_tags, thinks


@pytest.mark.parametrize(
    ("template", "reads"),
    [
        ("{{ tools | tojson }}", True),
        ("{%- if tools %}{{ 1 }}{% endif %}", True),
        ("{% for tool in tools %}{{ tool }}{% endfor %}", True),
        ("{%- if not tools is defined %}", True),
        ('{{ "say \\"}}\\" " + tools | tojson }}', True),
        ("", False),
        ("You have tools.", False),
        ("{{ 'You have tools.' }}", False),
        ('{{ "You have \\"tools\\"." }}', False),
        ("{# tools come later #}", False),
        ("{{ message.tools }}", False),
        ("{{ builtin_tools }}", False),
        ("{% if message.tool_calls %}<tool_call>{{ message.tool_calls }}{% endif %}", False),
    ],
)
def test_a_template_that_uses_the_tools_can_show_them(template: str, *, reads: bool) -> None:
    assert reads_tools(template) is reads


@pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.open)
def test_every_pair_of_tags_is_told_from_the_others(tags: ThinkingTags) -> None:
    template = f"{{{{ '{tags.open}' + thought + '{tags.close}' }}}}"

    assert thinking_tags(template) == tags
    assert thinks(template)


def test_a_closing_tag_alone_shows_how_thinking_is_marked_but_not_that_one_can_ask_for_it() -> None:
    template = "{{ content.split('</think>')[-1] }}"

    assert thinking_tags(template) == TAGS[0]
    assert not thinks(template)


def test_a_template_without_tags_is_of_a_model_that_does_not_think() -> None:
    assert thinking_tags("{{ content }}") is None
    assert not thinks("<think>")
