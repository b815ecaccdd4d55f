"""The broker of the chart lets in whom it should, to what is theirs: compared with the code, and run."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from rkllama_protocol.access import Access, Credentials
from rkllama_protocol.bus import BrokerRefusedError, Bus
from rkllama_protocol.messages import StoreBeat
from rkllama_protocol.permissions import permissions
from rkllama_protocol.subjects import Subjects
from rkllama_service.broker_config import LIMITS

from tests.chart.installed import NATS_SERVER, broker
from tests.chart.rendering import CHART, Manifest, component, one, pods, render, secret


def config_of(manifests: list[Manifest]) -> dict[str, Any]:
    """The file that the servers read, which is JSON."""
    found = json.loads(secret(manifests, "-nats-server")["nats-server.conf"])
    assert isinstance(found, dict)
    return found


def credentials_of(manifests: list[Manifest]) -> dict[str, Credentials]:
    """What each user's pods come with, by the user's name."""
    texts = [
        m["stringData"]["credentials.json"]
        for m in manifests
        if m["kind"] == "Secret" and "credentials.json" in m.get("stringData", {})
    ]
    return {c.user: c for c in map(Credentials.model_validate_json, texts)}


@contextmanager
def three_servers(folder: Path, config: dict[str, Any]) -> Iterator[list[str]]:
    """Three real servers with this configuration; only the addresses they look for are others. Their URLs."""
    with ExitStack() as servers:
        alone = config | {"cluster": config["cluster"] | {"routes": []}}
        ports = [servers.enter_context(broker(folder / "nats-0", alone))]
        address = ports[0]["cluster"][0].rpartition("/")[2]
        routes = [re.sub("@.*", f"@{address}", route) for route in config["cluster"]["routes"]]
        joined = config | {"cluster": config["cluster"] | {"routes": routes[:1]}}
        others = (folder / "nats-1", folder / "nats-2")
        ports += [servers.enter_context(broker(place, joined)) for place in others]
        yield [each["nats"][0] for each in ports]


def test_the_configuration_is_what_the_code_says() -> None:
    """Limits and permissions of `python -m rkllama_service.broker init`, for the names of the chart."""
    manifests = render(values={"subjectPrefix": "home.rkllama"})
    config = config_of(manifests)
    found = {user["user"]: user["permissions"] for user in config["authorization"]["users"]}
    known = credentials_of(manifests)

    assert LIMITS.items() <= config.items()
    assert set(found) == set(known) == {"gateway", "store", "workers"}
    for name, one_of_them in known.items():
        assert one_of_them.role is not None
        expected = permissions(
            one_of_them.role, one_of_them.id, user=name, subjects=Subjects("home.rkllama")
        )
        assert found[name]["publish"]["allow"] == list(expected.publish), name
        assert found[name]["subscribe"]["allow"] == list(expected.subscribe), name


def test_boards_that_are_listed_have_a_user_and_a_secret_each() -> None:
    manifests = render("boards-by-name")
    known = credentials_of(manifests)
    found = {
        pod["spec"]["nodeSelector"]["kubernetes.io/hostname"]: next(
            v["secret"]["secretName"] for v in pod["spec"]["volumes"] if v["name"] == "nats"
        )
        for _, pod in pods(manifests)
        if component(pod) == "npu-worker"
    }

    assert {name: c.id for name, c in known.items() if c.role == "worker"} == {
        "board-1": "board-1",
        "board-2-lan": "board-2-lan",
    }
    assert found == {
        "board-1": "r-rkllama-nats-worker-board-1",
        "board-2.lan": "r-rkllama-nats-worker-board-2-lan",
    }
    assert json.loads(secret(manifests, "-nats-worker-board-2-lan")["credentials.json"])["id"] == (
        "board-2-lan"
    )


def test_passwords_are_new_for_every_user_and_installation() -> None:
    first, second = credentials_of(render()), credentials_of(render())
    passwords = [c.password.get_secret_value() for known in (first, second) for c in known.values()]

    assert len(set(passwords)) == len(passwords) == 6
    assert min(map(len, passwords)) == 40


async def test_a_real_server_lets_each_user_do_what_is_theirs(tmp_path: Path) -> None:
    manifests = render()
    known = credentials_of(manifests)
    beat = StoreBeat(store_id="store", ready=True, http_url="http://store")
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    with broker(tmp_path / "nats", config_of(manifests)) as ports:
        (url,) = ports["nats"]
        async with asyncio.TaskGroup() as tasks:
            buses = {
                name: await Bus.connect(url, name=name, tasks=tasks, access=Access(credentials=c))
                for name, c in known.items()
            }
            gateway, store, worker = buses["gateway"], buses["store"], buses["workers"]
            async with gateway, store, worker:
                subject = Subjects().beats("store")
                await gateway.subscribe(subject, lambda _, data: heard.put_nowait(data))
                await gateway.flush()
                # Not a worker's to say: it must not be what is heard first.
                lie = beat.model_copy(update={"http_url": "http://elsewhere"})
                await worker.say(Subjects().beat("store", "store"), lie)
                await worker.flush()
                await store.say(Subjects().beat("store", "store"), beat)
                await store.flush()
                async with asyncio.timeout(30):
                    first = await heard.get()

    assert StoreBeat.model_validate_json(first) == beat
    assert heard.empty()


async def test_nobody_else_gets_in(tmp_path: Path) -> None:
    with broker(tmp_path / "nats", config_of(render())) as ports:
        async with asyncio.TaskGroup() as tasks:
            with pytest.raises(BrokerRefusedError):
                await Bus.connect(ports["nats"][0], name="stranger", tasks=tasks)


@pytest.mark.parametrize("way", ["default", "three-nats-servers", "boards-by-name"])
def test_a_real_server_reads_the_file_as_it_is(
    way: str, installations: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    path = tmp_path / "nats.conf"
    path.write_text(secret(installations[way], "-nats-server")["nats-server.conf"])
    done = subprocess.run(
        [str(NATS_SERVER), "-t", "-c", str(path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", ["three-nats-servers", "nats-tls"])
async def test_three_real_servers_are_one_broker(
    way: str, installations: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    """What is said at one is heard at another, in clear and with certificates."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    (tmp_path / "tls.crt").write_bytes(b"".join(c.bytes() for c in certificate.cert_chain_pems))
    tls = ssl.create_default_context(cafile=tmp_path / "ca.crt") if way == "nats-tls" else None
    text = secret(installations[way], "-nats-server")["nats-server.conf"]
    config = json.loads(text.replace("/etc/nats-tls", str(tmp_path)))
    known = credentials_of(installations[way])
    beat = StoreBeat(store_id="store", ready=True, http_url="http://store")
    heard = asyncio.Event()
    with three_servers(tmp_path, config) as (first, _, third):
        async with asyncio.TaskGroup() as tasks:

            async def connect(url: str, name: str) -> Bus:
                access = Access(credentials=known[name], tls=tls)
                return await Bus.connect(url, name=name, tasks=tasks, access=access)

            async with (
                await connect(first, "gateway") as gateway,
                await connect(third, "store") as store,
            ):
                await gateway.subscribe(Subjects().beats("store"), lambda *_: heard.set())
                # Servers tell one another who listens in their own time.
                async with asyncio.timeout(60):
                    while not heard.is_set():
                        await store.say(Subjects().beat("store", "store"), beat)
                        await store.flush()

    assert heard.is_set()


