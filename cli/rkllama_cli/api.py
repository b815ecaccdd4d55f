"""The HTTP client: one method for each endpoint that a command needs."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import ValidationError

from rkllama_cli.errors import BrokenError, CliError, NoServerError, RefusedError, refusal
from rkllama_cli.wire import Facts, Json, Models, Piece, Progress

CONNECT_S = 10.0
SUCCESS = "success"
_KEEPALIVE = [
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
]
"""An answer may rest for minutes; a machine that is gone is noticed all the same."""

R = TypeVar("R", Piece, Progress, Facts, Models)


class Api:
    """One server; every method may raise a `CliError`."""

    def __init__(self, url: str, *, key: str = "") -> None:
        self.url = url
        self._key_sent = bool(key)
        self._server_now: datetime | None = None
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = self._client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def hang_up(self) -> None:
        """Break off whatever is under way.

        A Ctrl-C can come in the middle of the HTTP library, where the connection is nobody's yet
        and would stay open: the server would go on with an answer that no one reads.
        """
        self._http.close()
        self._http = self._client()

    def _client(self) -> httpx2.Client:
        options = [
            (level, getattr(socket, name), value)
            for level, name, value in _KEEPALIVE
            if hasattr(socket, name)
        ]
        # What the machine trusts, or `SSL_CERT_FILE` says; it takes a moment to read.
        trusted = ssl.create_default_context() if self.url.startswith("https:") else True
        return httpx2.Client(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            trust_env=False,
            transport=httpx2.HTTPTransport(verify=trusted, trust_env=False, socket_options=options),
        )

    @property
    def now(self) -> datetime:
        """The server's clock at its last answer: its times are compared with no other."""
        return self._server_now or datetime.now(UTC)

    def version(self) -> str:
        """The API level that the server speaks."""
        answer = self._json("GET", "/api/version", timeout_s=CONNECT_S)
        return str(answer.get("version", ""))

    def tags(self) -> Json:
        """The models it has."""
        return self._json("GET", "/api/tags")

    def ps(self) -> Json:
        """The models that are loaded."""
        return self._json("GET", "/api/ps")

    def show(
        self, model: str, *, verbose: bool = False, overlay: Mapping[str, object] | None = None
    ) -> Json:
        """Everything about a model; `system` and `options` of `overlay` lie over what it has."""
        body = {"model": model, "verbose": verbose, **(overlay or {})}
        return self._json("POST", "/api/show", body)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._whole("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        """Delete a model."""
        self._whole("DELETE", "/api/delete", {"model": model})

    def drain(self, worker: str) -> None:
        """Have a worker end or hand over what it runs, and stop."""
        self._whole("POST", "/api/drain", {"worker": worker})

    def load(self, model: str, **settings: object) -> None:
        """Have a model loaded; returns when it is."""
        self._whole("POST", "/api/generate", {"model": model, **settings})

    def unload(self, model: str) -> None:
        """Have a model unloaded as soon as it is idle."""
        self.load(model, keep_alive=0)

    def pull(self, model: str) -> Generator[Progress, None, None]:
        """Bring a model in."""
        return self._to_success("/api/pull", {"model": model})

    def create(self, body: Mapping[str, object]) -> Generator[Progress, None, None]:
        """Make a model."""
        return self._to_success("/api/create", body)

    def verify(self, model: str) -> Generator[Progress, None, None]:
        """Have a model's blobs read and compared with their digests; of all models without a name."""
        return self._to_success("/api/verify", {"model": model} if model else {})

    def chat(self, body: Mapping[str, object]) -> Generator[Piece, None, None]:
        """An answer, piece by piece; closing the generator has the server stop."""
        for piece in self._records("/api/chat", body, Piece):
            yield piece
            if piece.done:
                return
        raise BrokenError(self.url)

    def has_blob(self, digest: str) -> bool:
        """Whether the server has these bytes."""
        try:
            self._whole("HEAD", f"/api/blobs/{digest}")
        except RefusedError as error:
            if error.not_found:
                return False
            raise
        return True

    def upload_blob(self, digest: str, content: Iterable[bytes], *, size_bytes: int) -> None:
        """Bring bytes to the server."""
        with self._talking():
            answer = self._http.post(
                f"/api/blobs/{digest}",
                content=content,
                headers={"Content-Length": str(size_bytes)},
            )
        self._check(answer)

    def _to_success(self, path: str, body: Mapping[str, object]) -> Generator[Progress, None, None]:
        last = ""
        for record in self._records(path, body, Progress):
            yield record
            last = record.status or last
        if last != SUCCESS:
            raise BrokenError(self.url)

    def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Json:
        answer = self._whole(method, path, body, timeout_s=timeout_s)
        try:
            found = json.loads(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CliError(f"what answers at {self.url} is no rkllama or Ollama server")
        return found

    def _whole(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
        with self._talking():
            answer = self._http.request(method, path, json=body, timeout=timeout)
        return self._check(answer)

    def _records(
        self, path: str, body: Mapping[str, object], kind: type[R]
    ) -> Generator[R, None, None]:
        with self._talking(), self._http.stream("POST", path, json=body) as answer:
            self._check(answer)
            for line in _lines(answer.iter_bytes()):
                yield self._record(line, kind)

    def _record(self, line: bytes, kind: type[R]) -> R:
        try:
            found: Any = json.loads(line)
            if isinstance(found, dict) and "error" in found:
                # The status was sent long before; this is what it would have been about.
                raise refusal(200, line, key_sent=self._key_sent)
            return kind.model_validate(found)
        except ValueError as error:
            raise CliError(f"{self.url} sent a record that cannot be read") from error

    def _check(self, answer: httpx2.Response) -> httpx2.Response:
        if dates := answer.headers.get_list("date"):
            # A server may add its own to the one of the application, which comes last.
            self._server_now = _date(dates[-1])
        if answer.is_success:
            return answer
        with self._talking():
            body = answer.read()
        raise refusal(
            answer.status_code,
            body,
            retry_after=answer.headers.get("retry-after", ""),
            key_sent=self._key_sent,
        )

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NoServerError(self.url) from error
        except httpx2.TransportError as error:
            raise BrokenError(self.url) from error


def read(answer: Json, kind: type[R]) -> R:
    """What a command reads of an answer."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise CliError("the server sent an answer that cannot be read") from error


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines by `\n` alone: an answer may hold what else ends a line in Unicode."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
