"""Which model a request means: its name, parsed, or the refusal of that endpoint (contract 1.6).

`:local` at the end is dropped; `:cloud`, and a tag that ends in `-cloud`, mean a model on somebody
else's computers, and there is none of these here (contract 2.20).
"""

from __future__ import annotations

import re

from rkllama_protocol.names import InvalidNameError, ModelName

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote

INVALID = "invalid model name"
REQUIRED = "model is required"
REMOTE = "ollama cloud is disabled: remote model is unavailable"
REMOTE_DETAILS = "ollama cloud is disabled: remote model details are unavailable"

_ON_HUB = re.compile(
    r"(?:https?://)?(?:(?:hf\.co|huggingface\.co)/.+|[^/]+/[^/]+/.*\.(?:rkllm|gguf)(?:/.*)?)",
    re.IGNORECASE | re.DOTALL,
)


def target(
    text: str,
    *,
    empty: DialectError,
    invalid: str = INVALID,
    remote: str = REMOTE,
    trim: bool = True,
) -> ModelName:
    """The model that `text` names; `trim` takes blanks around it away, as most endpoints do.

    Raises:
        DialectError: `empty` for no name at all, else 400 or, for a remote model, 403.
    """
    bare = text.strip()
    if not bare:
        raise empty
    if bare != text and not trim:
        raise DialectError(400, invalid)
    text = bare
    base, source = _split_source(text)
    if source and _split_source(base)[1]:
        raise DialectError(400, f"use either :local or :cloud, not both: {quote(text)}")
    name = parse(base)
    if name is None:
        raise DialectError(400, invalid)
    if source == "cloud":
        raise DialectError(403, remote)
    return name


def parse(text: str) -> ModelName | None:
    """The name, or None where the grammar does not allow it."""
    try:
        return ModelName.parse(text)
    except InvalidNameError:
        return None


def is_on_hub(text: str) -> bool:
    """Whether a pull asks for a file on a hub: `hf.co/...`, or `<user>/<repo>/<file>[/<name>]`.

    That is more than a name can say; what it means, and whether it is right, is the store's to say.
    """
    return _ON_HUB.fullmatch(text) is not None


def _split_source(text: str) -> tuple[str, str]:
    """The text without its source suffix, and `local`, `cloud` or nothing."""
    head, colon, tail = text.rpartition(":")
    suffix = tail.strip().lower()
    if not colon:
        return text, ""
    if suffix in ("local", "cloud"):
        return head, suffix
    if suffix.endswith("-cloud") and "/" not in suffix:
        return f"{head}:{tail.strip()[: -len('-cloud')]}", "cloud"
    return text, ""