def test_three_servers_know_one_another_by_the_names_of_their_pods(
    installations: dict[str, list[Manifest]],
) -> None:
    manifests = installations["three-nats-servers"]
    servers = one(manifests, "StatefulSet", "-nats")
    password = secret(manifests, "-nats-server")["route-password"]
    cluster = config_of(manifests)["cluster"]
    peers = servers["spec"]["serviceName"]

    assert cluster["routes"] == [
        f"nats://route:{password}@{servers['metadata']['name']}-{n}.{peers}.ai.svc:6222"
        for n in range(servers["spec"]["replicas"])
    ]
    assert cluster["authorization"]["password"] == password
    # Servers look for one another before they are ready.
    assert one(manifests, "Service", "-nats-peers")["spec"]["publishNotReadyAddresses"] is True


def test_nothing_is_stored_by_the_broker(installations: dict[str, list[Manifest]]) -> None:
    for way, manifests in installations.items():
        for manifest in manifests:
            if (
                manifest["metadata"]["name"] == "r-rkllama-nats"
                and manifest["kind"] == "StatefulSet"
            ):
                assert "volumeClaimTemplates" not in manifest["spec"], way
                if way not in {"existing-secrets"}:
                    assert "jetstream" not in config_of(manifests), way


def test_with_certificates_every_connection_is_encrypted(
    installations: dict[str, list[Manifest]],
) -> None:
    """Those of clients and those between servers are set apart in nats-server."""
    manifests = installations["nats-tls"]
    config = config_of(manifests)
    clients = [pod for _, pod in pods(manifests) if component(pod) not in {"nats", "test"}]

    assert config["tls"]["handshake_first"] is True
    assert config["cluster"]["tls"]["ca_file"] == "/etc/nats-tls/ca.crt"
    assert len(clients) == 3
    for pod in clients:
        (container,) = pod["spec"]["containers"]
        assert {"name": "RKLLAMA_NATS_TLS_CA_FILE", "value": "/etc/rkllama/nats-ca/ca.crt"} in (
            container["env"]
        )
        (volume,) = (v for v in pod["spec"]["volumes"] if v["name"] == "nats-ca")
        # The broker's own key is for the broker.
        assert [item["key"] for item in volume["secret"]["items"]] == ["ca.crt"]


