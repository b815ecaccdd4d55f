"""Names and digests as parsed types: nothing from a request is used as text after this module.

A model name is `[scheme://][host/][namespace/]model[:tag]` (Ollama `types/model/name.go`), a digest
`sha256:<64 hex>` (OCI). Both are compared case-insensitively where Ollama does so and keep the
spelling they came with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InvalidNameError(ValueError):
    """The text is not a model name, a digest or a bus token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A fully qualified model name; every part is present and free of path separators."""

    host: str = DEFAULT_HOST
    namespace: str = DEFAULT_NAMESPACE
    model: str
    tag: str = DEFAULT_TAG

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse what a client typed; blanks around it are dropped.

        Raises:
            InvalidNameError: The text does not follow the grammar, or promises an empty part.
        """
        rest = text.strip()
        if "://" in rest:
            _, rest = rest.split("://", 1)
        tag = DEFAULT_TAG
        head, colon, tail = rest.rpartition(":")
        if colon and "/" not in tail:
            rest, tag = head, tail
        parts = rest.split("/")
        if len(parts) > 3:
            raise InvalidNameError(f"not a model name: {text!r}")
        model = parts[-1]
        namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
        host = parts[0] if len(parts) == 3 else DEFAULT_HOST
        fits = (
            _HOST.fullmatch(host)
            and _NAMESPACE.fullmatch(namespace)
            and _PART.fullmatch(model)
            and _PART.fullmatch(tag)
        )
        if not fits:
            raise InvalidNameError(f"not a model name: {text!r}")
        return cls(host=host, namespace=namespace, model=model, tag=tag)

    @property
    def full(self) -> str:
        """`host/namespace/model:tag`, every part shown."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def display(self) -> str:
        """The shortest form, with the tag always shown, as `ollama list` prints it."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What lookups compare: the full name in lower case."""
        return self.full.lower()

    def __str__(self) -> str:
        return self.display


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256 digest; `hex` is 64 lower-case hexadecimal digits."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `sha256:<hex>` or `sha256-<hex>`.

        Raises:
            InvalidNameError: The text is no such digest.
        """
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidNameError(f"not a digest: {text!r}")
        return cls(match[1])

    @property
    def file_name(self) -> str:
        """The name of the blob file, `sha256-<hex>`."""
        return f"sha256-{self.hex}"

    @property
    def short(self) -> str:
        """The first 12 digits, as progress lines show them."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def token(text: str) -> str:
    """Return `text` if it can stand as one token of a subject: letters, digits, `_` and `-`.

    Raises:
        InvalidNameError: It cannot, so it would change the subject's meaning.
    """
    if not _TOKEN.fullmatch(text):
        raise InvalidNameError(f"not a subject token: {text!r}")
    return text
