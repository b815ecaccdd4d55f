"""What uploaded files are, by name or by content (contract 2.14)."""

from __future__ import annotations

import pytest
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.names import Digest
from rkllama_store.file_types import named

GGUF, OTHER, GONE = (f"sha256:{letter * 64}" for letter in "abc")
HEADS = {GGUF: b"GGUF", OTHER: b"PK\3\4"}


def head(digest: Digest) -> bytes:
    return HEADS.get(str(digest), b"")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"m.gguf": OTHER}, ["m.gguf"]),
        ({"a/M.GGUF": OTHER}, ["a/M.gguf"]),
        ({"M.RkLLM": GGUF, "eye.RKNN": OTHER}, ["M.rkllm", "eye.rknn"]),
        ({"m.bin": GGUF}, ["m.bin.gguf"]),
        ({"sha256-abc": GGUF, "notes": OTHER}, ["sha256-abc.gguf", "notes"]),
        # A model's own name is believed; nothing else is looked into.
        ({"m.gguf": OTHER, "x.txt": GGUF}, ["m.gguf", "x.txt"]),
        ({"m.bin": OTHER}, ["m.bin"]),
        ({"m.bin": GONE}, ["m.bin"]),
        ({"m.bin": "nonsense"}, ["m.bin"]),
        ({}, []),
    ],
)
def test_a_file_is_what_its_name_or_its_first_bytes_say(
    files: dict[str, str], names: list[str]
) -> None:
    assert named(files, head) == dict(zip(names, files.values(), strict=True))


def test_two_files_do_not_get_one_name() -> None:
    with pytest.raises(InvalidJobError, match=r"m\.gguf is given twice"):
        named({"m.GGUF": GGUF, "m.gguf": OTHER}, head)
