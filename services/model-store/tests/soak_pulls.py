"""Pulls by a real store process that is killed again and again, and of files larger than memory.

    python -m services.model-store.tests.soak_pulls [--kills 100] [--gigabytes 8] [--seed 1]

It says what it does while it does it, and ends with a verdict: exit code 0 and `soak: passed`, or
another code and `soak: FAILED`. `test_pull_process.py` does the same with less.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import (
    Accepted,
    Progress,
    PullRequest,
    ResolvedModel,
    ResolveRequest,
    StoreBeat,
)
from rkllama_protocol.subjects import StoreVerb, Subjects
from rkllama_store.manifests import parse

from tests.broker import Broker

from .hub_server import Content, Gate, HubServer, Repo, of_seed

MIB = 2**20
NAME = "hf.co/soak/model"
FILE = "Soak-3B-rk3588-w8a8.rkllm"
MEMORY_BYTES = 200 * 10**6
START_S = 30.0
STAGES = ("info", "small", "weights", "weights", "weights", "weights")


class StoreProcess:
    """One process of a store, ready."""

    def __init__(
        self, process: asyncio.subprocess.Process, bus: Bus, subjects: Subjects, timeout_s: float
    ) -> None:
        self._process = process
        self._bus = bus
        self._subjects = subjects
        self._timeout_s = timeout_s

    async def kill(self) -> None:
        """As a power cut does, but for the page cache."""
        self._process.kill()
        await self._process.wait()

    def peak_bytes(self) -> int:
        """The most memory it has ever had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    async def resolve(self, model: str) -> ResolvedModel:
        return await self._bus.ask(
            self._subjects.store(StoreVerb.RESOLVE),
            ResolveRequest(model=model),
            ResolvedModel,
            timeout_s=START_S,
        )

    async def pull(
        self,
        model: str,
        *,
        until: str = "",
        heard: Callable[[Progress], None] = lambda _: None,
    ) -> list[Progress]:
        """The records of a pull; to its end, or to the first with this status."""
        queue: asyncio.Queue[Progress] = asyncio.Queue()
        request = PullRequest(stream_id=os.urandom(8).hex(), model=model)
        subject = self._subjects.progress(request.stream_id)
        async with self._bus.subscribed(
            subject, lambda _, data: queue.put_nowait(codec.decode(Progress, data))
        ):
            await self._bus.ask(
                self._subjects.store(StoreVerb.PULL), request, Accepted, timeout_s=START_S
            )
            records: list[Progress] = []
            while not records or not (records[-1].done or records[-1].status == (until or None)):
                # Python 3.11's `wait_for` can lose a cancellation.
                async with asyncio.timeout(self._timeout_s):
                    records.append(await queue.get())
                heard(records[-1])
        return records


