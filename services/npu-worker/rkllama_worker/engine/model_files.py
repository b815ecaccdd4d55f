"""What a model's small files say: which ids end an answer, which tokens have names, which template.

    tokenizer.json           the tokenizer itself; the only file that must be there
    tokenizer_config.json    names of special tokens, whether a BOS is wanted, a chat template
    generation_config.json   the ids that end an answer
    config.json              the same, in older models
    chat_template.jinja      a chat template that stands before the one in tokenizer_config.json

They are Hugging Face's (transformers 4.5x, `PreTrainedTokenizerBase` and `GenerationConfig`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rkllama_protocol.errors import InvalidModelError
from tokenizers import Tokenizer

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The facts of one model."""

    tokenizer: Tokenizer
    special_tokens: Mapping[int, str]
    """Every special token's text, by its id."""
    named_tokens: Mapping[str, str]
    """`bos_token` and its like, to the token's text; what the model does not have is left out."""
    bos_id: int | None
    """None if the model wants no BOS in front of a prompt, or has none."""
    eos_ids: frozenset[int]
    """Ids that end an answer; empty if no file says so, and the runtime has to know."""
    templates: Mapping[str, str]
    """Jinja chat templates by name: `default`, and in some models `tool_use`."""


def read(files: Mapping[str, str], *, template: str = "") -> ModelFiles:
    """The facts in `files`, name to path; `template` replaces every chat template among them.

    Raises:
        InvalidModelError: The tokenizer is missing, or a file is damaged.
    """
    tokenizer = _tokenizer(files)
    config = _json(files, "tokenizer_config.json")
    named = {name: text for name in _NAMED_TOKENS if (text := _text(config.get(name)))}
    bos = named.get("bos_token") if config.get("add_bos_token") else None
    return ModelFiles(
        tokenizer=tokenizer,
        special_tokens=special_tokens(tokenizer),
        named_tokens=named,
        bos_id=tokenizer.token_to_id(bos) if bos else None,
        eos_ids=_eos_ids(files, tokenizer, named),
        templates={"default": template} if template else _templates(files, config),
    )


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Special tokens' texts by their ids: collecting them costs more than a prompt, so it is done once."""
    added = tokenizer.get_added_tokens_decoder()
    return {token: entry.content for token, entry in added.items() if entry.special}


def _tokenizer(files: Mapping[str, str]) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(files["tokenizer.json"])
    except KeyError as error:
        raise InvalidModelError("the model has no tokenizer.json") from error
    except Exception as error:
        # tokenizers raises nothing narrower.
        raise InvalidModelError(f"tokenizer.json cannot be read: {error}") from error
    # Some files carry the limits of the training run.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _json(files: Mapping[str, str], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        content = orjson.loads(Path(files[name]).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidModelError(f"{name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidModelError(f"{name} is no JSON object")
    return content


def _text(token: object) -> str:
    """A special token is written as its text, or as an object that has it as `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _eos_ids(
    files: Mapping[str, str], tokenizer: Tokenizer, named: Mapping[str, str]
) -> frozenset[int]:
    if ids := _ids(_json(files, "generation_config.json").get("eos_token_id")):
        return ids
    eos = tokenizer.token_to_id(named["eos_token"]) if "eos_token" in named else None
    if eos is not None:
        return frozenset({eos})
    return _ids(_json(files, "config.json").get("eos_token_id"))


def _ids(value: object) -> frozenset[int]:
    many = value if isinstance(value, list) else [value]
    return frozenset(one for one in many if isinstance(one, int))


def _templates(files: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    if "chat_template.jinja" in files:
        try:
            return {"default": Path(files["chat_template.jinja"]).read_text(encoding="utf-8")}
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidModelError(f"chat_template.jinja cannot be read: {error}") from error
    match config.get("chat_template"):
        case str(text):
            return {"default": text}
        case list(entries):
            return {entry["name"]: entry["template"] for entry in entries if "name" in entry}
        case _:
            return {}
