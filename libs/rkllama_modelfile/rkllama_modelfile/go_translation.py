r"""Translates the Go templates of old, which know one turn and no list of messages, into Jinja.

    {{ if .System }}{{ .System }}\n{{ end }}Q: {{ .Prompt }}\nA: {{ .Response }}

They consist of text, `.System`, `.Prompt`, `.Response`, `.Suffix`, and conditions on these. Ollama
executes one for each turn of a conversation, and for the last turn only up to `.Response`, where the
model goes on (contract 6.2). What a template has beyond that is not translated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

_FIELDS = {".System": "system", ".Prompt": "prompt", ".Response": "response", ".Suffix": "suffix"}
_WORDS = {"else": "{%- else -%}", "end": "{%- endif -%}"}
_CONDITION = re.compile(r"(else\s+)?if\s+(?:(and|or|not)\s+)?(\.\w+(?:\s+\.\w+)*)")
_TURNS = """\
{%- set ns = namespace(system='', prompt='', response='') -%}
{%- if suffix -%}
{{- last('', prompt, '', suffix) -}}
{%- else -%}
{%- for message in messages -%}
{%- set text = message['content'] if message['content'] is string else \
message['content'] | map(attribute='text', default='') | join -%}
{%- if message['role'] == 'system' -%}
{%- if ns.prompt or ns.response -%}
{{- turn(ns.system, ns.prompt, ns.response) -}}
{%- set ns.prompt, ns.response = '', '' -%}
{%- endif -%}
{%- set ns.system = text -%}
{%- elif message['role'] == 'user' -%}
{%- if ns.response -%}
{{- turn(ns.system, ns.prompt, ns.response) -}}
{%- set ns.system, ns.response = '', '' -%}
{%- endif -%}
{%- set ns.prompt = text -%}
{%- elif message['role'] == 'assistant' -%}
{%- set ns.response = text -%}
{%- endif -%}
{%- endfor -%}
{{- last(ns.system, ns.prompt, ns.response) -}}
{%- endif -%}
"""
"""`turn` is the whole template, `last` what it has up to `.Response`."""


class Piece(NamedTuple):
    """A text of a Go template, or an action without its braces and marks."""

    text: str
    action: bool


def translated(pieces: Iterable[Piece]) -> str | None:
    """The Jinja template that lays a conversation out in these turns; None if it is more than turns.

    Blocks are balanced, and white space is trimmed already.
    """
    parts = list(pieces)
    if not any(piece.action and ".Response" in piece.text for piece in parts):
        parts.append(Piece(".Response", action=True))
    whole, head = _jinja(parts, cut=False), _jinja(parts, cut=True)
    if whole is None or head is None:
        return None
    fills_in = _mentions_suffix(parts)
    # A suffix that stands anywhere means that the model fills in the middle.
    values = "system, prompt, response" + (", suffix=''" if fills_in else "")
    return (
        f"{{%- macro turn({values}) -%}}"
        + whole
        + f"{{%- endmacro -%}}\n{{%- macro last({values}) -%}}"
        + head
        + "{%- endmacro -%}\n"
        + (_TURNS if fills_in else _TURNS_ONLY)
    )


def _without_suffix(turns: str) -> str:
    head, _, rest = turns.partition("{%- if suffix -%}\n")
    body = rest.partition("{%- else -%}\n")[2].removesuffix("{%- endif -%}\n")
    return head + body


_TURNS_ONLY = _without_suffix(_TURNS)


def _mentions_suffix(parts: Iterable[Piece]) -> bool:
    return any(piece.action and ".Suffix" in piece.text for piece in parts)


def _jinja(parts: Iterable[Piece], *, cut: bool) -> str | None:
    """The pieces in Jinja, with `cut` only up to the first `.Response`; open blocks are closed."""
    out: list[str] = []
    over = False
    for text, action in parts:
        if not action:
            tag = "{{- " + json.dumps(text, ensure_ascii=False) + " -}}" if text else ""
        elif (found := _tag(text)) is None:
            return None
        else:
            tag = found
        # Behind the cut only blocks are left, and nothing in them.
        if not over or tag.startswith(("{%- if", "{%- endif")):
            out.append(tag)
        over = over or (cut and text == ".Response")
    return "".join(out)


def _tag(text: str) -> str | None:
    if text in _FIELDS:
        return "{{- " + _FIELDS[text] + " -}}"
    if text in _WORDS:
        return _WORDS[text]
    condition = _CONDITION.fullmatch(text)
    if condition is None:
        return None
    branch, word, names = condition[1], condition[2], condition[3].split()
    alone = word in (None, "not")
    if not set(names) <= _FIELDS.keys() or (alone and len(names) > 1):
        return None
    said = f" {word} ".join(_FIELDS[name] for name in names)
    said = f"not {said}" if word == "not" else said
    return "{%- " + ("elif " if branch else "if ") + said + " -%}"
