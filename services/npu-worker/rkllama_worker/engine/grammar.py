"""What an answer has to be, as a grammar: llguidance's dialect of Lark, with JSON Schemas in it.

    start := [ thinking ] body
    body  := JSON by a schema | the call of a tool, as the model's own template writes calls | either

llguidance 1.9 (docs/syntax.md, docs/json_schema.md) does not implement some keywords, such as `not`; those
are left to the check of the finished answer. It has no opinion on keywords that JSON Schema does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from rkllama_protocol.templates import ThinkingTags

from rkllama_worker.engine.parsing import syntax as parsing
from rkllama_worker.engine.parsing.syntax import marks_of

Schema = dict[str, Any] | bool
Literally = Callable[[str], str]
"""A text as a grammar writes it: quoted, or by its id if it is one special token."""
Thinking = Literal["none", "possible", "begun"]
"""Whether an answer may begin with reasoning, or the prompt has begun it already."""

ANY_OBJECT: Schema = {"type": "object"}
FORMATS = frozenset(
    {
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    }
)
"""Values of `format` that llguidance knows; JSON Schema takes all others for remarks."""
_JSON_OPTIONS = {"whitespace_pattern": r"( |\n{1,2}[ \t]{0,20})?", "lenient": True}
"""At most as much white space as llama.cpp's own grammars allow: small models never end it otherwise. What
llguidance does not implement is left out of the grammar, and to the check of the whole answer."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_ONES = (
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "additionalItems",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """How a family of models writes the call of a tool: marks around a JSON object."""

    open: str = ""
    before: str = ""
    after: str = ""
    close: str = ""
    arguments: str = "arguments"
    """The key of the arguments; that of the name is `name`."""


def call_form(template: str) -> CallForm:
    """The form that a model with this chat template was trained on, of those that the parser reads."""
    for mark in marks_of(template):
        match mark.open:
            case "<|python_tag|>":
                # Llama 3 writes its JSON without the mark.
                return CallForm(arguments="parameters")
            case "[TOOL_CALLS]":
                return CallForm(open=mark.open, before="[", after="]")
            case parsing.FUNCTION:
                continue
            case open_:
                return CallForm(open=open_, before="\n", after="\n", close=mark.close)
    return CallForm()


def of_schema(schema: Schema) -> str:
    """A body that is JSON by this schema."""
    return f"body: {_json(schema)}\n"


def of_call(tools: Mapping[str, Schema], form: CallForm, literally: Literally) -> str:
    """A body that is one call of one of `tools`, name to the schema of its arguments."""
    return f"body: call\n{_calls(tools, form, literally)}"


def of_either(
    schema: Schema, tools: Mapping[str, Schema], form: CallForm, literally: Literally
) -> str:
    """A body that is JSON by the schema, or such a call."""
    return f"body: call | document\ndocument: {_json(schema)}\n{_calls(tools, form, literally)}"


def _calls(tools: Mapping[str, Schema], form: CallForm, literally: Literally) -> str:
    rules = [f"call: {' | '.join(f'call_{n}' for n in range(len(tools)))}"]
    for n, (name, schema) in enumerate(tools.items()):
        head = f'{form.before}{{"name": {json.dumps(name)}, "{form.arguments}": '
        open_, close = literally(form.open), literally(form.close)
        # Rules of its own, so that references of one schema do not reach into another.
        rules += [
            f"call_{n}: {open_} {_quoted(head)} arguments_{n} {_quoted('}' + form.after)} {close}",
            f"arguments_{n}: {_json(schema)}",
        ]
    return "\n".join(rules) + "\n"


def whole(body: str, *, thinking: Thinking, tags: ThinkingTags | None, literally: Literally) -> str:
    """The grammar of an answer: `body`, after reasoning between `tags` where there may be any."""
    if thinking == "none" or tags is None:
        return f"%llguidance {{}}\nstart: body\n{body}"
    start = "start: reasoning body\n"
    if thinking == "possible":
        start = f"start: body | thought body\nthought: {literally(tags.open)} reasoning\n"
    close, text = literally(tags.close), "/(.|\\n)*/"
    # A special token ends a text by itself; a tag of ordinary ones has to be looked for, the first one.
    special = close.startswith("<[")
    reasoning = f"reasoning: TEXT {close}\nTEXT: {text}\n" if special else ""
    reasoning = reasoning or f"reasoning[lazy]: {text} {close}\n"
    return f"%llguidance {{}}\n{start}{reasoning}{body}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def prepared(schema: Schema) -> Schema:
    """The schema as the grammar gets it: as narrow as the client's, or narrower.

    Objects that list their properties get no others, as in llama.cpp's grammars: a small model goes on
    inventing some for ever. Unknown formats go, since they are remarks.
    """
    # Parts of one object, described apart, must stay open for each other's properties.
    apart = any(
        "allOf" in one or ("properties" in one and _BESIDE & one.keys()) for one in _within(schema)
    )
    return _prepared(schema, close=not apart)


_BESIDE = frozenset({"anyOf", "oneOf", "$ref", "if", "dependentSchemas"})
_OPENING = frozenset({"additionalProperties", "unevaluatedProperties", "patternProperties"})


def _prepared(schema: Schema, *, close: bool) -> Schema:
    if isinstance(schema, bool):
        return schema
    made = {key: value for key, value in schema.items() if key != "x-guidance"}
    if made.get("format") not in FORMATS:
        made.pop("format", None)
    if close and "properties" in made and not _OPENING & made.keys():
        made["additionalProperties"] = False
    for key, value in made.items():
        if key in _MAPS and isinstance(value, dict):
            made[key] = {
                name: _prepared(one, close=close) if _is_schema(one) else one
                for name, one in value.items()
            }
        elif key in _LISTS and isinstance(value, list):
            made[key] = [_prepared(one, close=close) for one in value]
        elif key in _ONES and isinstance(value, dict):
            made[key] = _prepared(value, close=close)
    return made


def _is_schema(value: object) -> TypeGuard[Schema]:
    return isinstance(value, dict | bool)


def _within(schema: object) -> Iterator[dict[str, Any]]:
    """A schema and all those in it, but for those that are only a bool."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            inner = list(value.values())
        elif key in _LISTS and isinstance(value, list):
            inner = value
        else:
            inner = [value] if key in _ONES else []
        for one in inner:
            yield from _within(one)


def _json(schema: Schema) -> str:
    made = prepared(schema)
    if isinstance(made, bool):
        made = {} if made else {"enum": []}
    return f"%json {json.dumps({**made, 'x-guidance': _JSON_OPTIONS})}"


def parameters(tools: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Schema]:
    """Name to the schema of the arguments, of those `tools` (in OpenAI's shape) that are in `names`."""
    functions = [tool.get("function", tool) for tool in tools]
    return {
        function["name"]: {**(function.get("parameters") or {}), "type": "object"}
        for function in functions
        if function.get("name") in names
    }
