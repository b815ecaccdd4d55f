r"""RKLLAMA's own grammar: one `KEY=VALUE` a line, as files of environment variables have it.

    FROM="Qwen2.5-3B-rk3588-w8a8.rkllm"
    HUGGINGFACE_PATH="Qwen/Qwen2.5-3B-Instruct"
    SYSTEM='You are brief.'
    TEMPERATURE=0.5      # a comment

Quoted values may go on over several lines; in double quotes `\n`, `\t`, `\"` and `\\` are escapes.
The last of equal keys counts. Keys are compared without regard to case.
"""

from __future__ import annotations

import re

from rkllama_modelfile.modelfile import Modelfile, ModelfileError
from rkllama_modelfile.ollama import NO_FROM

PARAMETERS = {
    "TEMPERATURE": "temperature",
    "TOP_K": "top_k",
    "TOP_P": "top_p",
    "REPEAT_PENALTY": "repeat_penalty",
    "FREQUENCY_PENALTY": "frequency_penalty",
    "PRESENCE_PENALTY": "presence_penalty",
    "MIROSTAT": "mirostat",
    "MIROSTAT_TAU": "mirostat_tau",
    "MIROSTAT_ETA": "mirostat_eta",
    "MAX_NEW_TOKENS": "num_predict",
    "NUM_CTX": "num_ctx",
    "SEED": "seed",
    "STOP": "stop",
    "ENABLE_THINKING": "think",
    "IMAGE_WIDTH": "image_width",
    "IMAGE_HEIGHT": "image_height",
    "N_IMAGE_TOKENS": "image_tokens",
    "IMG_START": "image_start",
    "IMG_END": "image_end",
    "IMG_CONTENT": "image_content",
}
"""Keys that become parameters, and under which name."""

_READ = frozenset({"FROM", "HUGGINGFACE_PATH", "SYSTEM", "TEMPLATE", "LICENSE", *PARAMETERS})
_KEY = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
_SKIPPED = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n))*[ \t]*(?:#[^\r\n]*\Z)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.S)
_PLAIN = re.compile(r"[^\r\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n|\Z)")
_COMMENT = re.compile(r"[ \t]#.*")
_BLANKS = re.compile(r"[ \t]*")
_ESCAPE = re.compile(r"\\(.)", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_predecessor(text: str) -> Modelfile:
    """What a Modelfile in the predecessor's grammar says.

    Raises:
        ModelfileError: It is none; with the line where one is to blame.
    """
    values = _values(text)
    if not (source := values.get("FROM", "").strip()):
        raise ModelfileError(NO_FROM)
    return Modelfile(
        sources=(source,),
        template=values.get("TEMPLATE", ""),
        system=values.get("SYSTEM", ""),
        licenses=(values["LICENSE"],) if values.get("LICENSE") else (),
        parameters=tuple(
            (name, values[key]) for key, name in PARAMETERS.items() if values.get(key)
        ),
        tokenizer_repo=values.get("HUGGINGFACE_PATH", "").strip(),
        ignored=tuple(sorted(values.keys() - _READ)),
    )


def _values(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    at = _end(_SKIPPED, text, 0)
    while at < len(text):
        key = _KEY.match(text, at)
        if key is None:
            raise ModelfileError(f"(line {_line(text, at)}): expected KEY=VALUE")
        values[key[1].upper()], at = _value(text, key.end())
        at = _end(_SKIPPED, text, at)
    return values


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where its line ends."""
    begin = _end(_BLANKS, text, at)
    for mark, pattern in (('"', _DOUBLE), ("'", _SINGLE)):
        if text.startswith(mark, begin):
            if (quoted := pattern.match(text, begin)) is None:
                raise ModelfileError(f"(line {_line(text, at)}): the quote is not closed")
            if (rest := _REST.match(text, quoted.end())) is None:
                raise ModelfileError(
                    f"(line {_line(text, quoted.end())}): text after the closing quote"
                )
            return _unescaped(quoted[1], mark), rest.end()
    end = _end(_PLAIN, text, at)
    value = _COMMENT.sub("", text[at:end], count=1).strip(" \t")
    return value, _end(_REST, text, end)


def _unescaped(text: str, mark: str) -> str:
    def meant(escape: re.Match[str]) -> str:
        letter = escape[1]
        if letter in (mark, "\\"):
            return letter
        if mark == '"' and letter in _ESCAPES:
            return _ESCAPES[letter]
        return escape[0]

    return _ESCAPE.sub(meant, text)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _line(text: str, at: int) -> int:
    return len(re.findall(r"\r\n|\r|\n", text[:at])) + 1
