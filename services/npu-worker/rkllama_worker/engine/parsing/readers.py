"""What a call may look like behind its mark, and where there is none.

json       {..}  [{..}, {..}]  {..}; {..}             Hermes, Qwen, Llama 3, Mistral, Phi
function   NAME><parameter=KEY>value</parameter>..</function>    Qwen 3 Coder, Seed-OSS
           NAME>{..}</function>                                  Llama 3.1
named      NAME[ARGS]{..}  NAME[CALL_ID]id[ARGS]{..}             Mistral since 2025
fenced     ```json {..} ```                           any model that was not taught better
"""

from __future__ import annotations

from rkllama_worker.engine.parsing import objects
from rkllama_worker.engine.parsing.arguments import KEYS, Tools, call_of, typed
from rkllama_worker.engine.parsing.objects import loads
from rkllama_worker.engine.parsing.scanning import (
    Found,
    NotACallError,
    Source,
    Steps,
    literal,
    space,
    until,
    word,
)
from rkllama_worker.engine.parsing.syntax import ARGS, CALL_ID, FENCE, FUNCTION, Mark

_FENCES = ("```json", "```JSON", "```tool_call", "```tool_code", "```\n", "```\r\n")


def marked(source: Source, tools: Tools, mark: Mark) -> Steps[None]:
    """Everything from behind a mark to its closing one, which may be missing."""
    first = yield from space(source)
    if mark.open == FUNCTION:
        yield (yield from _function(source, tools))
    elif first == "<" and mark.functions:
        yield from literal(source, FUNCTION)
        yield (yield from _function(source, tools))
    elif first in "{[":
        yield from _json(source, tools, marked=True)
    elif mark.named:
        yield (yield from _named(source, tools))
    else:
        raise NotACallError
    yield from _closing(source, tools, mark.close)


def bare(source: Source, tools: Tools) -> Steps[None]:
    """An object or an array of them without any mark."""
    yield from _json(source, tools, marked=False)


def fenced(source: Source, tools: Tools) -> Steps[None]:
    """The same in a block of code."""
    yield from literal(source, *_FENCES)
    yield from _json(source, tools, marked=False)
    yield from _closing(source, tools, FENCE)


def _json(source: Source, tools: Tools, *, marked: bool) -> Steps[None]:
    if (yield from space(source)) != "[":
        yield (yield from _object(source, tools, marked=marked))
        return
    source.at += 1
    if (yield from space(source)) == "]" and marked:
        # "No call", said in the way of a call (SmolLM2's prompt asks for it).
        source.at += 1
        source.between = True
        return
    going_on = True
    while going_on:
        yield (yield from _object(source, tools, marked=marked))
        going_on = yield from objects.more(source, "]")


def _object(source: Source, tools: Tools, *, marked: bool) -> Steps[Found]:
    if (yield from space(source)) != "{":
        raise NotACallError
    source.between = False
    begin = source.at
    yield from _members(source, tools)
    return call_of(source.text[begin : source.at], tools, marked=marked)


def _members(source: Source, tools: Tools) -> Steps[None]:
    """The members of a call's object; which tool it calls decides early whether it is one."""
    named, going_on = False, True
    source.at += 1
    while going_on:
        if (yield from space(source)) != '"':
            raise NotACallError
        key = yield from objects.key(source, among=None if named else KEYS)
        first = yield from space(source)
        if key == "function" and first == "{":
            yield from _members(source, tools)
            named = True
        elif key in {"name", "function"}:
            if first != '"':
                raise NotACallError
            yield from objects.string(source, among=tools)
            named = True
        else:
            yield from objects.value(source)
        going_on = yield from objects.more(source, "}")


def _function(source: Source, tools: Tools) -> Steps[Found]:
    source.between = False
    name = yield from until(source, ">", among=tools)
    if (yield from space(source)) == "{":
        arguments = yield from _plain_object(source)
        yield from space(source)
        yield from literal(source, "</function>")
        return Found(name, arguments)
    arguments = {}
    while True:
        yield from space(source)
        if (yield from literal(source, "<parameter=", "</function>")) == "</function>":
            return Found(name, arguments)
        parameter = yield from until(source, ">")
        text = yield from until(source, "</parameter>")
        arguments[parameter] = typed(text, tools[name], parameter)


def _named(source: Source, tools: Tools) -> Steps[Found]:
    source.between = False
    name = yield from word(source, among=tools)
    if (yield from space(source)) == "[" and (yield from literal(source, ARGS, CALL_ID)) == CALL_ID:
        yield from until(source, ARGS)
    return Found(name, (yield from _plain_object(source)))


def _plain_object(source: Source) -> Steps[dict[str, object]]:
    if (yield from space(source)) != "{":
        raise NotACallError
    begin = source.at
    yield from objects.value(source)
    found: dict[str, object] = loads(source.text[begin : source.at])
    return found


def _closing(source: Source, tools: Tools, close: str) -> Steps[None]:
    """More calls inside the same marks, and the closing one."""
    if not close:
        return
    while True:
        after = yield from space(source)
        if after in "{[":
            yield from _json(source, tools, marked=True)
        elif after in ";,}]":
            # Small models lose count of their brackets.
            source.at += 1
        else:
            yield from literal(source, close)
            return
