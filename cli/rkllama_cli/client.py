"""The commands that talk HTTP to a server, as any Ollama client does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import orjson
from rich.console import Console
from rich.table import Table
from rkllama_service.process import fail
from rkllama_service.settings import Shared

DEFAULT_PORT = 8080
GIGABYTE = 1_000_000_000
MEGABYTE = 1_000_000


def server_url(shared: Shared) -> str:
    """Where the server is: `RKLLAMA_HOST`, else `OLLAMA_HOST`, with a port if none is given."""
    ours = "host" in shared.model_fields_set
    text = shared.host if ours else os.environ.get("OLLAMA_HOST", shared.host).strip()
    if "://" not in text:
        text = f"http://{text}"
    url = httpx2.URL(text)
    if url.host in ("0.0.0.0", "::"):  # noqa: S104 - where it listens is not where it is
        url = url.copy_with(host="127.0.0.1")
    if url.port is None and url.scheme == "http":
        url = url.copy_with(port=DEFAULT_PORT)
    return str(url).rstrip("/")


@contextmanager
def _client(shared: Shared) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {shared.api_key}"} if shared.api_key else {}
    url = server_url(shared)
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=None, trust_env=False) as client:
            yield client
    except httpx2.TransportError:
        fail(f"no server answers at {url}; start one with `rkllama serve`")


def _check(response: httpx2.Response) -> httpx2.Response:
    if response.is_error:
        response.read()
        try:
            text = orjson.loads(response.content)["error"]
        except (ValueError, KeyError, TypeError):
            text = response.text or f"the server answered {response.status_code}"
        fail(text)
    return response


def _size(size_bytes: int) -> str:
    if size_bytes >= GIGABYTE:
        return f"{size_bytes / GIGABYTE:.1f} GB"
    return f"{size_bytes / MEGABYTE:.0f} MB"


def _table(columns: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def list_models(shared: Shared) -> None:
    """A table of the server's models."""
    with _client(shared) as client:
        models: list[dict[str, Any]] = _check(client.get("/api/tags")).json()["models"]
    rows = [[m["name"], m["digest"][:12], _size(m["size"]), m["modified_at"][:19]] for m in models]
    _table(["NAME", "ID", "SIZE", "MODIFIED"], rows)


def list_loaded(shared: Shared) -> None:
    """A table of the loaded models."""
    with _client(shared) as client:
        models: list[dict[str, Any]] = _check(client.get("/api/ps")).json()["models"]
    rows = [[m["name"], m["digest"][:12], _size(m["size"]), m["expires_at"][:19]] for m in models]
    _table(["NAME", "ID", "SIZE", "UNTIL"], rows)


def pull(shared: Shared, model: str) -> None:
    """Bring a model in, and say how it goes."""
    console = Console()
    with (
        _client(shared) as client,
        client.stream("POST", "/api/pull", json={"model": model}) as response,
    ):
        _check(response)
        last = ""
        for line in response.iter_lines():
            record = orjson.loads(line)
            if "error" in record:
                fail(record["error"])
            if record["status"] != last:
                last = record["status"]
                console.print(last)


def copy(shared: Shared, source: str, destination: str) -> None:
    """Give a model a second name."""
    with _client(shared) as client:
        body = {"source": source, "destination": destination}
        _check(client.post("/api/copy", json=body))
    Console().print(f"copied '{source}' to '{destination}'")


def delete(shared: Shared, model: str) -> None:
    """Delete a model."""
    with _client(shared) as client:
        _check(client.request("DELETE", "/api/delete", json={"model": model}))
    Console().print(f"deleted '{model}'")
