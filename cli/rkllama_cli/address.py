"""Where the server is.

`RKLLAMA_HOST` comes before `OLLAMA_HOST`, which means what it means to Ollama. Both may be a host,
a host and a port, or a URL.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2
from rkllama_service.process import SetupError
from rkllama_service.settings import Shared

DEFAULT_PORT = 8080
OLLAMA_PORT = 11434
LARGEST_PORT = 65535
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - what `:1234` says
_SCHEME_PORTS = {"http": 80, "https": 443}
_PORT = re.compile(r":([0-9]+)$")


def server_url(shared: Shared, environ: Mapping[str, str]) -> str:
    """The URL that commands talk to, without a slash at the end.

    Raises:
        SetupError: The variable holds no address.
    """
    if "host" in shared.model_fields_set:
        return _url("RKLLAMA_HOST", shared.host, port=DEFAULT_PORT, http_port=DEFAULT_PORT)
    if text := _ollama_host(environ):
        return _url("OLLAMA_HOST", text, port=OLLAMA_PORT, http_port=80)
    return _url("RKLLAMA_HOST", shared.host, port=DEFAULT_PORT, http_port=DEFAULT_PORT)


def listen_address(shared: Shared, environ: Mapping[str, str]) -> tuple[str, int | None]:
    """What a server listens on where no option says; None stands for the usual ports.

    Raises:
        SetupError: The variable holds no address.
    """
    ollamas = _ollama_host(environ)
    if "host" in shared.model_fields_set or not ollamas:
        url, port = _parsed("RKLLAMA_HOST", shared.host)
        return url.host or EVERY_ADDRESS, port
    url, port = _parsed("OLLAMA_HOST", ollamas)
    usual = _SCHEME_PORTS[url.scheme] if "://" in ollamas else OLLAMA_PORT
    return url.host or EVERY_ADDRESS, usual if port is None else port


def api_key(shared: Shared, environ: Mapping[str, str]) -> str:
    """The key that is sent, or empty.

    Raises:
        SetupError: The variable holds what no header can.
    """
    for variable, text in (
        ("RKLLAMA_API_KEY", shared.api_key),
        ("OLLAMA_API_KEY", environ.get("OLLAMA_API_KEY", "")),
    ):
        if key := text.strip():
            if not (key.isascii() and key.isprintable()):
                raise SetupError(f"{variable} holds characters that are in no key")
            return key
    return ""


def _url(variable: str, text: str, *, port: int, http_port: int) -> str:
    """`text` as a URL; `port` where it names neither a port nor a scheme, `http_port` for `http://`."""
    url, named = _parsed(variable, text)
    if url.host in ("", EVERY_ADDRESS, "::"):
        # Where it listens is not where it is.
        url = url.copy_with(host="127.0.0.1")
    if named is None and url.scheme == "http":
        url = url.copy_with(port=http_port if "://" in text else port)
    return str(url).rstrip("/")


def _ollama_host(environ: Mapping[str, str]) -> str:
    return environ.get("OLLAMA_HOST", "").strip().strip("\"'")


def _parsed(variable: str, text: str) -> tuple[httpx2.URL, int | None]:
    """`text` as a URL, and the port that it names, also where that is the usual one of its scheme."""
    full = text if "://" in text else f"http://{_bracketed(text)}"
    try:
        url = httpx2.URL(full)
    except httpx2.InvalidURL as error:
        raise SetupError(f"{variable} is {text!r}, which is no address of a server") from error
    if url.scheme not in ("http", "https"):
        raise SetupError(f"{variable} is {text!r}; a server's address begins with http or https")
    if "%" in url.host:
        raise SetupError(f"{variable} is {text!r}, which is no address of a server")
    written = _PORT.search(urlsplit(full).netloc)
    port = int(written[1]) if written else None
    if port is not None and port > LARGEST_PORT:
        if variable != "OLLAMA_HOST":
            raise SetupError(f"{variable} is {text!r}; a port is {LARGEST_PORT} at most")
        # As Ollama takes it (contract 5).
        port = OLLAMA_PORT
        url = url.copy_with(port=port)
    return url, port


def _bracketed(text: str) -> str:
    """A bare IPv6 address in brackets."""
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        return text
    return f"[{text}]" if version == 6 else text
