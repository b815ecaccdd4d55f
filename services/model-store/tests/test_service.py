"""The verbs, over a real broker."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import gguf
import pytest
from rkllama_modelfile import template_twins
from rkllama_protocol.errors import (
    InvalidJobError,
    ModelNotFoundError,
    RkllamaError,
    UnsupportedError,
)
from rkllama_protocol.messages import (
    Accepted,
    CopyRequest,
    DeleteRequest,
    Progress,
    PullRequest,
    ResolvedModel,
    ResolveRequest,
    ShowReply,
    ShowRequest,
    StreamCancel,
    TagsReply,
    TagsRequest,
)
from rkllama_protocol.subjects import StoreVerb
from rkllama_store.catalog import BUNDLED

WEIGHTS = BUNDLED.weights.digest
TIMEOUT_S = 20.0


def statuses(records: list[Progress]) -> list[str]:
    """What a client would see of a stream, the repetitions of one file's progress as one."""
    shown = [record.status for record in records if record.status]
    return [text for at, text in enumerate(shown) if at == 0 or shown[at - 1] != text]


async def resolve(client: Any, model: str) -> ResolvedModel:
    return await client.ask(StoreVerb.RESOLVE, ResolveRequest(model=model), ResolvedModel)


async def tags(client: Any) -> list[str]:
    reply = await client.ask(StoreVerb.TAGS, TagsRequest(), TagsReply)
    return [model.name for model in reply.models]


async def test_the_bundled_model_is_pulled(client: Any) -> None:
    records = await client.pull("SmolLM2:135M")
    seen = statuses(records)
    model = await resolve(client, "smollm2:135m")

    assert seen[0] == "pulling manifest"
    assert f"pulling {WEIGHTS.short}" == seen[1]
    assert seen[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert list(range(len(records))) == [record.seq for record in records]
    assert [record.seq for record in records if record.done] == [records[-1].seq]
    assert model.template == template_twins.SMOLLM2
    assert model.capabilities == ("completion", "tools")
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json"} < {
        layer.name for layer in model.layers
    }
    assert [("created", model.full_name)] == [
        (verb, change.full_name) for verb, change in client.events
    ]


