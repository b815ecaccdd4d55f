"""A Hugging Face tokenizer rebuilt from the vocabulary inside a GGUF file.

Engines tokenise with `tokenizers` whatever the runtime, and a GGUF file brings no `tokenizer.json`.
What `tokenizer.ggml.model` names is rebuilt in two cases, both as llama.cpp has them (src/llama-vocab.cpp):

    gpt2    byte-level BPE; `tokenizer.ggml.pre` names how text is cut before the merges
    bert    WordPiece of encoders; pieces that begin a word are marked, not those that continue one
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gguf import TokenType
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


class UnknownTokenizerError(ValueError):
    """The vocabulary is of a kind that is not rebuilt; the text is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """How one family cuts text before the merges."""

    patterns: tuple[str, ...]
    """Applied one after the other; what matches is a piece, and so is what lies between."""
    ignore_merges: bool = False
    """A piece that is a token is taken whole."""
    nfc: bool = False
    """Text is normalised to NFC first."""
    add_bos: bool = False
    """Where the file does not say."""


_DIGITS: Final = Cutting(patterns=(r"\p{N}", _GPT2))

CUTTINGS: Final[Mapping[str, Cutting]] = {
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "gpt-2": Cutting(patterns=(_GPT2,)),
    "llama-bpe": Cutting(patterns=(_LLAMA3,), ignore_merges=True, add_bos=True),
    "qwen2": Cutting(patterns=(_QWEN2,), nfc=True),
    "deepseek-r1-qwen": Cutting(patterns=(_QWEN2,), nfc=True),
    "default": Cutting(
        patterns=(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    ),
}

WORD_BEGINS: Final = "\u2581"
CONTINUES: Final = "##"
_BERT_IDS: Final = {"cls": 101, "seperator": 102, "unknown": 100, "padding": 0, "mask": 103}
"""Where the file does not say; the one spelling is GGUF's own."""


def rebuild(fields: Mapping[str, Any]) -> dict[str, str]:
    """`tokenizer.json` of GGUF metadata, by file name.

    Raises:
        UnknownTokenizerError: The vocabulary is of another kind, or broken.
    """
    kind = fields.get("tokenizer.ggml.model")
    match kind:
        case "gpt2":
            tokenizer = _byte_level_bpe(fields)
        case "bert":
            tokenizer = _word_piece(fields)
        case _:
            raise UnknownTokenizerError(
                f"the GGUF file's tokenizer is of kind {kind!r}: give the model's tokenizer.json too"
            )
    return {"tokenizer.json": tokenizer.to_str()}


def _word_piece(fields: Mapping[str, Any]) -> Tokenizer:
    """As BERT's (Devlin et al.), which puts `[CLS]` before a text and `[SEP]` behind it."""
    tokens: Sequence[str] = fields.get("tokenizer.ggml.tokens") or []
    kinds: Sequence[int] = fields.get("tokenizer.ggml.token_type") or [TokenType.NORMAL] * len(
        tokens
    )
    if len(kinds) != len(tokens):
        raise UnknownTokenizerError("the GGUF file has not as many kinds as tokens")
    texts = [
        _word_piece_text(token, control=kind == TokenType.CONTROL)
        for token, kind in zip(tokens, kinds, strict=True)
    ]
    ids = {name: _bert_id(fields, name, len(texts)) for name in _BERT_IDS}
    unknown, begin, end = texts[ids["unknown"]], texts[ids["cls"]], texts[ids["seperator"]]
    tokenizer = Tokenizer(
        models.WordPiece(_numbered(texts), unk_token=unknown, continuing_subword_prefix=CONTINUES)
    )
    lowercase = bool(fields.get("tokenizer.ggml.normalizer.lowercase", True))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase,
        strip_accents=bool(fields.get("tokenizer.ggml.normalizer.strip_accents", lowercase)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[begin, "$A", end],
        special_tokens=[(begin, ids["cls"]), (end, ids["seperator"])],
    )
    control = {text for text, kind in zip(texts, kinds, strict=True) if kind == TokenType.CONTROL}
    special = control | {texts[number] for number in ids.values()}
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in texts if text in special]
    )
    return tokenizer


def _word_piece_text(token: str, *, control: bool) -> str:
    """The piece as Hugging Face writes it. Files of 2024 mark no token in brackets as a word."""
    if control or (token.startswith("[") and token.endswith("]")):
        return token
    if token.startswith(WORD_BEGINS):
        return token[len(WORD_BEGINS) :]
    return CONTINUES + token


