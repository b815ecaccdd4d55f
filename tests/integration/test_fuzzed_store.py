"""Hostile names, digests, Modelfiles and manifests over HTTP: gateway, broker and store as processes.

Whatever is sent, the answer says what is wrong with it, and no file outside the store's folders is
made, read, changed or removed. A 500 is no bug where it is Ollama's own answer, with a text of its own;
`internal error` is what an exception that nobody thought of is answered with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rkllama_modelfile import ModelfileError, parse, to_create

from tests.integration.conftest import MODEL
from tests.stack import Stack, prepared

EXAMPLES = 60
CANARY = "the canary sings"

PIECES = st.sampled_from(
    [
        "../",
        "..",
        "/",
        "\\",
        "%2e%2e%2f",
        "\0",
        ":",
        "@",
        "~",
        " ",
        "etc/passwd",
        "canary",
        "a",
        "é",
    ]
)
PLACES = st.sampled_from(
    [
        "../canary",
        "../../canary",
        "/etc/passwd",
        "hf.co/../canary",
        "hf.co/a/../../canary:x.rkllm",
        "a/b/../../canary.rkllm",
        "sha256-" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:../../../../canary",
        "x" * 400,
    ]
)
HOSTILE = st.one_of(PLACES, st.lists(PIECES, max_size=8).map("".join), st.text(max_size=20))


@dataclass
class Besieged:
    """A system, and the folder around its store."""

    web: httpx2.Client
    data: Path

    @property
    def models(self) -> Path:
        return self.data / "models"

    def send(self, method: str, path: str, body: Any = None, data: bytes | None = None) -> str:
        """Ask, and look that it was no accident; the text of the answer."""
        content = data if body is None else json.dumps(body).encode()
        answer = self.web.request(method, path, content=content)
        assert answer.status_code < 500 or answer.json()["error"], answer
        assert "internal error" not in answer.text
        assert CANARY not in answer.text
        return answer.text

    def around(self) -> dict[str, bytes]:
        """Every file that is none of the store's; its log grows."""
        store = {self.models / name for name in ("blobs", "manifests", "incoming", "stamps")}
        return {
            str(path): path.read_bytes() if path.suffix != ".log" else b""
            for path in self.data.parent.rglob("*")
            if path.is_file() and store.isdisjoint(path.parents)
        }


@pytest.fixture(scope="module")
def siege(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    """No worker and no hub: neither has a part in this."""
    around = tmp_path_factory.mktemp("around")
    data = around / "data"
    data.mkdir()
    for folder in (around, data, prepared(models, data) / "models"):
        (folder / "canary").write_text(CANARY)
        (folder / "canary.rkllm").write_text(CANARY)
    with (
        Stack(data, workers=0, env={"HF_HUB_OFFLINE": "1"}) as stack,
        httpx2.Client(base_url=stack.url, timeout=60.0, trust_env=False) as web,
    ):
        yield Besieged(web, data)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=HOSTILE)
def test_names(siege: Besieged, name: str) -> None:
    before = siege.around()
    siege.send("POST", "/api/show", {"model": name})
    siege.send("POST", "/api/pull", {"model": name})
    siege.send("POST", "/api/pull", {"model": f"hf.co/{name}", "stream": False})
    siege.send("POST", "/api/copy", {"source": MODEL, "destination": name})
    siege.send("POST", "/api/copy", {"source": name, "destination": "b"})
    siege.send("POST", "/api/create", {"model": name, "from": MODEL, "system": "s"})
    siege.send("POST", "/api/create", {"model": "b", "from": name, "stream": False})
    siege.send("POST", "/api/create", {"model": "b", "files": {name: "sha256:" + "0" * 64}})
    siege.send("POST", "/api/create", {"model": "b", "from": MODEL, "tokenizer_repo": name})
    siege.send("POST", "/api/verify", {"model": name})
    if name not in {MODEL, ""}:
        siege.send("DELETE", "/api/delete", {"model": name})

    assert siege.around() == before
    assert MODEL in siege.send("GET", "/api/tags")


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(digest=HOSTILE)
def test_digests(siege: Besieged, digest: str) -> None:
    before = siege.around()
    files = {"m.rkllm": digest, "tokenizer.json": digest}
    siege.send("HEAD", f"/api/blobs/{quote(digest, safe='')}")
    siege.send("POST", f"/api/blobs/{quote(digest, safe='')}", data=b"x")
    siege.send("POST", "/api/create", {"model": "b", "files": files})
    siege.send("POST", "/api/create", {"model": "b", "files": {"m.gguf": digest}})
    siege.send("POST", "/api/create", {"model": "b", "from": MODEL, "adapters": {"a.gguf": digest}})

    assert siege.around() == before


LINES = st.sampled_from(
    [
        f"FROM {MODEL}",
        "FROM ../canary.rkllm",
        'FROM="../canary.rkllm"',
        "HUGGINGFACE_PATH=../../canary",
        "ADAPTER ../canary.gguf",
        "SYSTEM ../canary",
        "TEMPLATE {{ .System }}{{ range",
        'TEMPLATE """{{ messages[0].__class__ }}"""',
        "PARAMETER stop \0",
        "PARAMETER temperature 1e308",
        "PARAMETER num_ctx 9223372036854775807",
        "MESSAGE user hi",
        "LICENSE /etc/passwd",
        "TEMPERATURE=x",
    ]
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.one_of(LINES, st.text(max_size=10)), max_size=6))
def test_modelfiles(siege: Besieged, lines: list[str]) -> None:
    """As the command line reads them, but with every FROM left as it is typed."""
    before = siege.around()
    try:
        modelfile = parse("\n".join(lines))
        body = to_create(modelfile, adapters=dict.fromkeys(modelfile.adapters, "sha256:0"))
    except ModelfileError:
        return
    created = siege.send("POST", "/api/create", {"model": "made", **body})
    if '{"status":"success"}' in created:
        siege.send("POST", "/api/show", {"model": "made"})
        siege.send("DELETE", "/api/delete", {"model": "made"})

    assert siege.around() == before


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), HOSTILE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_manifests(siege: Besieged, data: st.DataObject) -> None:
    """Of a disk that fails, or of somebody who may write to it: wrong, and still well-formed or not."""
    library = siege.models / "manifests" / "registry.ollama.ai" / "library"
    good = library / "smollm2" / "135m"
    bad = library / "bad" / "latest"
    content = json.loads(good.read_bytes())
    place = data.draw(st.sampled_from([content, content["config"], *content["layers"]]))
    place[data.draw(st.sampled_from([*place, "x"]))] = data.draw(JSON)
    encoded = data.draw(st.sampled_from([json.dumps(content).encode(), b"", b"{", b"\xff" * 9]))
    before = siege.around()
    bad.parent.mkdir()
    bad.write_bytes(encoded)
    siege.send("GET", "/api/tags")
    siege.send("POST", "/api/show", {"model": "bad", "verbose": True})
    siege.send("POST", "/api/copy", {"source": "bad", "destination": "b"})
    siege.send("POST", "/api/create", {"model": "b", "from": "bad", "system": "s"})
    siege.send("POST", "/api/verify", {"model": "bad"})
    siege.send("DELETE", "/api/delete", {"model": "bad"})

    assert not bad.exists()
    assert siege.around() == before
    assert siege.send("POST", "/api/verify", {"model": MODEL}).endswith('{"status":"success"}\n')