async def test_a_pull_of_what_is_there_changes_nothing(client: Any) -> None:
    await client.pull("smollm2:135m")
    before = await resolve(client, "smollm2:135m")
    records = await client.pull("smollm2:135m")

    assert statuses(records)[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert {WEIGHTS.short} <= {record.digest.removeprefix("sha256:")[:12] for record in records}
    assert before == await resolve(client, "smollm2:135m")
    assert len(client.events) == 1


async def test_the_other_name_shares_the_files(client: Any) -> None:
    await client.pull("smollm2:135m")
    files = client.blob_files()
    await client.pull("smollm2")

    assert sorted(await tags(client)) == ["smollm2:135m", "smollm2:latest"]
    assert files == client.blob_files()


async def test_a_pull_mends_what_was_changed_by_hand(client: Any) -> None:
    await client.pull("smollm2:135m")
    model = await resolve(client, "smollm2:135m")
    tokenizer = next(layer for layer in model.layers if layer.name == "tokenizer.json")
    (client.root / "blobs" / tokenizer.digest.replace(":", "-")).unlink()
    hidden = await tags(client)
    await client.pull("smollm2:135m")

    assert (hidden, await tags(client)) == ([], ["smollm2:135m"])


async def test_pulls_of_one_name_share_the_work(client: Any) -> None:
    streams = await asyncio.gather(*(client.pull("smollm2:135m") for _ in range(4)))

    assert [records[-1].status for records in streams] == ["success"] * 4
    assert len(client.events) == 1


async def test_a_shared_pull_goes_on_when_one_leaves(client: Any) -> None:
    staying = asyncio.ensure_future(client.pull("smollm2:135m", stream_id="stays"))
    leaves = PullRequest(stream_id="leaves", model="smollm2:135m")
    await client.ask(StoreVerb.PULL, leaves, Accepted)
    await client.ask(StoreVerb.CANCEL, StreamCancel(stream_id="leaves"), Accepted)

    assert (await staying)[-1].status == "success"


async def test_a_cancelled_pull_stops_and_leaves_no_litter(client: Any) -> None:
    pull = PullRequest(stream_id="one", model="smollm2:135m")
    await client.ask(StoreVerb.PULL, pull, Accepted)
    await client.ask(StoreVerb.CANCEL, StreamCancel(stream_id="one"), Accepted)
    # The outcome is counted when the work has ended.
    counted = 'rkllama_store_pulls_total{outcome="cancelled"} 1.0'
    while counted not in (await client.http.get("/metrics")).text:
        pass

    assert client.incoming() == set()
    assert await tags(client) == []


async def test_a_cancel_of_nothing_is_fine(client: Any) -> None:
    await client.ask(StoreVerb.CANCEL, StreamCancel(stream_id="nothing"), Accepted)


async def test_a_pull_of_a_name_that_is_only_here_finds_it_whole(client: Any) -> None:
    await client.pull("smollm2:135m")
    await client.create("mine", base="smollm2:135m", system="Be brief.")
    before = await resolve(client, "mine")
    records = await client.pull("mine")

    layers = {record.digest for record in records if record.digest}
    assert records[-1].status == "success"
    assert {layer.digest for layer in before.layers} <= layers
    assert all(record.completed == record.total for record in records if record.digest)
    assert await resolve(client, "mine") == before


async def test_an_unknown_model_is_not_in_the_registry(client: Any) -> None:
    records = await client.pull("nope")

    assert [record.status for record in records] == ["pulling manifest", ""]
    assert (
        records[-1].error.code,
        records[-1].error.message,
    ) == ("upstream", "pull model manifest: file does not exist")


@pytest.mark.parametrize("model", ["", "a b", "x:", "../../etc/passwd", "a/../b:c"])
async def test_a_pull_of_no_name_is_refused_at_once(client: Any, model: str) -> None:
    with pytest.raises(InvalidJobError, match="invalid model name"):
        await client.pull(model)


async def test_a_model_from_a_gguf_file(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    records = await client.create("Tiny", files={"tiny.gguf": digest}, license=["MIT"])
    model = await resolve(client, "tiny")
    seen = statuses(records)

    assert ["parsing GGUF", f"using existing layer {digest}"] == seen[:2]
    assert seen[2].startswith("creating new layer sha256:")
    assert seen[-2:] == ["writing manifest", "success"]
    assert (
        model.name,
        model.details.format,
        model.details.quantization_level,
        model.details.context_length,
    ) == ("Tiny:latest", "gguf", "F32", 512)
    assert model.capabilities == ("completion", "thinking")
    assert model.license == ("MIT",)
    assert [layer.name for layer in model.layers if layer.digest == digest] == ["tiny.gguf"]


@pytest.mark.parametrize("name", ["Tiny.GGUF", "sha256-abc", "tiny.bin"])
async def test_a_gguf_file_is_known_by_its_first_bytes(client: Any, tiny: bytes, name: str) -> None:
    """Ollama's command line uploads what FROM names under the name it has."""
    records = await client.create("tiny", files={name: await client.upload(tiny)})

    assert statuses(records)[0] == "parsing GGUF"
    assert (await resolve(client, "tiny")).details.format == "gguf"


async def test_given_files_are_taken_instead_of_rebuilt_ones(client: Any, tiny: bytes) -> None:
    weights = await client.upload(tiny)
    mine = await client.upload(b'{"mine": 1}')
    files = {"a/tiny.gguf": weights, "a/tokenizer.json": mine, "a/tokenizer_config.json": mine}
    await client.create("tiny", files=files)
    model = await resolve(client, "tiny")
    found = {layer.name: layer.digest for layer in model.layers if layer.name}

    assert (mine, mine) == (found["tokenizer.json"], found["tokenizer_config.json"])
    # Its own config has no template, so the weights' is kept beside it.
    assert "chat_template.jinja" in found
    assert model.capabilities == ("completion", "thinking")


async def test_show_has_the_facts(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("tiny", files={"tiny.gguf": digest})
    shown = await client.ask(StoreVerb.SHOW, ShowRequest(model="tiny"), ShowReply)

    assert (
        shown.model_info["general.parameter_count"],
        shown.model_info["llama.context_length"],
        shown.model_info["tokenizer.ggml.tokens"],
    ) == (1040, 512, None)
    # GGUF names the fastest dimension first.
    assert shown.tensors == ({"name": "output.weight", "type": "F32", "shape": [260, 4]},)
    assert "general.name" not in shown.model_info


async def test_an_rkllm_model_with_its_files(client: Any) -> None:
    config = {"model_type": "qwen2", "max_position_embeddings": 4096}
    files = {
        "Qwen-rk3588-w8a8.rkllm": await client.upload(b"rkllm weights"),
        "tokenizer.json": await client.upload(b"{}"),
        "config.json": await client.upload(json.dumps(config).encode()),
        "chat_template.jinja": await client.upload(b"{{ tools }}"),
    }
    await client.create("qwen", files=files)
    model = await resolve(client, "qwen")

    assert (
        model.details.format,
        model.details.family,
        model.details.context_length,
        model.details.parameter_size,
    ) == ("rkllm", "qwen2", 4096, "")
    assert model.capabilities == ("completion", "tools")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"m.gguf": "sha256:12"}, "invalid digest format"),
        ({"m.gguf": "sha256:" + "0" * 64}, "open sha256-000.*no such file or directory"),
        ({"m.gguf": "HELLO"}, "not a GGUF file"),
        ({"m.rkllm": "HELLO"}, "needs the tokenizer.json"),
        ({"m.gguf": "HELLO", "n.gguf": "HELLO"}, "one file of weights"),
        ({"m.rkllm": "HELLO", "tokenizer.json": "HELLO", "config.json": "HELLO"}, "is not JSON"),
    ],
)
async def test_files_that_make_no_model_end_the_stream(
    client: Any, files: dict[str, str], text: str
) -> None:
    hello = await client.upload(b"hello")
    given = {name: hello if digest == "HELLO" else digest for name, digest in files.items()}
    records = await client.create("m", files=given)

    assert records[0].status.startswith("parsing ")
    assert re.search(text, records[-1].error.message)


