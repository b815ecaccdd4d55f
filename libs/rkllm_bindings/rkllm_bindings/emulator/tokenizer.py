"""A `tokenizer.json` that agrees with the emulator's byte tokens: id N below 256 is byte N."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def byte_level_tokenizer(special: Mapping[int, str]) -> dict[str, Any]:
    """The content of a Hugging Face `tokenizer.json`: bytes as 0 to 255, and special tokens.

    Args:
        special: Id -> text, as in `ModelScript.special`; ids must follow on from 256 without a gap.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, text in sorted(special.items())
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {character: byte for byte, character in enumerate(_printable_bytes())},
            "merges": [],
        },
    }


def _printable_bytes() -> list[str]:
    """One visible character for each byte, as GPT-2's byte-level alphabet assigns them."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    characters = []
    moved = 0
    for byte in range(256):
        if byte in visible:
            characters.append(chr(byte))
        else:
            characters.append(chr(256 + moved))
            moved += 1
    return characters
