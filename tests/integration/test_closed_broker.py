"""The broker as an installation has it: each process has its own user, and is held to its own part."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from rkllama_protocol.access import Access, BrokerRefusedError, Credentials
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import UnreachableError
from rkllama_protocol.subjects import GatewayVerb, ModelEvent, StoreVerb, Subjects, WorkerVerb
from rkllama_service.broker_access import connect
from rkllama_service.broker_config import Tls
from rkllama_service.process import SetupError
from rkllama_service.settings import Shared

from tests.broker import Broker

S = Subjects()
DIGEST = "ab" * 8
SECRET = b"what nobody else may read"
PROCESSES = [
    ("gateway", "gateway"),
    ("store", "store"),
    ("worker", "worker-1"),
    ("worker", "worker-2"),
]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that lets in the four processes, and the tester."""
    own = Broker(tmp_path_factory.mktemp("closed"))
    own.close_to_others(PROCESSES)  # type: ignore[arg-type]
    own.start()
    yield own
    own.stop()


class Rogue:
    """A client of its own making with stolen credentials, which speaks NATS by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def of(cls, broker: Broker, user: str) -> AsyncIterator[Rogue]:
        known = broker.access(user).credentials
        assert known is not None
        hello = {"user": user, "pass": known.password.get_secret_value(), "verbose": False}
        port = int(broker.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        rogue = cls(reader, writer)
        await reader.readline()
        answer = await rogue.send(f"CONNECT {json.dumps(hello)}")
        assert answer == []
        yield rogue
        writer.close()
        await writer.wait_closed()

    async def send(self, *lines: str) -> list[str]:
        """Send lines; what the server said to them."""
        self._writer.write("".join(f"{line}\r\n" for line in (*lines, "PING")).encode())
        said = []
        while (line := (await self._reader.readline()).decode()) != "PONG\r\n":
            assert line, "the server closed the connection"
            said.append(line)
        return said

    async def says(self, subject: str) -> bool:
        """Whether it could publish there."""
        return not _refused(await self.send(f"PUB {subject} 2", "{}"))

    async def hears(self, subject: str) -> bool:
        """Whether it could listen there."""
        return not _refused(await self.send(f"SUB {subject} 1", "UNSUB 1"))


def _refused(said: list[str]) -> bool:
    return any("Permissions Violation" in line for line in said)


STOLEN_SAYS = [
    "rkllama.offers.interactive.abababababababab",
    "rkllama.offers.resume.abababababababab",
    S.taken,
    *(S.worker("worker-2", verb) for verb in WorkerVerb),
    *(S.worker("worker-1", verb) for verb in WorkerVerb),
    *(S.store(verb) for verb in StoreVerb),
    *(S.event(event) for event in ModelEvent),
    *(S.gateway("gw1", "worker-2", verb) for verb in GatewayVerb),
    S.reply("gw1", "worker-2", "job", 1),
    S.beat("worker", "worker-2"),
    S.beat("gateway", "gw1"),
    S.beat("store", "store"),
    S.progress("stream"),
    "_INBOX.gateway.x.y",
    "_INBOX.worker-2.x.y",
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.CREATE.S",
    "anything",
]
STOLEN_HEARS = [
    ">",
    "rkllama.>",
    "_INBOX.>",
    "_INBOX.gateway.>",
    "_INBOX.worker-2.>",
    S.replies("gw1"),
    S.replies("gw1", "worker-1"),
    "rkllama.reply.>",
    *(S.gateway("*", "*", verb) for verb in GatewayVerb),
    *(S.worker("worker-2", verb) for verb in WorkerVerb),
    "rkllama.worker.*.cancel",
    *(S.store(verb) for verb in StoreVerb),
    S.events,
    S.progress("*"),
    S.beats("gateway"),
    "$SYS.>",
]


async def test_a_workers_credentials_open_nothing_but_its_own_part(closed: Broker) -> None:
    async with Rogue.of(closed, "worker-1") as rogue:
        said = [subject for subject in STOLEN_SAYS if await rogue.says(subject)]
        heard = [subject for subject in STOLEN_HEARS if await rogue.hears(subject)]
        own_part = await rogue.says(S.beat("worker", "worker-1")), await rogue.hears(S.offers)

    assert (said, heard) == ([], [])
    assert own_part == (True, True)


@pytest.mark.parametrize(
    ("user", "says", "hears"),
    [
        (
            "gateway",
            [
                S.beat("worker", "worker-1"),
                S.beat("store", "store"),
                S.reply("gw1", "worker-1", "job", 1),
                S.gateway("gw1", "worker-1", GatewayVerb.CLAIM),
                S.event(ModelEvent.DELETED),
                S.progress("stream"),
                "_INBOX.worker-1.x",
            ],
            [S.offers, S.taken, S.worker("worker-1", WorkerVerb.CANCEL), S.store(StoreVerb.PULL)],
        ),
        (
            "store",
            [
                S.beat("worker", "worker-1"),
                S.taken,
                S.store(StoreVerb.DELETE),
                S.worker("worker-1", WorkerVerb.DRAIN),
                S.gateway("gw1", "worker-1", GatewayVerb.BODY),
                "_INBOX.gateway.x",
            ],
            [S.offers, S.replies("gw1"), S.beats("worker"), S.progress("*"), "_INBOX.gateway.>"],
        ),
    ],
)
async def test_nor_do_a_gateways_and_a_stores(
    closed: Broker, user: str, says: list[str], hears: list[str]
) -> None:
    async with Rogue.of(closed, user) as rogue:
        said = [subject for subject in says if await rogue.says(subject)]
        heard = [subject for subject in hears if await rogue.hears(subject)]

    assert (said, heard) == ([], [])


async def test_an_answer_reaches_who_asked_and_nobody_else(closed: Broker) -> None:
    """A grant, with the prompt in it, travels in an inbox; a request may be answered once."""
    listening = ("_INBOX.>", "_INBOX.worker-1.>", "rkllama.gateway.>", "rkllama.reply.>")
    async with Rogue.of(closed, "worker-2") as rogue, asyncio.TaskGroup() as tasks:
        await rogue.send(*(f"SUB {subject} {sid}" for sid, subject in enumerate(listening)))
        gateway = await Bus.connect(
            closed.url, name="g", tasks=tasks, access=closed.access("gateway")
        )
        worker = await Bus.connect(
            closed.url, name="w", tasks=tasks, access=closed.access("worker-1")
        )
        async with gateway, worker:
            await gateway.answer(S.gateway("gw1", "*", GatewayVerb.CLAIM), lambda *_: SECRET)
            await gateway.flush()
            asked = S.gateway("gw1", "worker-1", GatewayVerb.CLAIM)
            answer = await worker.request(asked, b"", timeout_s=5)
        overheard = await rogue.send()

    assert answer == SECRET
    assert overheard == []


async def test_a_request_that_is_forbidden_says_so(
    closed: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.TaskGroup() as tasks:
        worker = await Bus.connect(
            closed.url, name="w", tasks=tasks, access=closed.access("worker-1")
        )
        async with worker:
            with (
                caplog.at_level(logging.ERROR),
                pytest.raises(
                    UnreachableError, match=r"forbids this process rkllama\.store\.delete"
                ),
            ):
                await worker.request(S.store(StoreVerb.DELETE), b"", timeout_s=1)

    assert "broker forbids" in caplog.text


@pytest.mark.parametrize("access", [Access(), None])
async def test_who_has_no_user_or_the_wrong_password_is_told_at_once(
    closed: Broker, access: Access | None
) -> None:
    wrong = Credentials.model_validate({"user": "worker-1", "password": "guessed"})
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(BrokerRefusedError, match="Authorization Violation"):
            await Bus.connect(
                closed.url, name="x", tasks=tasks, access=access or Access(credentials=wrong)
            )


async def test_another_processs_credentials_are_refused_by_name(closed: Broker) -> None:
    shared = Shared(nats_url=closed.url, nats_credentials_file=closed.users / "worker-1.json")
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(SetupError, match="is for the worker worker-1, not for the worker w2"):
            await connect(shared, role="worker", process_id="w2", tasks=tasks)
        with pytest.raises(SetupError, match="not for the gateway"):
            await connect(shared, role="gateway", tasks=tasks)


async def test_a_user_that_is_taken_away_ends_its_process_visibly(tmp_path: Path) -> None:
    own = Broker(tmp_path)
    own.close_to_others([("worker", "w1")])
    own.start()
    access = own.access("w1")

    async def work() -> None:
        async with (
            asyncio.TaskGroup() as tasks,
            await Bus.connect(own.url, name="w", tasks=tasks, access=access),
        ):
            (own.users / "w1.json").unlink()
            own.close_to_others([("store", "s")])
            own.reload()
            await asyncio.Event().wait()

    try:
        with pytest.raises(ExceptionGroup) as caught:
            await work()
    finally:
        own.stop()

    assert caught.group_contains(BrokerRefusedError)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Who signs certificates in one test."""
    found = trustme.CA()
    found.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("server", "client"):
        issued = found.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")
    return found


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize("mutual", [False, True])
async def test_with_tls_both_ends_are_who_they_say(tmp_path: Path, *, mutual: bool) -> None:
    pem = tmp_path / "server.pem"
    own = Broker(tmp_path)
    ca = tmp_path / "ca.pem" if mutual else None
    own.close_to_others([("worker", "w1")], tls=Tls(cert=pem, key=pem, ca=ca))
    own.start()
    base = Shared(
        nats_url=own.url,
        nats_credentials_file=own.users / "w1.json",
        nats_tls_ca_file=tmp_path / "ca.pem",
    )
    client = tmp_path / "client.pem"
    with_cert = base.model_copy(update={"nats_tls_cert_file": client, "nats_tls_key_file": client})
    foreign = base.model_copy(update={"nats_tls_ca_file": tmp_path / "other-ca.pem"})
    try:
        async with asyncio.TaskGroup() as tasks:
            bus = await connect(
                with_cert if mutual else base, role="worker", process_id="w1", tasks=tasks
            )
            async with bus:
                await bus.subscribe(S.offers, lambda *_: None)
                await bus.flush()
                connected = bus.connected
            with pytest.raises(SetupError, match=r"(?i)certificate"):
                await connect(foreign, role="worker", process_id="w1", tasks=tasks)
    finally:
        own.stop()

    assert connected
