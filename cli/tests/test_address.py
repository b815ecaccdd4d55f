"""Where the server is, by what the environment says."""

from __future__ import annotations

import pytest
from rkllama_cli.address import api_key, server_url
from rkllama_service.process import SetupError
from rkllama_service.settings import Shared


@pytest.mark.parametrize(
    ("ours", "ollamas", "url"),
    [
        (None, None, "http://127.0.0.1:8080"),
        ("board", None, "http://board:8080"),
        ("http://board", None, "http://board:8080"),
        ("0.0.0.0", None, "http://127.0.0.1:8080"),  # noqa: S104
        ("::", None, "http://127.0.0.1:8080"),
        ("fd00::7", None, "http://[fd00::7]:8080"),
        ("board:9", "other:1", "http://board:9"),
        (None, "board", "http://board:11434"),
        (None, ":1234", "http://127.0.0.1:1234"),
        (None, '"board:1"', "http://board:1"),
        (None, "[::1]:1337", "http://[::1]:1337"),
        (None, "http://board/", "http://board"),
        (None, "https://board/path/", "https://board/path"),
        (None, "  ", "http://127.0.0.1:8080"),
    ],
)
def test_the_address(ours: str | None, ollamas: str | None, url: str) -> None:
    shared = Shared() if ours is None else Shared(host=ours)
    environ = {} if ollamas is None else {"OLLAMA_HOST": ollamas}

    assert server_url(shared, environ) == url


@pytest.mark.parametrize("text", ["http://[", "ftp://board", "board:port"])
def test_what_is_no_address_is_said_with_its_variable(text: str) -> None:
    with pytest.raises(SetupError, match="RKLLAMA_HOST"):
        server_url(Shared(host=text), {})


def test_our_key_comes_before_ollamas() -> None:
    assert api_key(Shared(api_key="a"), {"OLLAMA_API_KEY": "b"}) == "a"
    assert api_key(Shared(), {"OLLAMA_API_KEY": "b"}) == "b"
    assert api_key(Shared(), {}) == ""
