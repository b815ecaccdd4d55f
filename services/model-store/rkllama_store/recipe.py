"""What a create request asks for, checked: everything that is refused before any work begins.

Texts are Ollama's (contract 2.14).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from rkllama_modelfile import TemplateError, UnknownTemplateError, is_go, is_version, twin
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    RkllamaError,
    UnsupportedError,
)
from rkllama_protocol.messages import ChatMessage, CreateRequest, ModelDetails
from rkllama_protocol.names import Digest, InvalidNameError, ModelName

from rkllama_store import facts
from rkllama_store.sources import is_repo

QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
UNQUANTIZED = frozenset({"F32", "F16", "BF16"})
WEIGHTS_ENDINGS = (".gguf", ".rkllm")
PROJECTOR_ENDING = ".rknn"
BESIDE_ENDINGS = (".json", ".jinja", ".txt", ".model", ".md")
"""Of small files that lie beside weights without being needed."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One create, ready to be worked on."""

    name: ModelName
    base: ModelName | None
    files: Mapping[str, str]
    """File name, free of folders but for the pooling file's, to digest as it came; empty with a base."""
    adapter: tuple[str, str] | None
    """File name and digest, as it came, of a LoRA adapter."""
    template: str
    """Jinja."""
    system: str
    license: tuple[str, ...]
    parameters: Mapping[str, Any]
    messages: tuple[ChatMessage, ...]
    requires: str
    """The level of Ollama's API that the model needs, or empty."""
    quantize: str
    """The quantisation that the weights shall have, in capitals; empty leaves them as they are."""
    tokenizer_repo: str
    """The hub repository that the tokenizer comes from if it is not among the files, or empty."""


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
    return Recipe(
        name=name,
        base=model_name(request.base) if request.base else None,
        files=_files(request.files),
        adapter=_adapter(request.adapters),
        template=jinja(request.template),
        system=request.system,
        license=tuple(text for text in request.license if text),
        parameters={key: value for key, value in request.parameters.items() if value is not None},
        messages=request.messages,
        requires=_version(request.requires),
        quantize=request.quantize.upper(),
        tokenizer_repo=_repo(request.tokenizer_repo.strip()),
    )


def _version(text: str) -> str:
    if text and not is_version(text):
        raise InvalidJobError("requires must be a valid semver (e.g. 0.14.0)")
    return text


def _repo(text: str) -> str:
    if text and not is_repo(text):
        raise InvalidJobError(
            f"{text} is no repository of the hub: <user>/<repository> is expected"
        )
    return text


def _files(files: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    # A folder of a model's has more in it than is needed: other vocabularies, a readme.
    runnable = any(name.endswith(WEIGHTS_ENDINGS) for name in files)
    for path_text, digest in files.items():
        path = _path(path_text, digest)
        pooling = str(path).endswith(facts.POOLING_FILE)
        name = facts.POOLING_FILE if pooling else path.name
        if not (name in SMALL_FILES or name.endswith((*WEIGHTS_ENDINGS, PROJECTOR_ENDING))):
            if runnable and name.endswith(BESIDE_ENDINGS):
                continue
            raise InvalidJobError("unknown type")
        if name in found:
            raise InvalidJobError(f"{name} is given twice")
        found[name] = digest
    return found


def _adapter(adapters: Mapping[str, str]) -> tuple[str, str] | None:
    found = [(_path(path, digest), digest) for path, digest in adapters.items()]
    if len(found) > 1:
        raise InvalidJobError("only one adapter is currently supported")
    for path, digest in found:
        if not path.name.endswith(WEIGHTS_ENDINGS):
            raise InvalidJobError("unknown type")
        return path.name, digest
    return None


def _path(text: str, digest: str) -> PurePosixPath:
    if not digest:
        raise InvalidJobError("invalid digest format")
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise InvalidJobError("file path must be relative")
    return path


def weights_file(names: Mapping[str, Any], *, tokenizer_comes: bool = False) -> str:
    """Which of the files has the weights; `tokenizer_comes` from elsewhere, if need be.

    Raises:
        InvalidModelError: None, or several, or it lacks what it cannot be run without.
    """
    weights = sorted(name for name in names if name.endswith(WEIGHTS_ENDINGS))
    if not weights:
        raise InvalidModelError("there is no .gguf or .rkllm file among the files")
    if len(weights) > 1:
        raise InvalidModelError(f"a model has one file of weights; given are {', '.join(weights)}")
    alone = facts.TOKENIZER_FILE not in names and not tokenizer_comes
    if weights[0].endswith(".rkllm") and alone:
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


def jinja(text: str) -> str:
    """The chat template that engines will render for `text`; it is parsed here, never run.

    Raises:
        UnsupportedError: It is a Go template of a family that is not known.
        InvalidJobError: It is no template at all.
    """
    if is_go(text):
        return _twin(text)
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
    return text


def _twin(text: str) -> str:
    try:
        return twin(text)
    except UnknownTemplateError as error:
        raise UnsupportedError(str(error)) from error
    except TemplateError as error:
        raise InvalidJobError(f"template error: {error}") from error


def check_quantize(wanted: str, details: ModelDetails) -> None:
    """Refuse to quantise: there is nothing here that could. Texts are Ollama's (contract 2.14).

    Raises:
        RkllamaError: There is no such quantisation.
        InvalidModelError: The weights are quantised already.
        UnsupportedError: They would have to be made anew.
    """
    if not wanted:
        return
    if wanted not in QUANTIZATIONS:
        raise RkllamaError(
            f"unsupported quantization type {wanted} - supported types are "
            + ", ".join(QUANTIZATIONS)
        )
    have = details.quantization_level
    if have not in UNQUANTIZED:
        raise InvalidModelError("quantization is only supported for F16, BF16 and F32 models")
    if wanted != have:
        raise UnsupportedError(
            f"this server cannot make {wanted} of {have}: quantise the file elsewhere, such as with "
            "llama.cpp's llama-quantize, and create the model from the result"
        )


def check_adapter(name: str, adapter: facts.Report | None, base: ModelDetails) -> None:
    """Refuse a LoRA adapter that its base could not be loaded with.

    `adapter` is what a GGUF file says; of RKLLM files nothing can be told.

    Raises:
        InvalidModelError: It is none, or for another kind of model.
    """
    if not name.endswith(f".{base.format}"):
        raise InvalidModelError(f"the adapter {name} does not fit a model of format {base.format}")
    if adapter is None:
        return
    if adapter.recorded.model_info.get("general.type") != "adapter":
        raise InvalidModelError(f"{name} is no LoRA adapter")
    family = adapter.details.family
    if family and base.family and family != base.family:
        raise InvalidModelError(f"the adapter {name} is for {family} models; this is {base.family}")


def merged(base: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a model made from another one: ours win, lists are replaced whole."""
    return {**base, **ours}
