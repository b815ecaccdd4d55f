"""Names and digests (contract 1.6)."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.names import Digest, InvalidNameError, ModelName, token


@pytest.mark.parametrize(
    ("text", "full", "display"),
    [
        ("m", "registry.ollama.ai/library/m:latest", "m:latest"),
        ("m:3b", "registry.ollama.ai/library/m:3b", "m:3b"),
        ("Qwen2.5:3B", "registry.ollama.ai/library/Qwen2.5:3B", "Qwen2.5:3B"),
        ("ns/m", "registry.ollama.ai/ns/m:latest", "ns/m:latest"),
        ("host:5000/ns/m", "host:5000/ns/m:latest", "host:5000/ns/m:latest"),
        ("https://hf.co/user/repo:Q4", "hf.co/user/repo:Q4", "hf.co/user/repo:Q4"),
        ("  m  ", "registry.ollama.ai/library/m:latest", "m:latest"),
        ("_m", "registry.ollama.ai/library/_m:latest", "_m:latest"),
        ("registry.ollama.ai/library/m:t", "registry.ollama.ai/library/m:t", "m:t"),
    ],
)
def test_a_name_is_parsed_into_its_parts(text: str, full: str, display: str) -> None:
    name = ModelName.parse(text)

    assert (name.full, name.display) == (full, display)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "x:", "/x", ".x", "-x", "x@sha256:1", "x" * 81, "a/b/c/d", "../x", "x/..",
        "n.s/m", "a//b", "m:", ":t", "m:t/u:", "a\x00b", "ü",
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        ModelName.parse(text)


def test_lookup_ignores_case_and_keeps_it() -> None:
    assert ModelName.parse("Qwen").key == ModelName.parse("qWEN:LATEST").key
    assert ModelName.parse("Qwen").display == "Qwen:latest"


@given(st.text(max_size=40))
def test_a_parsed_name_is_never_a_way_out_of_a_folder(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidNameError:
        return

    for part in (name.host, name.namespace, name.model, name.tag):
        assert PurePosixPath(part).name == part
        assert part not in (".", "..")
    assert ModelName.parse(name.full) == name


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}"])
def test_a_digest_has_two_spellings(text: str) -> None:
    digest = Digest.parse(text)

    assert (str(digest), digest.file_name) == (f"sha256:{HEX}", f"sha256-{HEX}")


@pytest.mark.parametrize(
    "text",
    ["", HEX, f"sha1:{HEX}", f"sha256:{HEX[1:]}", f"sha256:{HEX.upper()}", f"sha256:{HEX}\n"],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        Digest.parse(text)


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "a" * 65])
def test_what_would_change_a_subject_is_no_token(text: str) -> None:
    with pytest.raises(InvalidNameError):
        token(text)
