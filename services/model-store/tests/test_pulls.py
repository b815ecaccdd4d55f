"""Pulls from a hub: the whole store, the real `huggingface_hub` client, real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from huggingface_hub import HfApi, hf_hub_download
from pydantic import SecretStr
from rkllama_board import Soc
from rkllama_protocol.messages import (
    Accepted,
    DeleteRequest,
    Progress,
    PullRequest,
    ResolvedModel,
    ResolveRequest,
    StreamCancel,
    TagsReply,
    TagsRequest,
)
from rkllama_protocol.subjects import StoreVerb
from rkllama_store.settings import HubSettings

from .hub_server import TOKEN, Content, Gate, HubServer, Repo, of_seed

MIB = 2**20
FILE = "Qwen2.5-3B-Instruct-rk3588-w8a8-opt-1-hybrid-ratio-0.5.rkllm"
OTHER = "Qwen2.5-3B-Instruct-rk3576-w4a16.rkllm"
STEM = FILE.removesuffix(".rkllm")
WEIGHTS = of_seed(1, 3 * MIB + 11)
README = b"# words"
TOKENIZER = b'{"model": {"type": "BPE"}}'
CONFIG = b'{"model_type": "qwen2", "max_position_embeddings": 4096}'


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Retries do not wait."""
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        yield server


@pytest.fixture
def token() -> str:
    return ""


@pytest.fixture
def soc() -> Soc | None:
    return Soc.RK3588


@pytest.fixture
def hub_settings(hub: HubServer, token: str) -> HubSettings:
    return HubSettings(endpoint=hub.url, token=SecretStr(token), hub_offline=False)


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    """A model as people convert and publish them."""
    repo = hub.repo("someone/Qwen2.5-3B-rkllm")
    repo.add(FILE, WEIGHTS, lfs=True)
    repo.add(OTHER, of_seed(2, MIB), lfs=True)
    repo.add("tokenizer.json", TOKENIZER, lfs=True)
    repo.add("tokenizer_config.json", b'{"chat_template": "{{ messages }}{{ tools }}"}')
    repo.add("config.json", CONFIG)
    repo.add("README.md", README)
    return repo


ASKED = "hf.co/someone/Qwen2.5-3B-rkllm"


def error(records: list[Progress]) -> str:
    assert records[-1].error is not None
    return str(records[-1].error.message)


def parts(client: Any) -> dict[str, int]:
    """What there is of each file, so far."""
    return {path.name: path.stat().st_size for path in (client.root / "incoming").iterdir()}


async def resolve(client: Any, model: str) -> ResolvedModel:
    return await client.ask(StoreVerb.RESOLVE, ResolveRequest(model=model), ResolvedModel)


async def tags(client: Any) -> set[str]:
    reply = await client.ask(StoreVerb.TAGS, TagsRequest(), TagsReply)
    return {model.name for model in reply.models}


async def begin(client: Any, model: str, stream_id: str) -> None:
    await client.ask(StoreVerb.PULL, PullRequest(stream_id=stream_id, model=model), Accepted)


async def cancelled(client: Any, stream_id: str) -> None:
    """Cancel, and wait until the work has ended, which is when it is counted."""
    await client.ask(StoreVerb.CANCEL, StreamCancel(stream_id=stream_id), Accepted)
    while 'pulls_total{outcome="cancelled"} 0.0' in (await client.http.get("/metrics")).text:
        pass


async def fetched_bytes(client: Any) -> float:
    metrics = (await client.http.get("/metrics")).text
    return float(re.search(r"^rkllama_store_fetched_bytes_total (.*)$", metrics, re.M)[1])


# ------------------------------------------------------------------ the test hub itself


async def test_the_hub_is_one_for_the_real_client(
    hub: HubServer, repo: Repo, tmp_path: Path
) -> None:
    """What the tests below rest on: its own library downloads from it."""
    api = HfApi(endpoint=hub.url, token=False)
    tree = await asyncio.to_thread(lambda: list(api.list_repo_tree(repo.name)))
    got = await asyncio.to_thread(
        lambda: [
            Path(
                hf_hub_download(repo.name, name, endpoint=hub.url, cache_dir=tmp_path, token=False)
            )
            for name in (FILE, "config.json")
        ]
    )

    assert {entry.path for entry in tree} == set(repo.files)
    assert hashlib.sha256(got[0].read_bytes()).hexdigest() == WEIGHTS.sha256
    assert got[1].read_bytes() == CONFIG


# ------------------------------------------------------------------ what a pull gives


