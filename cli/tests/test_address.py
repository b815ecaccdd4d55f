"""Where the server is, by what the environment says."""

from __future__ import annotations

import pytest
from rkllama_cli.address import api_key, listen_address, server_url
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
        # A port that is named is meant, also the scheme's own.
        ("board:80", None, "http://board"),
        ("http://board:80", None, "http://board"),
        (None, "board:80", "http://board"),
        (None, "https://board:443", "https://board"),
        (None, "board:99999", "http://board:11434"),
    ],
)
def test_the_address(ours: str | None, ollamas: str | None, url: str) -> None:
    shared = Shared() if ours is None else Shared(host=ours)
    environ = {} if ollamas is None else {"OLLAMA_HOST": ollamas}

    assert server_url(shared, environ) == url


@pytest.mark.parametrize("text", ["http://[", "ftp://board", "board:port", "board:99999"])
def test_what_is_no_address_is_said_with_its_variable(text: str) -> None:
    with pytest.raises(SetupError, match="RKLLAMA_HOST"):
        server_url(Shared(host=text), {})


def test_our_key_comes_before_ollamas() -> None:
    assert api_key(Shared(api_key="a"), {"OLLAMA_API_KEY": "b"}) == "a"
    assert api_key(Shared(), {"OLLAMA_API_KEY": "b"}) == "b"
    assert api_key(Shared(), {}) == ""


@pytest.mark.parametrize("text", ["ké", "a\nb", "a\x00"])
def test_what_no_header_can_hold_is_said_with_its_variable(text: str) -> None:
    with pytest.raises(SetupError, match="RKLLAMA_API_KEY"):
        api_key(Shared(api_key=text), {})
    with pytest.raises(SetupError, match="OLLAMA_API_KEY"):
        api_key(Shared(), {"OLLAMA_API_KEY": text})


def test_blanks_around_a_key_are_no_part_of_it() -> None:
    assert api_key(Shared(api_key=" a\n"), {}) == "a"
    assert api_key(Shared(api_key=" "), {"OLLAMA_API_KEY": "b\n"}) == "b"


@pytest.mark.parametrize(
    ("ollamas", "address"),
    [
        (None, ("127.0.0.1", None)),
        ("", ("127.0.0.1", None)),
        ("0.0.0.0", ("0.0.0.0", 11434)),  # noqa: S104
        ("1.2.3.4:99", ("1.2.3.4", 99)),
        (":1234", ("0.0.0.0", 1234)),  # noqa: S104
        ("[::1]:1337", ("::1", 1337)),
        ("http://h", ("h", 80)),
        ("https://h/path", ("h", 443)),
        (" 'h' ", ("h", 11434)),
        ("h:80", ("h", 80)),
        ("h:0", ("h", 0)),
        ("h:99999", ("h", 11434)),
    ],
)
def test_ollamas_host_is_what_a_server_listens_on(
    ollamas: str | None, address: tuple[str, int | None]
) -> None:
    """Contract 5; ours comes first."""
    environ = {} if ollamas is None else {"OLLAMA_HOST": ollamas}

    assert listen_address(Shared(), environ) == address
    assert listen_address(Shared(host="::"), environ) == ("::", None)


@pytest.mark.parametrize(
    ("ours", "address"),
    [
        ("::1", ("::1", None)),
        ("board", ("board", None)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104
        ("http://127.0.0.1:18080", ("127.0.0.1", 18080)),
    ],
)
def test_what_commands_talk_to_a_server_can_listen_on(
    ours: str, address: tuple[str, int | None]
) -> None:
    assert listen_address(Shared(host=ours), {}) == address