def test_only_the_broker_reads_what_everybody_may(
    installations: dict[str, list[Manifest]],
) -> None:
    for way, manifests in installations.items():
        for name, pod in pods(manifests):
            secrets = {
                v["secret"]["secretName"] for v in pod["spec"].get("volumes", []) if "secret" in v
            }
            if component(pod) != "nats":
                assert not {s for s in secrets if s.endswith("nats-server")}, (way, name)


def test_an_upgrade_restarts_the_broker_only_for_a_reason() -> None:
    """Its pods name a digest of the configuration without passwords, which rendering alone makes anew."""

    def checksum(values: Manifest | None = None) -> str:
        servers = one(render(values=values), "StatefulSet", "-nats")
        return str(servers["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum()
    assert checksum() != checksum({"subjectPrefix": "other"})


def test_the_files_that_the_readme_makes_are_those_that_the_chart_takes(tmp_path: Path) -> None:
    """Its commands: users and configuration by the code, and a Secret of each file."""
    text = (CHART / "README.md").read_text()
    (words,) = re.findall(r"^\$ python -m (rkllama_service\.broker init .*)$", text, re.M)
    module, *arguments = shlex.split(words)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, check=False
    )
    made = re.findall(
        r"^\$ kubectl create secret generic (\S+) --from-file=(\S+)=(\S+)$", text, re.M
    )
    manifests = render("existing-secrets")
    taken = {
        (volume["secret"]["secretName"], item["key"])
        for _, pod in pods(manifests)
        for volume in pod["spec"].get("volumes", [])
        if volume["name"] in {"nats", "config"}
        for item in volume["secret"]["items"]
    }

    assert done.returncode == 0, done.stderr
    assert {(secret, key) for secret, key, _ in made} == taken
    assert all((tmp_path / file).is_file() for _, _, file in made)
    config = json.loads((tmp_path / "broker" / "nats-server.conf").read_text().partition("\n")[2])
    ours = config_of(render())
    assert {k: v for k, v in config.items() if k != "authorization"} == {
        k: v for k, v in ours.items() if k != "authorization"
    }
