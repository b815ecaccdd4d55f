"""From what a model wrote to the name and the arguments of a call.

{"name": N, "arguments" | "parameters": {..} or a string that holds one}
{"type": "function", "function": {the same}}     {"function": N, "parameters": {..}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rkllama_worker.engine.parsing.objects import loads
from rkllama_worker.engine.parsing.scanning import Found, NotACallError

Tools = Mapping[str, Mapping[str, Any]]
"""The job's tools, by name: `parameters` and what else the client says of each."""

KEYS = ("name", "arguments", "parameters", "function", "type", "id")
"""Those that may come before it is known which tool is called."""


def tools_of(definitions: tuple[dict[str, Any], ...]) -> Tools:
    """The tools of a job, by name; what has none cannot be called."""
    functions = (tool.get("function") for tool in definitions)
    known = (function for function in functions if isinstance(function, dict))
    return {name: tool for tool in known if isinstance(name := tool.get("name"), str) and name}


def call_of(text: str, tools: Tools, *, marked: bool) -> Found:
    """The call that a JSON object is; one that was marked as a call may leave out the arguments.

    Raises:
        NotACallError: It is none, or of no tool of the job.
    """
    said = loads(text)
    inner = said.get("function")
    if isinstance(inner, dict):
        said = inner
    name = said.get("name", inner)
    if not isinstance(name, str) or name not in tools:
        raise NotACallError
    given = [said[key] for key in ("arguments", "parameters") if key in said]
    if not given and not marked:
        raise NotACallError
    arguments = _arguments(given[0] if given else None)
    if _is_definition(arguments) and "properties" not in properties(tools[name]):
        raise NotACallError
    return Found(name, arguments)


def _arguments(given: object) -> dict[str, Any]:
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        given = loads(given)
    if not isinstance(given, dict):
        raise NotACallError
    return given


def _is_definition(arguments: Mapping[str, Any]) -> bool:
    """Small models say back what a tool looks like instead of calling it."""
    return arguments.get("type") == "object" and isinstance(arguments.get("properties"), dict)


def properties(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a tool, by name; empty where its definition is not as it should be."""
    parameters = tool.get("parameters")
    found = parameters.get("properties") if isinstance(parameters, dict) else None
    return found if isinstance(found, dict) else {}


_EDGES = re.compile(r"\A\r?\n|\r?\n\Z")
_WORDS = {"True": "true", "False": "false", "None": "null"}


def typed(text: str, tool: Mapping[str, Any], name: str) -> Any:
    """A parameter written as bare text, in the type that the tool wants; where that fails, the text.

    One line break at each end belongs to the tags.
    """
    text = _EDGES.sub("", text)
    types = _types(properties(tool).get(name))
    bare = text.strip()
    if bare in {"null", "None"} and "null" in types:
        return None
    if not types or "string" in types:
        return text
    try:
        return loads(_WORDS.get(bare, bare))
    except NotACallError:
        return text


def _types(schema: object) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    said = schema.get("type", [])
    types = set(said) if isinstance(said, list) else {said}
    for name in ("anyOf", "oneOf"):
        alternatives = schema.get(name)
        if isinstance(alternatives, list):
            types = types.union(*map(_types, alternatives))
    return {one for one in types if isinstance(one, str)}