async def test_a_model_comes_with_all_it_needs(client: Any, hub: HubServer, repo: Repo) -> None:
    records = await client.pull(f"{ASKED}:{FILE}")
    model = await resolve(client, f"{ASKED}:{FILE}")
    seen = list(dict.fromkeys(record.status for record in records if record.status))

    assert records[-1].status == "success"
    assert seen[0] == "pulling manifest"
    assert f"pulling {WEIGHTS.sha256[:12]}" in seen
    assert seen[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert {layer.name for layer in model.layers if layer.name} == {
        FILE,
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
    }
    assert (model.details.format, model.details.family, model.details.context_length) == (
        "rkllm",
        "qwen2",
        4096,
    )
    assert model.capabilities == ("completion", "tools")
    assert client.incoming() == set()
    assert {one.path.split("/")[4] for one in hub.seen if "/resolve/" in one.path} == {repo.commit}


async def test_a_large_file_says_how_far_it_is(client: Any, repo: Repo) -> None:
    gate = Gate()
    repo.files[FILE].faults.gates.append((2 * MIB, gate))
    pulling = asyncio.ensure_future(client.pull(ASKED))
    await gate.reached.wait()
    gate.open.set()
    records = [record for record in await pulling if record.digest == f"sha256:{WEIGHTS.sha256}"]

    assert {record.total for record in records} == {WEIGHTS.size}
    assert records[-1].completed == WEIGHTS.size
    completed = [record.completed for record in records]
    assert completed == sorted(completed)


async def test_it_is_there_under_its_full_and_its_short_name(client: Any, repo: Repo) -> None:
    await client.pull(ASKED)
    files = client.blob_files()
    short = await resolve(client, "qwen2.5:3b")

    assert await tags(client) == {f"{ASKED}:latest", "qwen2.5:3b"}
    assert short.digest == (await resolve(client, ASKED)).digest
    assert len(files) == len(short.layers) + 1


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (f"someone/Qwen2.5-3B-rkllm/{FILE}", {f"{STEM}:latest", "qwen2.5:3b"}),
        (f"someone/Qwen2.5-3B-rkllm/{FILE}/mine", {"mine:latest"}),
        (f"{ASKED}:w8a8", {f"{ASKED}:w8a8", "qwen2.5:3b"}),
        (f"{ASKED}/blob/main/{FILE}", {f"{ASKED}:{FILE}", "qwen2.5:3b"}),
    ],
)
async def test_the_other_ways_to_ask(client: Any, repo: Repo, asked: str, names: set[str]) -> None:
    records = await client.pull(asked)

    assert records[-1].status == "success"
    assert await tags(client) == names


async def test_a_short_name_that_is_taken_grows(client: Any, hub: HubServer, repo: Repo) -> None:
    await client.pull(ASKED)
    other = hub.repo("other/q")
    other.add(FILE, of_seed(9, MIB), lfs=True)
    other.add("tokenizer.json", TOKENIZER)
    await client.pull("hf.co/other/q")
    await client.pull("hf.co/other/q")

    assert await tags(client) == {
        f"{ASKED}:latest",
        "qwen2.5:3b",
        "hf.co/other/q:latest",
        "qwen2.5:3b-w8a8",
    }


async def test_a_short_name_that_somebody_made_his_own_is_left_alone(
    client: Any, repo: Repo
) -> None:
    await client.pull(f"{ASKED}:{FILE}")
    await client.create("qwen2.5:3b", base="qwen2.5:3b", system="Be brief.")
    await client.pull(f"{ASKED}:{FILE}")

    assert (await resolve(client, "qwen2.5:3b")).system == "Be brief."
    assert "qwen2.5:3b-w8a8" in await tags(client)