@asynccontextmanager
async def store_process(
    data: Path, bus: Bus, *, nats_url: str, prefix: str, hub: HubServer, timeout_s: float = 60.0
) -> AsyncIterator[StoreProcess]:
    """A store over `data`, from its being ready until it is told to stop, or was killed."""
    subjects = Subjects(prefix)
    ready = asyncio.Event()

    def on_beat(_: str, beat: bytes) -> None:
        if codec.decode(StoreBeat, beat).ready:
            ready.set()

    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("RKLLAMA_", "HF_"))
    }
    environment = own | {
        "RKLLAMA_DATA": str(data),
        "RKLLAMA_NATS_URL": nats_url,
        "RKLLAMA_PLATFORM": "rk3588",
        "RKLLAMA_STORE_BUNDLED": "no",
        "RKLLAMA_STORE_SUBJECT_PREFIX": prefix,
        "HF_ENDPOINT": hub.url,
    }
    async with bus.subscribed(subjects.beats("store"), on_beat):
        await bus.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rkllama_store",
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START_S):
                await ready.wait()
            yield StoreProcess(process, bus, subjects, timeout_s)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def kill_pulls(
    folder: Path,
    bus: Bus,
    *,
    nats_url: str,
    prefix: str,
    kills: int,
    seed: int,
    megabytes: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Kill a store so many times while it pulls one model, and look at what is left each time.

    The moments are drawn from `seed`; the last is when the manifest is about to be written. Then
    the pull is done once more, to its end. `say` is told of every kill.
    """
    draw = random.Random(seed)  # noqa: S311 - to be the same again
    incoming = folder / "models" / "incoming"
    async with HubServer().serving() as hub:
        weights = of_seed(seed, megabytes * MIB + 12_345)
        repo = _repo(hub, weights)
        part = incoming / f"{weights.sha256}.part"
        for number in range(1, kills + 1):
            if _size(part) > weights.size - MIB:
                # There would be no moment left in the middle of it.
                part.unlink()
            stage = "end" if number == kills else draw.choice(STAGES)
            async with store_process(
                folder, bus, nats_url=nats_url, prefix=prefix, hub=hub
            ) as store:
                # What writers that were killed left is gone again, but for the part.
                assert {path.name for path in incoming.iterdir()} <= {part.name}
                before = _size(part)
                hub.seen.clear()
                await _at(stage, store, hub, repo, part, before=before, draw=draw)
                await store.kill()
            _check_resumed(hub, before)
            _check_whole(folder / "models")
            kept = _size(part) / MIB
            say(f"kill {number} of {kills}, at {stage}: {kept:.1f} MiB kept of {megabytes}")
        async with store_process(folder, bus, nats_url=nats_url, prefix=prefix, hub=hub) as store:
            records = await store.pull(NAME)
            model = await store.resolve(NAME)
        assert records[-1].status == "success", records[-1]
        assert {layer.name for layer in model.layers if layer.name} == {
            FILE,
            "tokenizer.json",
            "config.json",
        }
        assert list(incoming.iterdir()) == []
        _check_whole(folder / "models")


async def pull_large(
    folder: Path,
    bus: Bus,
    *,
    nats_url: str,
    prefix: str,
    content: Content,
    timeout_s: float,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Pull a file of any size, with a break in the middle; the most memory that the store had, in bytes.

    `timeout_s` is for the time between two records; `say` is told of every tenth of the file.
    """
    tenths = iter(range(11))
    due = next(tenths)

    def heard(record: Progress) -> None:
        nonlocal due
        if record.total == content.size and (record.completed or 0) * 10 >= due * content.size:
            say(f"{record.status}: {(record.completed or 0) / 2**30:.1f} GiB of the file")
            due = next(tenths, 11)

    async with HubServer().serving() as hub:
        repo = _repo(hub, content)
        repo.files[FILE].faults.die_after.append(content.size // 2)
        async with store_process(
            folder, bus, nats_url=nats_url, prefix=prefix, hub=hub, timeout_s=timeout_s
        ) as store:
            records = await store.pull(NAME, heard=heard)
            peak = store.peak_bytes()
    assert records[-1].status == "success", records[-1]
    assert (folder / "models" / "blobs" / f"sha256-{content.sha256}").stat().st_size == content.size
    return peak


def _repo(hub: HubServer, weights: Content) -> Repo:
    repo = hub.repo("soak/model")
    repo.add(FILE, weights, lfs=True)
    repo.add("tokenizer.json", b"{}")
    repo.add("config.json", b'{"model_type": "qwen2"}')
    return repo


async def _at(
    stage: str,
    store: StoreProcess,
    hub: HubServer,
    repo: Repo,
    part: Path,
    *,
    before: int,
    draw: random.Random,
) -> None:
    """Come to the moment to kill in."""
    faults = repo.files[FILE].faults
    faults.gates.clear()
    if stage == "end":
        await store.pull(NAME, until="writing manifest")
        return
    gate = Gate()
    # So that ten kills, or a hundred, do not come to the end.
    left = repo.files[FILE].content.size - before
    stop = before + draw.randrange(1, max(2, left // 2))
    faults.gates.append((stop, gate))
    # Sockets hold megabytes: what the hub has sent need not be on the disk.
    written = draw.randrange(before, max(before, stop - MIB) + 1)

    async def weights() -> None:
        await gate.reached.wait()
        while _size(part) < written:  # noqa: ASYNC110 - a file tells nobody that it grows
            await asyncio.sleep(0)

    moment = {
        "info": lambda: hub.until("/api/models/"),
        "small": lambda: hub.until("tokenizer.json"),
        "weights": weights,
    }[stage]()
    pulling = asyncio.ensure_future(store.pull(NAME))
    reached = asyncio.ensure_future(moment)
    done, _ = await asyncio.wait({pulling, reached}, return_when=asyncio.FIRST_COMPLETED)
    for task in (pulling, reached):
        task.cancel()
    await asyncio.wait({pulling, reached})
    assert reached in done, pulling.result()[-1]


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_resumed(hub: HubServer, before: int) -> None:
    """Nothing that was there is asked for again."""
    asked = [one for one in hub.asked("bytes") if one.path.endswith(FILE)]
    for one in asked[:1]:
        assert one.headers.get("range", "bytes=0-") == f"bytes={before}-"


def _check_whole(root: Path) -> None:
    """Every blob has its digest, every manifest its blobs."""
    blobs = {path.name: path for path in (root / "blobs").iterdir()}
    for name, path in blobs.items():
        with path.open("rb") as file:
            assert name == f"sha256-{hashlib.file_digest(file, 'sha256').hexdigest()}"
    for path in (root / "manifests").glob("*/*/*/*"):
        needed = {digest.file_name for digest in parse(path.read_bytes()).digests()}
        assert needed <= blobs.keys()


async def soak(folder: Path, *, kills: int, gigabytes: int, seed: int) -> None:
    """All of it, in a folder that is removed afterwards."""
    broker = Broker(folder)
    broker.start()
    try:
        async with (
            asyncio.TaskGroup() as tasks,
            await Bus.connect(broker.url, name="soak", tasks=tasks) as bus,
        ):
            await kill_pulls(
                folder / "kills",
                bus,
                nats_url=broker.url,
                prefix="kills",
                kills=kills,
                seed=seed,
                megabytes=64,
                say=_say,
            )
            _say(f"{kills} kills: whole models and a part, nothing else")
            content = Content(size=gigabytes * 2**30, block=bytes(MIB))
            peak = await pull_large(
                folder / "large",
                bus,
                nats_url=broker.url,
                prefix="large",
                content=content,
                # A disk may take minutes to sync what it was given at once.
                timeout_s=600.0,
                say=_say,
            )
            _say(f"{gigabytes} GiB: {peak / 10**6:.0f} MB of memory at most")
            assert peak < MEMORY_BYTES, "too much memory"
    finally:
        broker.stop()


def _say(text: str) -> None:
    # At once: whoever looks at a log wants to know how far it is, and where it ended.
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _ended(number: int, _frame: object) -> None:
    raise SystemExit(f"soak: FAILED: ended by {signal.Signals(number).name}")


def main() -> int:
    """Read the command line, and give the verdict; 0 if all was as it should be."""
    parser = argparse.ArgumentParser(description="Pulls that are killed, and large ones.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--gigabytes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    # A session that is closed would end it without a word.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ended)
    with tempfile.TemporaryDirectory(prefix="rkllama-soak-") as name:
        folder = Path(name)
        needed, free = (given.gigabytes + 1) * 2**30, shutil.disk_usage(folder).free
        if free < needed:
            _say(f"soak: FAILED: {folder} has {free / 2**30:.1f} GiB free of {needed / 2**30:.0f}")
            return 1
        try:
            asyncio.run(soak(folder, kills=given.kills, gigabytes=given.gigabytes, seed=given.seed))
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the verdict
            traceback.print_exc()
            _say("soak: FAILED")
            return 1
    _say("soak: passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
