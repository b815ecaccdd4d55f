"""What a job requires of its answer, beyond being one: a format, or the call of a tool.

    grammar       for a runtime that can be held to it while it generates
    instruction   for one that can only be asked
    problem       checked on every whole answer, whichever it was

The schema is the client's: `jsonschema-rs` validates all of it (drafts 4 to 2020-12, formats too), and
fetches nothing that it refers to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jsonschema_rs
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.messages import Job
from rkllama_protocol.templates import ThinkingTags

from rkllama_worker.engine import grammar
from rkllama_worker.engine.constraint import GrammarConstraint, Vocabulary
from rkllama_worker.engine.grammar import ANY_OBJECT, Schema, Thinking
from rkllama_worker.engine.parsing.arguments import tools_of

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The content satisfies `schema`, or one of `tools` is called, name to arguments' schema.

    Without a schema a call is forced; with one, it is as good as an answer where there are tools.
    """

    schema: Schema | None
    tools: Mapping[str, Schema]
    _content: jsonschema_rs.Validator | None
    _arguments: Mapping[str, jsonschema_rs.Validator]

    def constraint(
        self,
        vocabulary: Vocabulary,
        *,
        template: str,
        thinking: Thinking,
        tags: ThinkingTags | None,
    ) -> GrammarConstraint:
        """The grammar that holds one run to it.

        Raises:
            InvalidJobError: No grammar can.
        """
        form = grammar.call_form(template)
        if self.schema is None:
            body = grammar.of_call(self.tools, form, vocabulary.literally)
        elif self.tools:
            body = grammar.of_either(self.schema, self.tools, form, vocabulary.literally)
        else:
            body = grammar.of_schema(self.schema)

        def held(thinking: Thinking) -> GrammarConstraint:
            return GrammarConstraint(
                vocabulary,
                grammar.whole(body, thinking=thinking, tags=tags, literally=vocabulary.literally),
            )

        alone = held("none")
        # Behind reasoning, that a body has no answer would show only when the reasoning is over.
        return alone if thinking == "none" else held(thinking)

    @property
    def instruction(self) -> str:
        """The same in words, for a model."""
        if self.schema is None:
            names = " or ".join(f"`{name}`" for name in self.tools)
            return f"Answer with a call of the tool {names}, and with nothing else."
        answer = "Unless you call a tool, answer" if self.tools else "Answer"
        if self.schema == ANY_OBJECT:
            return f"{answer} with one JSON object, and with nothing else."
        schema = json.dumps(self.schema, ensure_ascii=False)
        return f"{answer} with JSON that satisfies this schema, and with nothing else:\n{schema}"

    def problem(self, content: str, calls: Sequence[Mapping[str, Any]]) -> str:
        """What is wrong with a whole answer, in a sentence; empty if nothing is."""
        if self._content is not None:
            if calls:
                return ""
            try:
                return _complaint(self._content, _parsed(content))
            except ValueError as error:
                return f"it is not JSON: {error}"
        if not calls:
            return "it calls no tool"
        for call in calls:
            function = call.get("function", call)
            validator = self._arguments.get(function["name"])
            if validator is None:
                return f"it calls `{function['name']}`"
            if complaint := _complaint(validator, function.get("arguments")):
                return f"the arguments of `{function['name']}` are wrong: {complaint}"
        return ""


def required(job: Job) -> Requirement | None:
    """What a job requires; None if any answer will do.

    Raises:
        InvalidJobError: Its schema is none, or a tool it names is not there.
    """
    if job.forced_tools:
        tools = grammar.parameters(job.tools, job.forced_tools)
        if missing := set(job.forced_tools) - tools.keys():
            raise InvalidJobError(f"there is no tool {', '.join(sorted(missing))} to call")
        validators = {name: _validator(schema, f"tool {name}") for name, schema in tools.items()}
        return Requirement(None, tools, None, validators)
    if job.format is None:
        return None
    schema = ANY_OBJECT if job.format == "json" else job.format
    # As without a format, their arguments are the client's to check.
    tools = dict.fromkeys(tools_of(job.tools), ANY_OBJECT)
    return Requirement(schema, tools, _validator(schema, "format"), {})


def unfenced(content: str) -> str:
    """JSON without the fence that models put around it; other text as it is."""
    match = _FENCED.fullmatch(content)
    return match[1] if match else content


def _parsed(content: str) -> object:
    try:
        return json.loads(content, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _validator(schema: Schema, place: str) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidJobError(f"invalid JSON schema in {place}: {reason}") from error


def _complaint(validator: jsonschema_rs.Validator, value: object) -> str:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"[{step!r}]" for step in error.instance_path)
        return f"{error.message} at {where}" if where else str(error.message)
    except ValueError as error:
        # Numbers that it has no type for.
        return str(error)
    return ""
