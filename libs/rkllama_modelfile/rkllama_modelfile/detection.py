"""Bytes to text, and which grammar the text is written in."""

from __future__ import annotations

import codecs
import re
from enum import StrEnum

from rkllama_modelfile.modelfile import Modelfile
from rkllama_modelfile.ollama import parse_ollama
from rkllama_modelfile.predecessor import parse_predecessor

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?(?:FROM|HUGGINGFACE_PATH)[ \t]*=", re.I | re.M)
_INSTRUCTED = re.compile(r"^[ \t]*FROM[ \t]+[^=\s]", re.I | re.M)
_FIRST = re.compile(r"\A(?:[ \t]*(?:#[^\r\n]*)?[\r\n]+)*[ \t]*(?:export[ \t]+)?[A-Z0-9_]+=")


class Grammar(StrEnum):
    """How a Modelfile is written."""

    OLLAMA = "ollama"
    PREDECESSOR = "predecessor"


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark; what is neither becomes U+FFFD."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode(errors="replace")


def detect(text: str) -> Grammar:
    """The grammar of `text`, by its first FROM; without one, by whether it begins with `KEY=`."""
    assigned, instructed = _ASSIGNED.search(text), _INSTRUCTED.search(text)
    if assigned and instructed:
        ours = assigned.start() < instructed.start()
    else:
        ours = assigned is not None or (instructed is None and _FIRST.match(text) is not None)
    return Grammar.PREDECESSOR if ours else Grammar.OLLAMA


def parse(text: str) -> Modelfile:
    """What `text` says, in the grammar that it is written in.

    Raises:
        ModelfileError: It is no Modelfile.
    """
    if detect(text) is Grammar.PREDECESSOR:
        return parse_predecessor(text)
    return parse_ollama(text)
