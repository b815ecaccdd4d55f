"""What files of a create are: by their names where these say it, else by their first bytes.

A client uploads what FROM names under the name it has there, be it `Model.GGUF`, `model.bin` or a blob
of another store's, `sha256-…`. Ollama's server looks into such a file, and so does this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.names import Digest, InvalidNameError

from rkllama_store.recipe import PROJECTOR_ENDING, WEIGHTS_ENDINGS

GGUF = ".gguf"
GGUF_MAGIC = b"GGUF"
"""The first bytes of such a file (gguf.md of ggml)."""


def named(files: Mapping[str, str], head: Callable[[Digest], bytes]) -> dict[str, str]:
    """The files, name to digest as it came, under names that end in what they are.

    `head` gives the first bytes of a blob, or none. It is asked only where no name says that it is a
    model's; a file of an unknown kind keeps its name.

    Raises:
        InvalidJobError: Two files get one name.
    """
    known = {name: _lower_ending(name) for name in files}
    if not any(name.endswith(WEIGHTS_ENDINGS) for name in known.values()):
        known = {
            name: f"{same}{GGUF}" if _is_gguf(files[name], head) else same
            for name, same in known.items()
        }
    found: dict[str, str] = {}
    for name, digest in files.items():
        if known[name] in found:
            raise InvalidJobError(f"{known[name]} is given twice")
        found[known[name]] = digest
    return found


def _lower_ending(name: str) -> str:
    for ending in (*WEIGHTS_ENDINGS, PROJECTOR_ENDING):
        if name.lower().endswith(ending):
            return name[: -len(ending)] + ending
    return name


def _is_gguf(text: str, head: Callable[[Digest], bytes]) -> bool:
    try:
        return head(Digest.parse(text)) == GGUF_MAGIC
    except InvalidNameError:
        return False
