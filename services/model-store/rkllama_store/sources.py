"""What a pull asks for, as a decision about its text alone.

    smollm2:135m                                    a model of the catalogue
    hf.co/<user>/<repo>[:<file or quantisation>]    a repository; `huggingface.co` is the same, and
                                                    so is an address copied from a browser
    <user>/<repo>/<file>[/<name>]                   the predecessor's form; `file` ends in .rkllm
                                                    or .gguf and may be in folders

A repository's model is kept under the name it was asked for, `hf.co/<user>/<repo>:<file>`, so that
the same text runs it; the predecessor's form keeps it under the file's name without its ending, or
under `<name>` alone. An RKLLM file gets a short family name besides (`family_names`), unless the
asker gave it a `<name>`: a second manifest, the same blobs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.names import DEFAULT_TAG, InvalidNameError, ModelName

ENDINGS = (".rkllm", ".gguf")
HOSTS = frozenset({"hf.co", "huggingface.co"})
INVALID = "invalid model name"

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,95}")
_REPO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_FILE_PART = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_FILE_CHARS = 500
_VIEWS = frozenset({"blob", "resolve", "raw"})
"""What stands before the revision in an address of a file on the hub's site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A model that this product knows, or nobody does."""

    name: ModelName

    @property
    def key(self) -> str:
        """Equal for sources that mean the same."""
        return self.name.key


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHub:
    """A model in a repository on a Hugging Face hub."""

    repo: str
    """`<user>/<repo>`."""
    wanted: str = ""
    """The file, its path, or a quantisation; empty for the one that suits."""
    name: ModelName | None = None
    """What it is to be called; None: as the file, without its ending."""
    short_name: bool = True
    """Give it a short family name too."""

    @property
    def key(self) -> str:
        """Equal for sources that mean the same."""
        return f"{self.repo}:{self.wanted} {self.name.full if self.name else ''}".lower()


Source: TypeAlias = Named | OnHub


def parse(text: str) -> Source:
    """What the text asks for.

    Raises:
        InvalidJobError: Nothing that could be pulled.
    """
    rest = text.strip()
    if "://" in rest:
        _, rest = rest.split("://", 1)
    parts = rest.split("/")
    if parts[0].lower() in HOSTS:
        return _from_host(rest)
    file_at = next(
        (at for at, part in enumerate(parts) if at >= 2 and part.lower().endswith(ENDINGS)), None
    )
    if file_at is not None and _USER.fullmatch(parts[0]):
        return _from_path(parts, file_at)
    return Named(name=_name(rest))


def is_file_name(path: str) -> bool:
    """Whether a path in a repository is one that this product will deal with."""
    return len(path) <= _FILE_CHARS and all(
        _FILE_PART.fullmatch(part) and part not in {".", ".."} for part in path.split("/")
    )


def _from_host(rest: str) -> OnHub:
    head, colon, selector = rest.partition(":")
    host, *segments = head.split("/")
    if len(segments) < 2 or (colon and not selector):
        raise InvalidJobError(INVALID)
    user, repo, *path = segments
    if len(path) > 2 and path[0] in _VIEWS:
        path = path[2:]
    if path and selector not in {"", DEFAULT_TAG}:
        raise InvalidJobError(INVALID)
    wanted = "/".join(path) or ("" if selector == DEFAULT_TAG else selector)
    tag = wanted.rsplit("/", 1)[-1] or DEFAULT_TAG
    try:
        name = ModelName.parse(f"{host}/{user}/{repo}:{tag}")
    except InvalidNameError:
        # Longer than a name can be, or with letters that names do not have: the file decides.
        name = None
    return _checked(OnHub(repo=f"{user}/{repo}", wanted=wanted, name=name))


def _from_path(parts: list[str], file_at: int) -> OnHub:
    user, repo = parts[:2]
    wanted = "/".join(parts[2 : file_at + 1])
    custom = "/".join(parts[file_at + 1 :])
    if custom or len(parts) > file_at + 1:
        name = _name(custom)
        return _checked(OnHub(repo=f"{user}/{repo}", wanted=wanted, name=name, short_name=False))
    return _checked(OnHub(repo=f"{user}/{repo}", wanted=wanted))


def _checked(source: OnHub) -> OnHub:
    user, repo = source.repo.split("/")
    fits = (
        _USER.fullmatch(user)
        and _REPO.fullmatch(repo)
        and "--" not in source.repo
        and ".." not in source.repo
        and not repo.endswith(".git")
        and (not source.wanted or is_file_name(source.wanted))
    )
    if not fits:
        raise InvalidJobError(INVALID)
    return source


def is_repo(text: str) -> bool:
    """Whether the text is `<user>/<repo>`, as a model card or a Modelfile names one."""
    if text.count("/") != 1:
        return False
    try:
        _checked(OnHub(repo=text))
    except InvalidJobError:
        return False
    return True


def _name(text: str) -> ModelName:
    try:
        return ModelName.parse(text)
    except InvalidNameError as error:
        raise InvalidJobError(INVALID) from error