def _bert_id(fields: Mapping[str, Any], name: str, size: int) -> int:
    """The id of a special token; what stands first was called `cls` in older files, and is `bos` now."""
    names = ("cls", "bos") if name == "cls" else (name,)
    said = [fields.get(f"tokenizer.ggml.{one}_token_id") for one in names]
    number = next((one for one in said if isinstance(one, int)), _BERT_IDS[name])
    if not 0 <= number < size:
        raise UnknownTokenizerError("the GGUF file's special tokens are not in its vocabulary")
    return number


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if not tokens or len(vocabulary) != len(tokens):
        raise UnknownTokenizerError("the GGUF file's vocabulary is empty or names a token twice")
    return vocabulary


def _byte_level_bpe(fields: Mapping[str, Any]) -> Tokenizer:
    cutting = _cutting(fields)
    tokens: Sequence[str] = fields.get("tokenizer.ggml.tokens") or []
    vocabulary = _numbered(tokens)
    bpe = models.BPE(
        vocab=vocabulary,
        merges=_merges(fields, vocabulary),
        ignore_merges=cutting.ignore_merges,
    )
    tokenizer = Tokenizer(bpe)
    if cutting.nfc:
        # Assigned by name: the library's stubs do not declare the setters' types.
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(p), behavior="isolated") for p in cutting.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds: Sequence[int] = fields.get("tokenizer.ggml.token_type") or []
    added = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}
    tokenizer.add_tokens(
        [
            AddedToken(token, normalized=False, special=added[TokenType(kind)])
            for token, kind in zip(tokens, kinds, strict=False)
            if kind in added and token
        ]
    )
    if ends := _appended(fields, tokens):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", ends[0]], special_tokens=[ends]
        )
    return tokenizer


def _appended(fields: Mapping[str, Any], tokens: Sequence[str]) -> tuple[str, int] | None:
    """The EOS that an embedding model reads behind a text: its vector is that token's (Qwen3-Embedding)."""
    architecture = fields.get("general.architecture")
    if not fields.get(f"{architecture}.pooling_type"):
        return None
    number = fields.get("tokenizer.ggml.eos_token_id")
    if not fields.get("tokenizer.ggml.add_eos_token") or not isinstance(number, int):
        return None
    return (tokens[number], number) if 0 <= number < len(tokens) else None


_NAMES: Final = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "padding": "pad",
    "seperator": "sep",
    "mask": "mask",
}
"""Of special tokens: GGUF's to Hugging Face's."""


def settings(fields: Mapping[str, Any]) -> dict[str, str]:
    """`tokenizer_config.json` and `generation_config.json` of GGUF metadata, by file name."""
    tokens: Sequence[str] = fields.get("tokenizer.ggml.tokens") or []
    ids = {
        kind: number
        for kind in ("bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "mask")
        if isinstance(number := fields.get(f"tokenizer.ggml.{kind}_token_id"), int)
        and 0 <= number < len(tokens)
    }
    cutting = CUTTINGS.get(fields.get("tokenizer.ggml.pre") or "default")
    add_bos = fields.get("tokenizer.ggml.add_bos_token")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(cutting and cutting.add_bos) if add_bos is None else bool(add_bos),
    }
    for kind, name in _NAMES.items():
        if kind in ids:
            config[f"{name}_token"] = tokens[ids[kind]]
    if template := fields.get("tokenizer.chat_template"):
        config["chat_template"] = template
    ends = dict.fromkeys(ids[kind] for kind in ("eos", "eot", "eom") if kind in ids)
    generation: dict[str, Any] = {"eos_token_id": list(ends)}
    if "bos" in ids:
        generation["bos_token_id"] = ids["bos"]
    return {
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False),
        "generation_config.json": json.dumps(generation),
    }


def _cutting(fields: Mapping[str, Any]) -> Cutting:
    name = fields.get("tokenizer.ggml.pre") or "default"
    if (cutting := CUTTINGS.get(name)) is None:
        raise UnknownTokenizerError(
            f"the GGUF file's tokenizer cuts text as {name!r}: give the model's tokenizer.json too"
        )
    return cutting


def _merges(fields: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    merges = []
    for line in fields.get("tokenizer.ggml.merges") or []:
        # Neither side is empty, so a blank at the very start belongs to the left one.
        at = line.find(" ", 1)
        left, right = line[:at], line[at + 1 :]
        if at < 0 or not {left, right, left + right} <= vocabulary.keys():
            raise UnknownTokenizerError("the GGUF file's merges name tokens that it does not have")
        merges.append((left, right))
    return merges
