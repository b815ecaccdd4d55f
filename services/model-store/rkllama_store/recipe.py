"""What a create request asks for, checked: everything that is refused before any work begins.

Texts are Ollama's (contract 2.14).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from rkllama_protocol.errors import InvalidJobError, InvalidModelError, UnsupportedError
from rkllama_protocol.messages import ChatMessage, CreateRequest
from rkllama_protocol.names import Digest, InvalidNameError, ModelName

from rkllama_store import facts

WEIGHTS_ENDINGS = (".gguf", ".rkllm")
PROJECTOR_ENDING = ".rknn"
SMALL_FILES = frozenset(
    {
        facts.TOKENIZER_FILE,
        facts.TOKENIZER_CONFIG_FILE,
        facts.GENERATION_FILE,
        facts.CONFIG_FILE,
        "special_tokens_map.json",
        facts.TEMPLATE_FILE,
        facts.POOLING_FILE,
    }
)

_GO_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:\.|\$|/\*|(?:if|range|with|define|block|template)\s|(?:end|else)\s*-?\}\})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One create, ready to be worked on."""

    name: ModelName
    base: ModelName | None
    files: Mapping[str, str]
    """File name, free of folders but for the pooling file's, to digest as it came; empty with a base."""
    template: str
    system: str
    license: tuple[str, ...]
    parameters: Mapping[str, Any]
    messages: tuple[ChatMessage, ...]


class _Generation(Extension):
    """`{% generation %}`, which some published templates mark the answer with."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def model_name(text: str) -> ModelName:
    """The name of a model to be made or pulled.

    Raises:
        InvalidJobError: It is none.
    """
    try:
        return ModelName.parse(text)
    except InvalidNameError as error:
        raise InvalidJobError("invalid model name") from error


def recipe(request: CreateRequest) -> Recipe:
    """What the request asks for.

    Raises:
        InvalidJobError: It can never succeed.
        UnsupportedError: It asks for what is not there.
    """
    name = model_name(request.model)
    if not request.base and not request.files:
        raise InvalidJobError("neither 'from' or 'files' was specified")
    if request.base and request.files:
        raise UnsupportedError("either 'from' or 'files' can be given, not both")
    check_template(request.template)
    return Recipe(
        name=name,
        base=model_name(request.base) if request.base else None,
        files=_files(request.files),
        template=request.template,
        system=request.system,
        license=tuple(text for text in request.license if text),
        parameters={key: value for key, value in request.parameters.items() if value is not None},
        messages=request.messages,
    )


def _files(files: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path_text, digest in files.items():
        if not digest:
            raise InvalidJobError("invalid digest format")
        path = PurePosixPath(path_text.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise InvalidJobError("file path must be relative")
        pooling = str(path).endswith(facts.POOLING_FILE)
        name = facts.POOLING_FILE if pooling else path.name
        if not (name in SMALL_FILES or name.endswith((*WEIGHTS_ENDINGS, PROJECTOR_ENDING))):
            raise InvalidJobError("unknown type")
        if name in found:
            raise InvalidJobError(f"{name} is given twice")
        found[name] = digest
    return found


def weights_file(names: Mapping[str, Any]) -> str:
    """Which of the files has the weights.

    Raises:
        InvalidModelError: None, or several, or it lacks what it cannot be run without.
    """
    weights = sorted(name for name in names if name.endswith(WEIGHTS_ENDINGS))
    if not weights:
        raise InvalidModelError("there is no .gguf or .rkllm file among the files")
    if len(weights) > 1:
        raise InvalidModelError(f"a model has one file of weights; given are {', '.join(weights)}")
    if weights[0].endswith(".rkllm") and facts.TOKENIZER_FILE not in names:
        raise InvalidModelError(
            f"{weights[0]} needs the tokenizer.json of the model it was converted from beside it"
        )
    return weights[0]


def blob_digest(text: str) -> Digest:
    """The digest that a file was given with.

    Raises:
        InvalidJobError: It is none.
    """
    try:
        return Digest.parse(text)
    except InvalidNameError as error:
        raise InvalidJobError("invalid digest format") from error


def check_template(text: str) -> None:
    """Refuse a chat template that no engine could render; it is parsed, never run.

    Raises:
        UnsupportedError: It is a Go template.
        InvalidJobError: It is no Jinja template either.
    """
    if _GO_TEMPLATE.search(text):
        raise UnsupportedError(
            "this is a Go template; templates here are Jinja, as in tokenizer_config.json"
        )
    environment = Environment(  # noqa: S701 - nothing is rendered
        extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    try:
        environment.parse(text)
    except TemplateSyntaxError as error:
        raise InvalidJobError(
            f"template error: template: :{error.lineno}: {error.message}"
        ) from error
    except RecursionError as error:
        raise InvalidJobError("template error: template: :1: nested too deeply") from error


def merged(base: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a model made from another one: ours win, lists are replaced whole."""
    return {**base, **ours}
