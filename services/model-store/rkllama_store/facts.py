"""What a model's files say about it, as decisions without I/O: details, capabilities, model info.

What the files do not say is left empty; nothing is guessed. An RKLLM file says nothing that could be
read without the vendor's library: how many parameters it has, and how they are quantised, is taken
from its name, where that says so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rkllama_modelfile import fills_in, infill_of
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.messages import ModelDetails
from rkllama_protocol.templates import reads_tools, thinks

from rkllama_store import family_names

ARRAY_ITEMS = 16
"""`model_info` shows arrays up to this length; a vocabulary would not fit into one message."""
STRING_CHARS = 16_384
TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
POOLING_FILE = "1_Pooling/config.json"
"""Where Sentence Transformers keeps how a model's vectors are made."""
GENERATION_FILE = "generation_config.json"
CONFIG_FILE = "config.json"

ENCODERS = frozenset(
    (
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    )
)
"""Architectures that write no text, whatever else a file says (llama.cpp, `llama_model::create_memory`)."""

_HIDDEN = frozenset({"general.name", "tokenizer.chat_template"})  # contract 2.6


class Recorded(BaseModel):
    """The facts layer: what `show` prints beyond the details."""

    model_config = ConfigDict(frozen=True)

    model_info: dict[str, Any] = Field(default_factory=dict)
    tensors: tuple[dict[str, Any], ...] = ()
    """`name`, `type` and `shape` of each."""
    pooling: bool = False
    """The model makes embeddings and no text."""


class Report(BaseModel):
    """Everything read from one weights file."""

    model_config = ConfigDict(frozen=True)

    details: ModelDetails
    recorded: Recorded
    template: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    """Files rebuilt from it: name to text."""
    parts: int = 1
    """So many files have the weights together (`split.count`, llama.cpp's gguf-split)."""
    no_tokenizer: str = ""
    """Why `files` has no `tokenizer.json`: a sentence."""


def human_count(count: int) -> str:
    """`134515008` as `134.52M`, as Ollama prints counts of parameters."""
    for size, letter, digits in ((10**12, "T", 1), (10**9, "B", 1), (10**6, "M", 2)):
        if count >= size:
            return f"{count / size:.{0 if count % size == 0 else digits}f}{letter}"
    return f"{count // 1000}K" if count >= 1000 else str(count)


def quantization_level(file_type_name: str) -> str:
    """`MOSTLY_Q4_1` as `Q4_1`; a name of `gguf.LlamaFileType`."""
    return "" if file_type_name == "GUESSED" else file_type_name.split("_", 1)[-1]


def shown(fields: Mapping[str, Any], *, parameters: int) -> dict[str, Any]:
    """`model_info` of GGUF metadata: big values are None, `general.parameter_count` is added."""
    info = {key: _small(value) for key, value in fields.items() if key not in _HIDDEN}
    return info | {"general.parameter_count": parameters}


def whole(fields: Mapping[str, Any]) -> dict[str, Any]:
    """GGUF metadata with all of its values, however big."""
    return {key: value for key, value in fields.items() if key not in _HIDDEN}


def _small(value: Any) -> Any:
    match value:
        case str():
            return value if len(value) <= STRING_CHARS else None
        case list():
            return value if len(value) <= ARRAY_ITEMS else None
        case float():
            # JSON has no word for it.
            return value if abs(value) < float("inf") else None
        case _:
            return value


def of_gguf(
    fields: Mapping[str, Any],
    *,
    parameters: int,
    file_type_name: str,
    tensors: Sequence[dict[str, Any]],
) -> tuple[ModelDetails, Recorded]:
    """Details and facts of a GGUF file, from its metadata and its tensors' shapes."""
    family = _text(fields.get("general.architecture"))
    details = ModelDetails(
        format="gguf",
        family=family,
        families=(family,) if family else (),
        parameter_size=human_count(parameters) if parameters else "",
        quantization_level=quantization_level(file_type_name),
        context_length=_count(fields.get(f"{family}.context_length")),
        embedding_length=_count(fields.get(f"{family}.embedding_length")),
    )
    recorded = Recorded(
        model_info=shown(fields, parameters=parameters),
        tensors=tuple(tensors),
        # llama.h, enum llama_pooling_type: 0 is none; a decoder that pools is an embedding model.
        pooling=family in ENCODERS or bool(_count(fields.get(f"{family}.pooling_type"))),
    )
    return details, recorded


def of_rkllm(file_name: str, config: bytes | None) -> tuple[ModelDetails, Recorded]:
    """Details and facts of an RKLLM model, from its name and the `config.json` beside it, if there is one.

    Raises:
        InvalidModelError: It is no JSON object.
    """
    named = ModelDetails(
        format="rkllm",
        parameter_size=family_names.parameter_size(file_name),
        quantization_level=family_names.quantisation(file_name).upper(),
    )
    if config is None:
        return named, Recorded()
    said = json_object(config, CONFIG_FILE)
    family = _text(said.get("model_type"))
    context = _count(said.get("max_position_embeddings"))
    embedding = _count(said.get("hidden_size"))
    info: dict[str, Any] = {"general.architecture": family} if family else {}
    if family and context:
        info[f"{family}.context_length"] = context
    if family and embedding:
        info[f"{family}.embedding_length"] = embedding
    details = named.model_copy(
        update={
            "family": family,
            "families": (family,) if family else (),
            "context_length": context,
            "embedding_length": embedding,
        }
    )
    return details, Recorded(model_info=info)


def capabilities(
    template: str, *, pooling: bool, added_tokens: Collection[str] = ()
) -> tuple[str, ...]:
    """What the model can do, by evidence in its chat template (contract 6.2) and its tokenizer."""
    if pooling:
        return ("embedding",)
    found = ["completion"]
    if infill_of(added_tokens) is not None or fills_in(template):
        found.append("insert")
    if reads_tools(template):
        found.append("tools")
    if thinks(template):
        found.append("thinking")
    return tuple(found)


def template_of(tokenizer_config: bytes) -> str:
    """The chat template in a `tokenizer_config.json`, or empty; behind the default one that for tools.

    Raises:
        InvalidModelError: It is no JSON object.
    """
    said = json_object(tokenizer_config, TOKENIZER_CONFIG_FILE).get("chat_template")
    if isinstance(said, list):
        named = {_text(one.get("name")): one.get("template") for one in said if type(one) is dict}
        said = "\n".join(_text(named[name]) for name in ("default", "tool_use") if name in named)
    return _text(said)


def added_tokens(tokenizer: bytes) -> frozenset[str]:
    """The texts of the tokens that a `tokenizer.json` has beside its vocabulary.

    A damaged one has none: the engine that loads it says what is wrong.
    """
    try:
        said = json_object(tokenizer, TOKENIZER_FILE).get("added_tokens")
    except InvalidModelError:
        said = None
    entries = said if isinstance(said, list) else []
    return frozenset(_text(one.get("content")) for one in entries if isinstance(one, dict))


def json_object(data: bytes, file_name: str) -> dict[str, Any]:
    """The JSON object of a file that came with a model.

    Raises:
        InvalidModelError: It is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{file_name} is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidModelError(f"{file_name} is not a JSON object")
    return value


def recorded(data: bytes) -> Recorded:
    """The content of a facts layer.

    Raises:
        InvalidModelError: It is damaged.
    """
    try:
        return Recorded.model_validate_json(data)
    except ValidationError as error:
        raise InvalidModelError("the model's facts are damaged") from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
