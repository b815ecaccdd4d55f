"""Taking over a models folder of the predecessor's."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from rkllama_protocol.messages import ResolvedModel
from rkllama_protocol.names import ModelName
from rkllama_store import folder
from rkllama_store.blobs import Blobs
from rkllama_store.import_plan import Candidate, Left, survey
from rkllama_store.importer import Taken, main, take_over
from rkllama_store.library import Library
from rkllama_store.manifests import Manifests
from rkllama_store.settings import HubSettings

from .hub_server import HubServer

QWEN = "Qwen2.5-3B-Instruct-rk3588-w8a8-opt-1-hybrid-ratio-0.5.rkllm"
RKLLM = b"\x00rkllm weights"
TOKENIZER = json.dumps({"model": {}}).encode()
MODELFILE = f"""FROM="{QWEN}"
HUGGINGFACE_PATH="Qwen/Qwen2.5-3B-Instruct"
SYSTEM="You are brief."
TEMPERATURE=0.5
TOP_K="7"
NUM_CTX=4096
MAX_NEW_TOKENS=1024
ENABLE_THINKING="false"
MIROSTAT=0
IMAGE_WIDTH=392
IMG_START=<|vision_start|>
"""

Put = Callable[[str, bytes | str], Path]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder that is taken over."""
    path = tmp_path / "old"
    path.mkdir()
    return path


@pytest.fixture
def put(old: Path) -> Put:
    def write(name: str, content: bytes | str) -> Path:
        path = old / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


def take(old: Path, store: Path) -> dict[str, Taken | Left]:
    outcomes = asyncio.run(take_over(old, store, lambda _: None, hub=HubSettings(hub_offline=True)))
    return {each.label: each for each in outcomes}


def resolve(store: Path, name: str) -> ResolvedModel:
    return Library(Blobs(store), Manifests(store)).resolve(ModelName.parse(name))


def reason(outcome: Taken | Left | Candidate) -> str:
    assert isinstance(outcome, Left)
    return outcome.reason


def test_a_model_with_its_modelfile(old: Path, put: Put, store: Path) -> None:
    weights = put(f"Qwen/{QWEN}", RKLLM)
    put("Qwen/Modelfile", MODELFILE)
    put("Qwen/tokenizer/tokenizer.json", TOKENIZER)
    put("Qwen/tokenizer.json", "another")
    put("Qwen/config.json", json.dumps({"model_type": "qwen2"}))
    put("Qwen/encoder.rknn", b"\x00encoder")
    outcome = take(old, store)["Qwen"]
    model = resolve(store, "qwen2.5:3b")
    files = {layer.name: layer for layer in model.layers if layer.name}

    assert isinstance(outcome, Taken)
    assert [name.display for name in outcome.names] == ["qwen2.5:3b", "Qwen:latest"]
    assert outcome.notes == ("parameter 'mirostat' is deprecated and was skipped",)
    assert resolve(store, "qwen").digest == model.digest
    assert model.system == "You are brief."
    assert model.parameters == {
        "temperature": 0.5,
        "top_k": 7,
        "num_ctx": 4096,
        "num_predict": 1024,
        "think": False,
        "image_width": 392,
        "image_start": "<|vision_start|>",
    }
    assert files.keys() == {QWEN, "tokenizer.json", "config.json", "encoder.rknn"}
    assert files["tokenizer.json"].size == len(TOKENIZER)
    assert model.details.family == "qwen2"
    blob = store / "blobs" / files[QWEN].digest.replace(":", "-")
    assert blob.samefile(weights)


