"""A Hugging Face chat template: Jinja in a sandbox, with the names such templates count on.

The environment is that of transformers' `utils/chat_template_utils.py`: `raise_exception`,
`strftime_now`, `tojson` without HTML escapes, loop controls, and `{% generation %}`, which marks the
assistant's part for training and means nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rkllama_protocol.errors import InvalidJobError, InvalidModelError


class _GenerationExtension(Extension):
    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """One template, compiled."""

    def __init__(self, source: str) -> None:
        """Compile `source`.

        Raises:
            InvalidModelError: It is no Jinja.
        """
        self.source = source
        environment = _environment()
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise InvalidModelError(
                f"the chat template is wrong in line {error.lineno}: {error.message}"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]],
        now: str,
        variables: Mapping[str, object],
    ) -> str:
        """The prompt up to where the model begins to answer. `now` is RFC 3339.

        Raises:
            InvalidJobError: The template refuses the messages, or cannot cope with them.
        """
        try:
            return self._template.render(
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=True,
                strftime_now=_strftime(now),
                **variables,
            )
        # A template is a program of somebody else's: it divides, indexes and recurses as it likes.
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise InvalidJobError(f"the chat template refuses the messages: {error}") from error
        except (ArithmeticError, RecursionError) as error:
            raise InvalidJobError(f"the chat template fails: {error}") from error


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationExtension, LoopControlExtension],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates call it by position
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime(now: str) -> Callable[[str], str]:
    """The job's own moment: every attempt must render the same prompt."""
    return lambda pattern: datetime.fromisoformat(now).strftime(pattern)