async def test_a_pull_of_what_is_there_fetches_and_changes_nothing(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    await client.pull(ASKED)
    before = await resolve(client, ASKED)
    sent, events = hub.sent_bytes, len(client.events)
    records = await client.pull(ASKED)

    assert records[-1].status == "success"
    assert before == await resolve(client, ASKED)
    assert (hub.sent_bytes, len(client.events)) == (sent, events)


async def test_a_model_of_a_hub_can_be_a_base(client: Any, repo: Repo) -> None:
    records = await client.create("mine", base=f"{ASKED}:{FILE}", system="Be brief.")

    assert records[-1].status == "success"
    assert await tags(client) == {"mine:latest", f"{ASKED}:{FILE}", "qwen2.5:3b"}


async def test_a_gguf_file_needs_nothing_else(client: Any, hub: HubServer, tiny: bytes) -> None:
    repo = hub.repo("u/tiny-GGUF")
    repo.add("tiny-Q8_0.gguf", b"not this one", lfs=True)
    repo.add("tiny-Q4_K_M.gguf", tiny, lfs=True)
    await client.pull("hf.co/u/tiny-GGUF")
    model = await resolve(client, "hf.co/u/tiny-GGUF")

    assert (model.details.format, model.details.context_length) == ("gguf", 512)
    assert "tokenizer.json" in {layer.name for layer in model.layers}
    assert await tags(client) == {"hf.co/u/tiny-GGUF:latest"}


async def test_deleting_both_names_leaves_nothing(client: Any, repo: Repo) -> None:
    await client.pull(ASKED)
    for name in (ASKED, "qwen2.5:3b"):
        await client.ask(StoreVerb.DELETE, DeleteRequest(model=name), Accepted)

    assert client.blob_files() == set()


# ------------------------------------------------------------------ the tokenizer


async def test_the_tokenizer_comes_from_the_base_model(client: Any, hub: HubServer) -> None:
    hub.repo("u/middle", base_model=["Qwen/Qwen2.5-3B"])
    base = hub.repo("Qwen/Qwen2.5-3B")
    base.add("tokenizer.json", TOKENIZER)
    base.add("config.json", CONFIG)
    repo = hub.repo("u/converted", base_model="u/middle")
    repo.add("m-rk3588-3B.rkllm", WEIGHTS, lfs=True)
    repo.add("config.json", b'{"model_type": "own"}')
    await client.pull("hf.co/u/converted")
    model = await resolve(client, "hf.co/u/converted")

    assert {layer.name for layer in model.layers if layer.name} == {
        "m-rk3588-3B.rkllm",
        "tokenizer.json",
        "config.json",
    }
    assert model.details.family == "own"


@pytest.mark.parametrize(
    ("base_model", "text"),
    [
        (None, "there is no tokenizer.json in u/converted."),
        ("u/empty", "there is no tokenizer.json in u/converted, nor in u/empty."),
        ("u/loop", "there is no tokenizer.json in u/converted, nor in u/loop."),
        ("../etc", "there is no tokenizer.json in u/converted."),
        ("u/gone", "its base model cannot be asked for it: there is no u/gone"),
    ],
)
async def test_a_model_without_a_tokenizer_is_refused_before_its_weights_come(
    client: Any, hub: HubServer, base_model: str | None, text: str
) -> None:
    hub.repo("u/empty")
    hub.repo("u/loop", base_model="u/converted")
    hub.repo("u/converted", base_model=base_model).add("m-3B.rkllm", WEIGHTS, lfs=True)
    said = error(await client.pull("hf.co/u/converted"))

    assert text in said
    assert "HUGGINGFACE_PATH" in said
    assert hub.sent_bytes == 0


async def test_the_vision_encoder_comes_along(client: Any, repo: Repo) -> None:
    repo.add("vision-rk3588.rknn", of_seed(5, 1000), lfs=True)
    repo.add("vision-rk3576.rknn", of_seed(6, 1000), lfs=True)
    await client.pull(ASKED)
    kinds = {layer.name: layer.media_type for layer in (await resolve(client, ASKED)).layers}

    assert kinds["vision-rk3588.rknn"].endswith(".projector")
    assert "vision-rk3576.rknn" not in kinds


# ------------------------------------------------------------------ the chip


@pytest.mark.parametrize("soc", [Soc.RK3576], ids=str)
async def test_the_file_for_the_chip_is_taken(client: Any, repo: Repo) -> None:
    await client.pull(ASKED)

    assert OTHER in {layer.name for layer in (await resolve(client, ASKED)).layers}


async def test_the_wrong_chip_is_refused(client: Any, repo: Repo) -> None:
    said = error(await client.pull(f"{ASKED}:{OTHER}"))

    assert said == f"{OTHER} is for the rk3576; models here are for the rk3588"


@pytest.mark.parametrize("soc", [None], ids=str)
async def test_an_unknown_chip_has_to_be_told(client: Any, repo: Repo) -> None:
    assert "set RKLLAMA_PLATFORM" in error(await client.pull(ASKED))


# ------------------------------------------------------------------ broken lines


async def test_a_connection_that_breaks_is_gone_on_with(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    repo.files[FILE].faults.die_after.extend([1000, 2 * MIB, 1, 7])
    records = await client.pull(ASKED)
    ranges = [one.headers.get("range", "") for one in hub.asked("bytes") if one.path.endswith(FILE)]

    assert records[-1].status == "success"
    at = 2 * MIB + 1000
    assert ranges == ["", "bytes=1000-", f"bytes={at}-", f"bytes={at + 1}-", f"bytes={at + 8}-"]


async def test_a_server_that_cannot_go_on_begins_again(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    repo.files[FILE].faults.die_after.append(MIB)
    repo.files[FILE].faults.ranges = False
    records = await client.pull(ASKED)

    assert records[-1].status == "success"
    assert len(client.blob_files()) == 6


async def test_a_line_that_never_gets_better_is_given_up(client: Any, repo: Repo) -> None:
    repo.files[FILE].faults.die_after.extend([100] * 20)
    said = error(await client.pull(ASKED))

    assert "the connection to 127.0.0.1" in said
    assert len(parts(client)) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_hub_is_asked_again(client: Any, repo: Repo, status: int) -> None:
    repo.statuses.extend([(status, {}), (status, {"retry-after": "1"})])
    repo.files["config.json"].faults.statuses.append((status, {}))
    repo.files[FILE].faults.statuses.append((status, {"retry-after": "0"}))
    records = await client.pull(ASKED)

    assert records[-1].status == "success"


@pytest.mark.parametrize(
    ("status", "headers", "text"),
    [
        (429, {}, "asks to wait (429); with HF_TOKEN set it allows more"),
        (429, {"retry-after": "3600"}, "asks to wait for 3600 s (429)"),
        (503, {}, "has trouble of its own (503)"),
    ],
)
async def test_a_hub_that_stays_busy_is_told_about(
    client: Any, repo: Repo, status: int, headers: dict[str, str], text: str
) -> None:
    repo.statuses.extend([(status, headers)] * 9)

    assert text in error(await client.pull(ASKED))


async def test_cancelled_and_pulled_again_it_goes_on(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    gate = Gate()
    repo.files[FILE].faults.gates.append((2 * MIB, gate))
    await begin(client, ASKED, "one")
    await gate.reached.wait()
    small = sum(file.content.size for file in repo.files.values() if file.content.size < 1000)
    while await fetched_bytes(client) < 2 * MIB + small - len(README):
        pass
    await cancelled(client, "one")
    left = parts(client)
    sent = hub.sent_bytes
    records = await client.pull(ASKED)

    assert left == {f"{WEIGHTS.sha256}.part": 2 * MIB}
    assert records[-1].status == "success"
    assert hub.sent_bytes - sent == WEIGHTS.size - 2 * MIB
    assert client.incoming() == set()


async def test_a_part_with_a_hole_is_fetched_anew(client: Any, hub: HubServer, repo: Repo) -> None:
    """As a power cut can leave one."""
    part = client.root / "incoming" / f"{WEIGHTS.sha256}.part"
    part.write_bytes(WEIGHTS.read(0, MIB) + bytes(MIB))
    records = await client.pull(ASKED)

    assert records[-1].status == "success"
    assert (await resolve(client, ASKED)).details.format == "rkllm"


@pytest.mark.parametrize("extra", [0, 5])
async def test_a_part_as_long_as_the_file_is_checked_too(
    client: Any, repo: Repo, extra: int
) -> None:
    part = client.root / "incoming" / f"{WEIGHTS.sha256}.part"
    part.write_bytes(bytes(WEIGHTS.size + extra))
    records = await client.pull(ASKED)

    assert records[-1].status == "success"


# ------------------------------------------------------------------ sharing


async def test_two_models_with_one_file_fetch_it_once(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    twin = hub.repo("twin/q")
    gate = Gate()
    for name, file in repo.files.items():
        twin.files[name] = file
    repo.files[FILE].faults.gates.append((2 * MIB, gate))
    first = asyncio.ensure_future(client.pull(ASKED))
    await gate.reached.wait()
    second = asyncio.ensure_future(client.pull("hf.co/twin/q"))
    await hub.until("/twin/q/resolve")
    gate.open.set()
    ends = [(await pull)[-1].status for pull in (first, second)]
    fetched = [one for one in hub.asked("bytes") if one.path.endswith(FILE)]

    assert ends == ["success", "success"]
    assert len(fetched) == 1


async def test_a_fetch_goes_on_for_the_one_who_stays(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    gate = Gate()
    repo.files[FILE].faults.gates.append((2 * MIB, gate))
    await begin(client, f"someone/Qwen2.5-3B-rkllm/{FILE}/leaves", "leaves")
    await gate.reached.wait()
    staying = asyncio.ensure_future(client.pull(f"someone/Qwen2.5-3B-rkllm/{FILE}/stays"))
    await hub.until("tokenizer_config.json", times=2)
    await cancelled(client, "leaves")
    gate.open.set()

    assert (await staying)[-1].status == "success"
    assert await tags(client) == {"stays:latest"}


# ------------------------------------------------------------------ the disk


async def test_what_does_not_fit_is_refused_before_any_of_it_comes(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    repo.files[FILE].content = Content(size=10**17, block=b"0", sha256="a" * 64)
    sent = len(TOKENIZER)
    said = error(await client.pull(ASKED))

    whole = f"{FILE} in someone/Qwen2.5-3B-rkllm"
    assert said.startswith(f"no space left on device: {whole} needs 100000000.0 GB, and ")
    assert hub.sent_bytes == sent


# ------------------------------------------------------------------ lies


async def test_a_hub_that_lies_about_a_hash(client: Any, repo: Repo) -> None:
    repo.files[FILE].faults.sends = of_seed(77, WEIGHTS.size)
    said = error(await client.pull(ASKED))

    assert f"digest mismatch, expected sha256:{WEIGHTS.sha256}" in said
    assert client.incoming() == set()
    assert await tags(client) == set()


@pytest.mark.parametrize("size", [WEIGHTS.size - 1000, WEIGHTS.size + 1000])
async def test_a_hub_that_lies_about_a_size(client: Any, repo: Repo, size: int) -> None:
    repo.files[FILE].faults.sends = of_seed(1, size)
    said = error(await client.pull(ASKED))

    assert f"has {size} bytes, and the hub says {WEIGHTS.size}" in said
    assert client.incoming() == set()


async def test_a_file_that_became_shorter(client: Any, repo: Repo) -> None:
    repo.files[FILE].faults.sends = of_seed(1, MIB)
    repo.files[FILE].faults.ranges = True
    (client.root / "incoming" / f"{WEIGHTS.sha256}.part").write_bytes(WEIGHTS.read(0, 2 * MIB))

    assert "is shorter than the hub says" in error(await client.pull(ASKED))
    assert client.incoming() == set()


async def test_a_hub_that_lies_about_a_small_file(client: Any, repo: Repo) -> None:
    repo.files["config.json"].faults.sends = of_seed(3, len(CONFIG))

    assert "config.json in someone/Qwen2.5-3B-rkllm is not what" in error(await client.pull(ASKED))


async def test_an_answer_that_could_unpack_into_too_much_is_refused(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    hub.encoding = "gzip"

    assert "cannot be understood" in error(await client.pull(ASKED))


# ------------------------------------------------------------------ who may


@pytest.mark.parametrize("token", [TOKEN])
async def test_the_token_opens_private_and_gated_repositories_and_stays_at_home(
    client: Any, hub: HubServer, repo: Repo
) -> None:
    repo.private = repo.gated = True
    records = await client.pull(ASKED)

    assert records[-1].status == "success"
    assert {one.headers.get("authorization") for one in hub.asked("hub")} == {f"Bearer {TOKEN}"}
    assert [one for one in hub.asked("bytes") if "authorization" in one.headers] == []


@pytest.mark.parametrize(
    ("token", "what", "asked", "text"),
    [
        ("", {"private": True}, ASKED, "or it is private: then set HF_TOKEN"),
        ("", {}, "hf.co/no/body", "there is no no/body on 127.0.0.1"),
        (TOKEN, {}, "hf.co/no/body", "there is no no/body on 127.0.0.1"),
        ("hf_wrong", {}, ASKED, "does not accept HF_TOKEN"),
        ("", {"gated": True}, ASKED, "is gated: accept its conditions at http"),
        ("", {}, f"{ASKED}:nope.rkllm", "there is no nope.rkllm in someone/Qwen2.5-3B-rkllm"),
        ("", {}, "someone/Qwen2.5-3B-rkllm/nope.gguf", "there is no nope.gguf in"),
    ],
)
async def test_refusals_are_told_apart(
    client: Any, repo: Repo, what: dict[str, bool], asked: str, text: str
) -> None:
    for key, value in what.items():
        setattr(repo, key, value)

    assert text in error(await client.pull(asked))


@pytest.mark.parametrize("hub_settings", [HubSettings(endpoint="http://127.0.0.1:9")])
async def test_no_network_is_told_in_a_sentence(client: Any) -> None:
    said = error(await client.pull(ASKED))

    assert said.startswith("pull model manifest: 127.0.0.1:9 cannot be reached (")
    assert said.endswith("is this machine online? HF_ENDPOINT can name a mirror")


@pytest.mark.parametrize("hub_settings", [HubSettings(hub_offline=True)])
async def test_offline_by_choice_asks_nobody(client: Any) -> None:
    assert "HF_HUB_OFFLINE is set" in error(await client.pull(ASKED))
