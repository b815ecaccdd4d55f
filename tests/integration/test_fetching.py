"""Workers on machines of their own: what they lack comes from the store, over a line that may break."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import WorkerBeat
from rkllama_protocol.subjects import Subjects

from tests.broker import TESTER
from tests.integration.conftest import MODEL
from tests.link import Link
from tests.stack import Stack, prepared, wait_until

pytestmark = pytest.mark.boards

MIB = 2**20
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Say hello."}],
    "options": {"num_predict": 5, "temperature": 0},
    "stream": False,
}
HELD = 40 * MIB
"""Where a test holds the line: in the middle of the weights."""
SLACK_BYTES = MIB
"""For headers, and what a broken connection still took."""
BEATS = 5
"""A second apart: longer than a lease lasts."""


@contextmanager
def apart(models: Path, folder: Path, *, workers: int = 1) -> Iterator[tuple[Stack, Link]]:
    """A stack whose workers share no folder with the store, and the line to it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Link(lambda: f"http://127.0.0.1:{port}") as link:
        env = {"RKLLAMA_STORE_HTTP_PORT": str(port), "RKLLAMA_STORE_ADVERTISE_URL": link.url}
        stack = Stack(prepared(models, folder), workers=workers, apart=True, env=env)
        with stack:
            yield stack, link


@pytest.fixture
def asking() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def chat(stack: Stack, **changes: object) -> httpx2.Response:
    return httpx2.post(f"{stack.url}/api/chat", json=CHAT | changes, timeout=None, trust_env=False)


def held(asking: ThreadPoolExecutor, stack: Stack, link: Link) -> Future[httpx2.Response]:
    """A request whose board waits in the middle of its fetch."""
    link.hold(HELD)
    answer = asking.submit(chat, stack)
    wait_until("the middle of the fetch", link.held.is_set)
    return answer


def size_of(models: Path) -> int:
    """Bytes of the store's blobs; all but a few thousand are of files that a board has to have."""
    return sum(path.stat().st_size for path in (models / "blobs").iterdir())


def cached(stack: Stack, number: int = 1) -> dict[str, int]:
    """The files in a worker's cache, by name."""
    cache = stack.board(number) / "cache" / f"worker-{number}"
    return {p.name: p.stat().st_size for p in cache.glob("*/*") if p.is_file()}


def ps(stack: Stack) -> list[str]:
    answer = httpx2.get(f"{stack.url}/api/ps", trust_env=False)
    return [model["name"] for model in answer.json()["models"]]


async def beats(stack: Stack, count: int) -> list[WorkerBeat]:
    """The next beats of the first worker."""
    heard: asyncio.Queue[WorkerBeat] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        bus = await Bus.connect(stack.broker.url, name="test", tasks=tasks, access=TESTER)
        async with bus:
            await bus.subscribe(
                Subjects("rkllama").beat("worker", "worker-1"),
                lambda _, data: heard.put_nowait(codec.decode(WorkerBeat, data)),
            )
            return [await heard.get() for _ in range(count)]


def test_a_board_fetches_what_it_lacks_once_and_keeps_it(
    models: Path, tmp_path: Path, asking: ThreadPoolExecutor
) -> None:
    with apart(models, tmp_path) as (stack, link):
        first, second = asking.submit(chat, stack), asking.submit(chat, stack)
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        carried = link.carried
        stack.kill("worker-1")
        stack.start_worker(1)
        again = chat(stack)
        counted = stack.metric(stack.worker_url(), "rkllama_worker_fetched_bytes_total")

    assert abs(carried - size_of(models)) < SLACK_BYTES
    assert again.status_code == 200
    assert (link.carried, counted) == (carried, 0)
    assert not any(name.endswith(".part") for name in cached(stack))


def test_a_fetch_may_take_longer_than_a_lease_and_is_told_truthfully(
    models: Path, tmp_path: Path, asking: ThreadPoolExecutor
) -> None:
    with apart(models, tmp_path) as (stack, link):
        answer = held(asking, stack, link)
        heard = asyncio.run(beats(stack, BEATS))
        shown = ps(stack)
        link.release()

        assert answer.result().status_code == 200
        log = stack.log("gateway").read_text()

    assert shown == [MODEL]
    assert {next(model.state for model in beat.models) for beat in heard} == {"loading"}
    left = [beat.running.left_s for beat in heard if beat.running]
    missing_s = (size_of(models) - HELD) / 30e6
    assert len(left) == BEATS
    assert min(left) > missing_s
    assert log.count('"job granted"') == 1


def test_a_worker_killed_in_mid_fetch_goes_on_where_it_was(
    models: Path, tmp_path: Path, asking: ThreadPoolExecutor
) -> None:
    with apart(models, tmp_path) as (stack, link):
        answer = held(asking, stack, link)
        stack.kill("worker-1")
        left = cached(stack)
        link.release()
        carried = link.carried
        stack.start_worker(1)

        assert answer.result().status_code == 200

    (part,) = (size for name, size in left.items() if name.endswith(".part"))
    assert part > HELD // 2
    assert abs(link.carried - carried - (size_of(models) - sum(left.values()))) < SLACK_BYTES


def test_a_store_that_restarts_in_mid_fetch_costs_a_pause(
    models: Path, tmp_path: Path, asking: ThreadPoolExecutor
) -> None:
    with apart(models, tmp_path) as (stack, link):
        answer = held(asking, stack, link)
        stack.kill("store")
        stack.start("store", "rkllama_store")
        link.release()

        assert answer.result().status_code == 200

    assert link.carried < size_of(models) + HELD // 2


def test_a_client_that_leaves_in_mid_fetch_frees_the_board_and_leaves_a_part(
    models: Path, tmp_path: Path
) -> None:
    with apart(models, tmp_path) as (stack, link):
        link.hold(HELD)
        address = httpx2.URL(stack.url)
        body = json.dumps(CHAT).encode()
        head = f"POST /api/chat HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection((address.host, address.port)) as client:
            client.sendall(head.encode() + body)
            wait_until("the middle of the fetch", link.held.is_set)
        wait_until("the board to be free", lambda: not ps(stack))
        left = cached(stack)
        link.release()
        again = chat(stack)

    assert next(name for name, size in left.items() if size > HELD // 2).endswith(".part")
    assert again.status_code == 200
    assert link.carried < size_of(models) + HELD // 2


def test_bytes_garbled_on_the_way_are_fetched_again(models: Path, tmp_path: Path) -> None:
    with apart(models, tmp_path) as (stack, link):
        link.garble(HELD)
        answer = chat(stack)

    assert answer.status_code == 200
    assert link.carried > size_of(models) + HELD


def test_bytes_garbled_twice_are_told_and_not_kept(models: Path, tmp_path: Path) -> None:
    with apart(models, tmp_path) as (stack, link):
        link.garble(HELD, HELD + size_of(models))
        answer = chat(stack)
        left = cached(stack)

    assert answer.status_code == 500
    assert "digest mismatch" in answer.json()["error"]
    assert max(left.values(), default=0) < HELD


def test_a_board_that_has_the_files_is_preferred_to_one_that_has_not(
    models: Path, tmp_path: Path
) -> None:
    """Loading costs both the same: only what has to be fetched tells them apart."""
    with apart(models, tmp_path, workers=2) as (stack, link):
        answers = [chat(stack, keep_alive=0)]
        carried = link.carried
        for _ in range(4):
            wait_until("the model to be unloaded", lambda: not ps(stack))
            answers.append(chat(stack, keep_alive=0))

    assert {answer.status_code for answer in answers} == {200}
    assert link.carried == carried
    assert not (cached(stack, 1) and cached(stack, 2))