def test_nothing_of_the_users_is_touched(old: Path, put: Put, store: Path) -> None:
    put(f"Qwen/{QWEN}", RKLLM)
    put("Qwen/Modelfile", MODELFILE)
    put("Qwen/tokenizer.json", TOKENIZER)
    put("Broken/m.rkllm", RKLLM)
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    take(old, store)
    library = Library(Blobs(store), Manifests(store))
    for name in library.names():
        library.delete(name)

    assert before == {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    assert list((store / "blobs").iterdir()) == []


def test_a_second_time_changes_nothing(old: Path, put: Put, store: Path) -> None:
    put(f"Qwen/{QWEN}", RKLLM)
    put("Qwen/tokenizer.json", TOKENIZER)
    take(old, store)
    files = set(store.rglob("*"))
    again = take(old, store)["Qwen"]

    assert isinstance(again, Taken)
    assert not again.new
    assert files == set(store.rglob("*"))


def test_loose_files(old: Path, put: Put, store: Path, tiny: bytes) -> None:
    put("small.gguf", tiny)
    put("Some-Model.rkllm", RKLLM)
    put("tokenizer.json", TOKENIZER)
    outcomes = take(old, store)

    assert resolve(store, "small").details.format == "gguf"
    assert "no tokenizer.json" in reason(outcomes["Some-Model.rkllm"])


def test_a_folder_that_is_one_model(old: Path, put: Put, store: Path) -> None:
    put("Some-Model.rkllm", RKLLM)
    put("tokenizer/tokenizer.json", TOKENIZER)
    put("tokenizer/1_Pooling/config.json", "{}")
    take(old, store)

    assert resolve(store, "some-model").capabilities == ("embedding",)


def test_a_modelfile_in_ollamas_grammar(old: Path, put: Put, store: Path, tiny: bytes) -> None:
    put("m/t.gguf", tiny)
    put("m/Modelfile", 'FROM ./t.gguf\nPARAMETER stop "a"\nSYSTEM """s"""\nMESSAGE user hi\n')
    take(old, store)
    model = resolve(store, "m")

    assert (model.system, model.parameters) == ("s", {"stop": ["a"]})
    assert model.messages[0].content == "hi"


def test_an_adapter_beside_the_weights(
    old: Path, put: Put, store: Path, tiny: bytes, tiny_lora: bytes
) -> None:
    put("m/t.gguf", tiny)
    put("m/lora.gguf", tiny_lora)
    put("m/Modelfile", "FROM ./t.gguf\nADAPTER ./lora.gguf\n")
    outcomes = take(old, store)

    assert isinstance(outcomes["m"], Taken)
    assert "lora.gguf" in [layer.name for layer in resolve(store, "m").layers]


def test_a_template_that_was_only_shown_is_left_out(
    old: Path, put: Put, store: Path, tiny: bytes
) -> None:
    put("m/t.gguf", tiny)
    put(
        "m/Modelfile",
        'FROM=t.gguf\nTEMPLATE="{{ range .Messages }} my own {{ .Content }}{{ end }}"',
    )
    outcome = take(old, store)["m"]

    assert isinstance(outcome, Taken)
    assert outcome.notes[0].startswith("TEMPLATE was left out: this Go template")
    assert resolve(store, "m").template == ""


LEFT = [
    pytest.param(
        {"m/m.rkllm": RKLLM, "m/Modelfile": "FROM=m.rkllm\nHUGGINGFACE_PATH=a/b"},
        "m",
        r"from a/b: HF_HUB_OFFLINE .*: put the tokenizer files of a/b into .*/m/tokenizer and import",
        id="no tokenizer",
    ),
    pytest.param(
        {"m/m.rkllm": RKLLM, "m/Modelfile": "FROM=m.rkllm\nHUGGINGFACE_PATH=b"},
        "m",
        "b is no repository of the hub",
        id="no repository",
    ),
    pytest.param({"m/m.rkllm": RKLLM}, "m", "of the model it was converted from", id="no idea"),
    pytest.param(
        {"m/m.rkllm": RKLLM, "m/tokenizer.json": "<html>"}, "m", "is not JSON", id="no JSON"
    ),
    pytest.param(
        {"m/m.rkllm": RKLLM, "m/tokenizer.json": "{}"}, "m", "is no tokenizer", id="other JSON"
    ),
    pytest.param({"m/m.gguf": b"\x00junk"}, "m", "not a GGUF file", id="no GGUF"),
    pytest.param({"m/m.gguf": "<html>gone"}, "m", "is a text and no model", id="an error page"),
    pytest.param({"m/m.gguf": ""}, "m", "is a text and no model", id="empty"),
    pytest.param(
        {"m/m.gguf": b"\x00", "m/Modelfile": "FROM=other.gguf"},
        "m/Modelfile",
        "FROM names other.gguf, which is not there",
        id="FROM is not there",
    ),
    pytest.param(
        {"m/Modelfile": "FROM=../../secret.rkllm"},
        "m/Modelfile",
        "FROM names secret.rkllm, which is not there",
        id="FROM leads elsewhere",
    ),
    pytest.param(
        {"m/m.gguf": b"\x00", "m/Modelfile": "FROM=m.gguf\nTOP_K=many"},
        "m/Modelfile",
        r"invalid int value \[many\]",
        id="a bad value",
    ),
    pytest.param(
        {"m/m.gguf": b"\x00", "m/Modelfile": "nonsense"},
        "m/Modelfile",
        "unexpected EOF",
        id="no Modelfile",
    ),
    pytest.param(
        {"m/m.gguf": b"\x00", "m/Modelfile": "FROM ./m.gguf\nADAPTER ./no.gguf"},
        "m",
        "ADAPTER names no.gguf, which is not there",
        id="ADAPTER is not there",
    ),
    pytest.param(
        {"m/m.gguf": b"\x00", "m/Modelfile": "FROM ./m.gguf\nTEMPLATE {{ .Foo }} bar"},
        "m",
        "Go template",
        id="a template",
    ),
]


@pytest.mark.parametrize(("files", "label", "text"), LEFT)
def test_what_cannot_be_taken_is_left_with_its_reason(
    old: Path, put: Put, store: Path, files: dict[str, bytes | str], label: str, text: str
) -> None:
    """And nothing of it is in the store."""
    for name, content in files.items():
        put(name, content)
    outcomes = take(old, store)

    assert re.search(text, reason(outcomes[label]))
    assert [path for path in store.rglob("*") if path.is_file()] == [store / "lock"]


def test_another_models_name_is_left_alone(old: Path, put: Put, store: Path, tiny: bytes) -> None:
    put("m/t.gguf", tiny)
    take(old, store)
    before = resolve(store, "m")
    put("m/Modelfile", "FROM=t.gguf\nSYSTEM=other")
    outcomes = take(old, store)

    assert "m:latest is another model already" in reason(outcomes["m"])
    assert resolve(store, "m") == before


def test_families_that_collide_get_longer_names(old: Path, put: Put, store: Path) -> None:
    for level in ("0", "1"):
        put(f"q{level}/{QWEN.replace('opt-1', f'opt-{level}')}", RKLLM + level.encode())
        put(f"q{level}/tokenizer.json", TOKENIZER)
    take(old, store)

    names = {name.display for name in Library(Blobs(store), Manifests(store)).names()}
    assert names == {"q0:latest", "q1:latest", "qwen2.5:3b", "qwen2.5:3b-w8a8"} or (len(names) == 4)


async def test_a_tokenizer_that_is_not_there_comes_from_the_hub(
    old: Path, put: Put, store: Path
) -> None:
    put(f"m/{QWEN}", RKLLM)
    put("m/Modelfile", MODELFILE)
    async with HubServer().serving() as hub:
        hub.repo("Qwen/Qwen2.5-3B-Instruct").add("tokenizer.json", TOKENIZER, lfs=True)
        online = HubSettings(endpoint=hub.url, token=SecretStr(""), hub_offline=False)
        outcomes = await take_over(old, store, lambda _: None, hub=online)

    assert [type(each) for each in outcomes] == [Taken]
    model = resolve(store, "qwen2.5:3b")
    assert {layer.name for layer in model.layers if layer.name} == {QWEN, "tokenizer.json"}
    assert model.system == "You are brief."


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(arguments, out=out, err=err), out.getvalue(), err.getvalue()


def test_the_command(old: Path, put: Put, tmp_path: Path, tiny: bytes) -> None:
    put("m/t.gguf", tiny)
    data = str(tmp_path / "data")
    code, out, err = run(str(old), "--data", data)
    put("n/n.rkllm", RKLLM)
    again, later, _ = run(str(old), "--data", data)
    lines = [line.split() for line in out.splitlines()]

    assert (code, again) == (0, 1)
    assert lines[0] == ["FROM", "NAME", "SIZE", "RESULT"]
    assert (lines[1][0], lines[1][1], lines[1][-1]) == ("m", "m:latest", "imported")
    assert "there already" in later
    assert "left out: no tokenizer.json" in later
    assert err.startswith("reading ")


def test_a_store_that_runs_is_not_disturbed(old: Path, put: Put, tmp_path: Path) -> None:
    put("m/m.rkllm", RKLLM)
    with folder.owned(tmp_path / "models"):
        code, out, err = run(str(old), "--data", str(tmp_path))

    assert (code, out) == (1, "")
    assert "another model store uses the folder" in err
    assert "stop it, import, and start it again" in err


def test_a_folder_without_models(old: Path, tmp_path: Path) -> None:
    assert "there is no .rkllm or .gguf file" in run(str(old), "--data", str(tmp_path))[2]
    assert "cannot read the folder" in run(str(old / "nope"), "--data", str(tmp_path))[2]


PIECES = st.sampled_from(
    [
        "FROM=",
        "m.gguf",
        "FROM ",
        "ADAPTER ",
        "../x",
        "\x00",
        "/",
        "..",
        "\n",
        '"',
        "TEMPLATE=",
        "{{",
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=15).map("".join))
def test_any_modelfile_is_a_candidate_or_left(old: Path, put: Put, text: str) -> None:
    put("m/m.gguf", b"\x00")
    put("m/Modelfile", text.encode(errors="replace"))
    for each in survey(old):
        if isinstance(each, Candidate):
            assert each.adapter is None or each.adapter.parent == old / "m"
            assert each.weights == old / "m" / "m.gguf"