async def test_a_part_of_several_files_makes_no_model(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint16(gguf.Keys.Split.LLM_KV_SPLIT_COUNT, 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    records = await client.create("m", files={path.name: await client.upload(path.read_bytes())})

    assert "is one of 3 parts: join them" in records[-1].error.message


async def test_a_model_from_another_one(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create(
        "base", files={"t.gguf": digest}, parameters={"top_k": 1, "stop": ["a", "b"]}, system="old"
    )
    records = await client.create(
        "child",
        base="BASE",
        system="new",
        template="{{ tools }}{{ messages }}",
        license=["MIT"],
        parameters={"stop": ["c"]},
        messages=[{"role": "user", "content": "hi"}],
    )
    child = await resolve(client, "child")

    assert f"using existing layer {digest}" in statuses(records)
    assert (
        child.details.parent_model,
        child.details.quantization_level,
    ) == ("base:latest", "F32")
    assert (
        child.system,
        child.parameters,
        child.license,
    ) == ("new", {"top_k": 1, "stop": ["c"]}, ("MIT",))
    assert child.capabilities == ("completion", "tools")
    assert child.messages[0].content == "hi"


async def test_the_level_a_model_requires_is_kept_and_inherited(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("plain", files={"t.gguf": digest})
    await client.create("base", base="plain", requires="0.14.0")
    await client.create("child", base="base")
    await client.create("other", base="base", requires="0.15.1")

    assert [
        (await resolve(client, name)).requires for name in ("plain", "base", "child", "other")
    ] == [
        "",
        "0.14.0",
        "0.14.0",
        "0.15.1",
    ]


async def test_an_adapter_becomes_a_layer_with_its_name(
    client: Any, tiny: bytes, tiny_lora: bytes
) -> None:
    weights, lora = await client.upload(tiny), await client.upload(tiny_lora)
    await client.create("base", files={"t.gguf": weights})
    records = await client.create("tuned", base="base", adapters={"a/lora.gguf": lora})
    await client.create("twice", base="tuned", adapters={"other.gguf": lora})
    kind = "application/vnd.ollama.image.adapter"

    assert statuses(records)[0] == "parsing GGUF" or "using existing layer" in records[0].status
    for model, name in (("tuned", "lora.gguf"), ("twice", "other.gguf")):
        found = (await resolve(client, model)).layers
        assert [(each.name, each.digest) for each in found if each.media_type == kind] == [
            (name, lora)
        ]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t.gguf", "LORA", "t.gguf is given twice"),
        ("x.gguf", "TINY", "x.gguf is no LoRA adapter"),
        ("x.gguf", "JUNK", "not a GGUF file"),
        ("x.rkllm", "JUNK", "does not fit a model of format gguf"),
        ("x.gguf", "sha256:" + "0" * 64, "no such file or directory"),
        ("x.gguf", "nonsense", "invalid digest format"),
    ],
)
async def test_an_adapter_that_does_not_fit_ends_the_stream(
    client: Any, tiny: bytes, tiny_lora: bytes, name: str, content: str, text: str
) -> None:
    uploads = {"TINY": tiny, "LORA": tiny_lora, "JUNK": b"junk"}
    digests = {key: await client.upload(data) for key, data in uploads.items()}
    await client.create("base", files={"t.gguf": digests["TINY"]})
    adapters = {name: digests.get(content, content)}
    records = await client.create("tuned", base="base", adapters=adapters)

    assert text in records[-1].error.message


async def test_quantising_ends_the_stream(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    records = await client.create("m", files={"t.gguf": digest}, quantize="q4_k_m")

    assert "this server cannot make Q4_K_M of F32" in records[-1].error.message
    assert (await client.create("m", files={"t.gguf": digest}, quantize="f32"))[-1].error is None


async def test_a_go_template_of_a_known_family_becomes_its_twin(client: Any, tiny: bytes) -> None:
    go = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    await client.create("m", files={"t.gguf": await client.upload(tiny)}, template=go)
    model = await resolve(client, "m")

    assert model.template == template_twins.CHATML
    assert model.capabilities == ("completion",)


async def test_a_delete_during_a_create_frees_all_in_the_end(client: Any, tiny: bytes) -> None:
    """What the create had while its base went is in nobody's manifest when the create fails."""
    await client.create("base", files={"t.gguf": await client.upload(tiny)})
    await client.create("child", base="base", system="s")
    creating = asyncio.ensure_future(client.create("x", base="child", quantize="q8_0"))
    await client.ask(StoreVerb.DELETE, DeleteRequest(model="base"), Accepted)
    await client.ask(StoreVerb.DELETE, DeleteRequest(model="child"), Accepted)
    await creating
    while client.blob_files():
        await tags(client)

    assert await tags(client) == []


async def test_a_base_that_is_not_here_is_pulled(client: Any) -> None:
    records = await client.create("mine", base="smollm2:135m", system="Be brief.")

    assert records[0].status == "pulling manifest"
    assert {"mine:latest", "smollm2:135m"} == set(await tags(client))


async def test_a_base_that_is_nowhere_ends_with_the_pulls_error(client: Any) -> None:
    records = await client.create("mine", base="nope")

    assert records[0].status == "pulling manifest"
    assert records[-1].error.message == "pull model manifest: file does not exist"


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({}, InvalidJobError),
        ({"files": {"m.bin": "sha256:" + "0" * 64}}, InvalidJobError),
        ({"base": "x", "template": "{{ range .Tools }} now{{ end }}"}, UnsupportedError),
    ],
)
async def test_a_bad_create_is_refused_at_once(
    client: Any, what: dict[str, object], kind: type[RkllamaError]
) -> None:
    with pytest.raises(kind):
        await client.create("m", **what)


async def test_copy_delete_and_what_is_said_about_it(client: Any, tiny: bytes) -> None:
    digest = await client.upload(tiny)
    await client.create("a", files={"t.gguf": digest})
    await client.ask(StoreVerb.COPY, CopyRequest(source="A", destination="b"), Accepted)
    await client.ask(StoreVerb.DELETE, DeleteRequest(model="a"), Accepted)
    left = await tags(client)
    await client.ask(StoreVerb.DELETE, DeleteRequest(model="B"), Accepted)

    assert left == ["b:latest"]
    assert set() == client.blob_files()
    assert [(verb, change.name) for verb, change in client.events] == [
        ("created", "a:latest"),
        ("created", "b:latest"),
        ("deleted", "a:latest"),
        ("deleted", "b:latest"),
    ]


@pytest.mark.parametrize(
    ("verb", "request_", "kind", "text"),
    [
        (StoreVerb.DELETE, DeleteRequest(model="a b"), InvalidJobError, 'name "a b" is invalid'),
        (StoreVerb.DELETE, DeleteRequest(model="no"), ModelNotFoundError, "model 'no' not found"),
        (
            StoreVerb.COPY,
            CopyRequest(source="a b", destination="c"),
            InvalidJobError,
            'source "a b" is invalid',
        ),
        (
            StoreVerb.COPY,
            CopyRequest(source="c", destination="a b"),
            InvalidJobError,
            'destination "a b" is invalid',
        ),
        (
            StoreVerb.COPY,
            CopyRequest(source="no", destination="c"),
            ModelNotFoundError,
            'model "no" not found',
        ),
        (
            StoreVerb.SHOW,
            ShowRequest(model="no"),
            ModelNotFoundError,
            "model 'no:latest' not found",
        ),
        (StoreVerb.RESOLVE, ResolveRequest(model="x:"), InvalidJobError, "invalid model name"),
    ],
)
async def test_refusals(
    client: Any, verb: StoreVerb, request_: Any, kind: type[RkllamaError], text: str
) -> None:
    with pytest.raises(kind) as refused:
        await client.ask(verb, request_, Accepted)

    assert text == refused.value.message


async def test_the_beat_says_where_blobs_are(client: Any) -> None:
    beat = client.beats[-1]

    assert (beat.store_id, beat.ready) == ("store", True)
    assert str(client.http.base_url).rstrip("/") == beat.http_url


async def test_the_template_in_a_models_files_is_shown(client: Any, tiny: bytes) -> None:
    """One of its own stands in its place, and is not told twice."""
    await client.create("tiny", files={"tiny.gguf": await client.upload(tiny)})
    await client.create("own", base="tiny", template="{{ messages }}")
    files = await client.ask(StoreVerb.SHOW, ShowRequest(model="tiny"), ShowReply)
    own = await client.ask(StoreVerb.SHOW, ShowRequest(model="own"), ShowReply)

    assert (files.model.template, own.model.template) == ("", "{{ messages }}")
    assert "<think>" in files.template
    assert own.template == ""
