"""What a Hugging Face hub says about a repository; the only module that knows `huggingface_hub`.

The library is imported when the first model is pulled, for that takes half a second and ten
megabytes, and told before to send no telemetry, no token that it was not given, and to leave Xet
alone: bytes are fetched by `transfer`, which can resume.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx2
from rkllama_protocol.errors import UpstreamError
from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_transfer.retrying import PassingError, attempts
from rkllama_transfer.threads import in_thread

from rkllama_store.refusals import refused
from rkllama_store.settings import HubSettings
from rkllama_store.sources import is_repo

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

TIMEOUT_S = 10.0
ANSWER_BYTES = 16 * 2**20
"""A longer answer about a repository is refused."""
ATTEMPTS = 4
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository, at one commit."""

    repo: str
    commit: str
    path: str
    size: int
    """Bytes."""
    digest: Digest | None
    """sha256, which the hub knows of large files."""
    git_oid: str
    """What git calls a small file's content: the sha1 of `blob <size>`, a zero byte, and the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """A repository, at one commit."""

    name: str
    """`<user>/<repo>`."""
    commit: str
    files: dict[str, HubFile]
    """By path."""
    base_models: tuple[str, ...]
    """The repositories that its card says it was made from."""


class Hub:
    """One hub; `HF_ENDPOINT` makes it a mirror."""

    def __init__(self, settings: HubSettings) -> None:
        self.site = settings.endpoint
        """Its address."""
        self._token = settings.token.get_secret_value()
        self._offline = settings.hub_offline

    def page(self, repo: str) -> str:
        """The address of a repository, as it may be shown to anybody."""
        url = urlsplit(self.site)
        # A mirror's address may have a password in it.
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}/{repo}"

    @property
    def has_token(self) -> bool:
        """Whether requests go out in somebody's name."""
        return bool(self._token)

    def headers(self) -> dict[str, str]:
        """What a request to the hub itself carries; nobody else may get it."""
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def url(self, file: HubFile) -> str:
        """Where the file's bytes are; the hub may send the asker on from there."""
        return f"{self.site}/{file.repo}/resolve/{file.commit}/{quote(file.path)}"

    def check_online(self) -> None:
        """Refuse to reach out where the operator said so.

        Raises:
            UpstreamError: HF_HUB_OFFLINE is set.
        """
        if self._offline:
            raise UpstreamError("HF_HUB_OFFLINE is set, so nothing can be pulled from a hub")

    async def repo(self, name: str) -> Repo:
        """What is in a repository now.

        Raises:
            UpstreamError: It cannot be seen, or the hub not be reached.
        """
        self.check_online()
        async for attempt in attempts(ATTEMPTS):
            with attempt:
                return _repo(name, await in_thread(lambda: self._info(name)))
        raise AssertionError("an attempt ends in a result or an error")

    def _info(self, name: str) -> ModelInfo:
        library = _library()
        api = library.HfApi(endpoint=self.site, token=self._token or False)
        try:
            info: ModelInfo = api.model_info(name, files_metadata=True, timeout=TIMEOUT_S)
        except library.errors.HfHubHTTPError as error:
            raise refused(
                error.response.status_code,
                error.response.headers,
                what="",
                repo=name,
                site=self.site,
                token=self.has_token,
            ) from error
        except httpx2.TransportError as error:
            raise unreachable(self.site, error) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UpstreamError(f"{self.site} cannot be asked: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _nonsense(name) from error
        return info


def unreachable(site: str, error: httpx2.TransportError) -> PassingError:
    """The sentence for a line that broke, or never was there."""
    host = site.partition("://")[2]
    if isinstance(error, httpx2.TimeoutException):
        return PassingError(f"{host} does not answer")
    if isinstance(error, httpx2.ConnectError):
        return PassingError(
            f"{host} cannot be reached ({error}): is this machine online? HF_ENDPOINT can name a mirror"
        )
    return PassingError(f"the connection to {host} broke ({type(error).__name__})")


def _nonsense(name: str) -> UpstreamError:
    return UpstreamError(f"what the hub says about {name} cannot be understood")


def _repo(name: str, info: ModelInfo) -> Repo:
    if not info.sha or not info.sha.isalnum():
        raise _nonsense(name)
    try:
        files = [_file(name, info.sha, one) for one in info.siblings or ()]
    except (InvalidNameError, ValueError, TypeError, AttributeError) as error:
        raise _nonsense(name) from error
    return Repo(
        name=name,
        commit=info.sha,
        files={file.path: file for file in files},
        base_models=tuple(_bases(info)),
    )


def _file(repo: str, commit: str, one: RepoSibling) -> HubFile:
    if one.size is None or one.size < 0 or one.blob_id is None:
        raise ValueError("a file without size or content")
    lfs = one.lfs
    return HubFile(
        repo=repo,
        commit=commit,
        path=one.rfilename,
        size=lfs.size if lfs else one.size,
        digest=Digest.parse(f"sha256:{lfs.sha256}") if lfs else None,
        git_oid=one.blob_id,
    )


def _bases(info: ModelInfo) -> Iterator[str]:
    said = info.card_data.get("base_model") if info.card_data else None
    for one in said if isinstance(said, list) else [said]:
        if isinstance(one, str) and is_repo(one):
            yield one


class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error if it is too long."""

    def __init__(self, body: httpx2.SyncByteStream) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._body:
            size += len(piece)
            if size > ANSWER_BYTES:
                raise ValueError("too long")
            yield piece

    def close(self) -> None:
        self._body.close()


def _bound(answer: httpx2.Response) -> None:
    if answer.headers.get("content-encoding", "identity") != "identity":
        # A few bytes could unpack into all there is of memory.
        raise ValueError("encoded")
    if isinstance(answer.stream, httpx2.SyncByteStream):
        answer.stream = _Bounded(answer.stream)


def _client() -> httpx2.Client:
    return httpx2.Client(
        follow_redirects=True,
        max_redirects=5,
        timeout=TIMEOUT_S,
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [_bound]},
    )


@cache
def _library() -> ModuleType:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import huggingface_hub
    import huggingface_hub.errors

    huggingface_hub.set_client_factory(_client)
    return huggingface_hub
