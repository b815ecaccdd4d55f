"""An installation without a cluster: the rendered pods' own variables and Secrets, as processes on loopback.

What a kubelet does is done by hand: each mount is a folder, with the keys of its Secret in it. Addresses and ports
are this machine's; all else is as rendered.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rkllama_service.tied import command

from tests.chart.rendering import Manifest, component, content, environment, pods
from tests.stack import wait_until

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"
HERE = {
    "RKLLAMA_HOST": "127.0.0.1",
    "RKLLAMA_GATEWAY_PORT": "0",
    "RKLLAMA_GATEWAY_OLLAMA_PORT": "0",
    "RKLLAMA_STORE_HTTP_HOST": "127.0.0.1",
    "RKLLAMA_STORE_HTTP_PORT": "0",
    "RKLLAMA_STORE_ADVERTISE_URL": "",
    "RKLLAMA_WORKER_HTTP_HOST": "127.0.0.1",
    "RKLLAMA_WORKER_HTTP_PORT": "0",
}
MODULES = {
    "model-store": "rkllama_store",
    "cpu-worker": "rkllama_worker",
    "gateway": "rkllama_gateway",
}
STOP_S = 60


@contextmanager
def broker(folder: Path, config: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
    """A real nats-server with this configuration, but on free ports; its URLs by kind."""
    folder.mkdir()
    here = config | {"listen": "127.0.0.1:-1", "http": "127.0.0.1:-1"}
    if "cluster" in config:
        here["cluster"] = config["cluster"] | {"listen": "127.0.0.1:-1"}
    (folder / "nats.conf").write_text(json.dumps(here))
    log = folder / "nats.log"
    log.touch()
    argv = [str(NATS_SERVER), "-c", str(folder / "nats.conf"), "-l", str(log)]
    more = ["--ports_file_dir", str(folder), "--name", folder.name]
    process = subprocess.Popen(command([*argv, *more], signum=signal.SIGKILL))

    def ports() -> str:
        assert process.poll() is None, log.read_text()
        return "".join(path.read_text() for path in folder.glob("*.ports"))

    try:
        wait_until("the broker's ports", ports)
        yield json.loads(ports())
    finally:
        process.terminate()
        process.wait()


@contextmanager
def installed(
    manifests: list[Manifest], folder: Path, *, existing: dict[str, dict[str, str]]
) -> Iterator[str]:
    """Run every service of these objects, and of Secrets that exist besides; the gateway's address."""
    secrets = existing | {
        m["metadata"]["name"]: content(m) for m in manifests if m["kind"] == "Secret"
    }
    (server,) = (text for name, text in secrets.items() if name.endswith("-nats-server"))
    there = {component(pod): pod for _, pod in pods(manifests)}
    with ExitStack() as running:
        ports = running.enter_context(
            broker(folder / "nats", json.loads(server["nats-server.conf"]))
        )
        here = HERE | {"RKLLAMA_NATS_URL": ports["nats"][0]}
        for part in MODULES:
            variables = _variables(there[part], secrets, folder / part)
            same = {name: text for name, text in here.items() if name in variables}
            running.enter_context(_process(part, variables | same, folder))
        log = folder / "gateway.log"
        wait_until("the gateway's address", lambda: '"urls":"' in log.read_text())
        yield log.read_text().split('"urls":"')[1].split('"')[0]


def _variables(pod: Manifest, secrets: dict[str, dict[str, str]], folder: Path) -> dict[str, str]:
    """A pod's variables, with folders of this machine for its mounts."""
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in container["volumeMounts"]:
        place = folder / mount["mountPath"].strip("/")
        place.mkdir(parents=True, exist_ok=True)
        source = volumes.get(mount["name"], {}).get("secret")
        if source is not None:
            for item in source["items"]:
                (place / item["path"]).write_text(secrets[source["secretName"]][item["key"]])
    return {
        name: re.sub("^/", f"{folder}/", text) if text.startswith("/") else text
        for name, text in environment(pod).items()
    }


@contextmanager
def _process(part: str, variables: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{part}.log").open("ab") as log:
        process = subprocess.Popen(
            command([sys.executable, "-m", MODULES[part]], signum=signal.SIGKILL),
            env=variables,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_S)
