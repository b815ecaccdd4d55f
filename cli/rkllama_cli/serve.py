"""`rkllama serve`: the whole system on one machine.

serve -+- nats-server      unless a broker is named
       +- model-store
       +- gateway          the ports people use
       +- worker x N       each with an engine process for every loaded model
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rkllama_board import Soc
from rkllama_service import broker, http, process
from rkllama_service.first_key import auth_for, first_key
from rkllama_service.keys import Auth
from rkllama_service.process import SetupError
from rkllama_service.settings import read_shared

from rkllama_cli import platform_prompt
from rkllama_cli.children import Child, Children

log = logging.getLogger(__name__)

BROKER = "broker"
"""Folder in the data folder: the broker's configuration, and a file for each of its users."""
TLS_CERT_FILE = "RKLLAMA_GATEWAY_TLS_CERT_FILE"
STORE, GATEWAY = "store", "gateway"
DEFAULT_PORT = 8080
OLLAMA_PORT = 11434
DRAIN_S = 5.0
STOP_S = 7.0
"""Above the drain time, below the ten seconds that everything has together."""
POLL_S = 0.1
_CLIENT_KEYS = ("RKLLAMA_API_KEY", "OLLAMA_API_KEY")
"""What commands send is no business of the services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the person at the command line asked for."""

    host: str
    port: int | None
    """None: 8080, and 11434 too if it is free."""
    data: Path
    auth: Auth | None
    """None: nothing was said, the address decides."""
    keys: Path
    """File of the keys; written only if keys are asked for and there is none yet."""
    workers: int
    runtime: str
    rkllm_library: Path | None
    nats_url: str | None
    debug: bool


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def prepare(plan: Plan) -> int:
    """Check what a person may have to mend, before anything is started; the port to use.

    Raises:
        SetupError: One sentence that says what.
    """
    try:
        plan.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot use the folder {plan.data}: {error.strerror}") from error
    if not os.access(plan.data, os.W_OK | os.X_OK):
        raise SetupError(f"cannot write to the folder {plan.data}")
    if plan.rkllm_library is not None and not plan.rkllm_library.is_file():
        raise SetupError(f"there is no library at {plan.rkllm_library}")
    with http.bind(plan.host, DEFAULT_PORT if plan.port is None else plan.port) as sock:
        return int(sock.getsockname()[1])


def auth_of(plan: Plan) -> Auth:
    """What takes a key."""
    return auth_for(plan.auth, plan.host)


def _nats_server() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise SetupError("there is no nats-server here; install it or name a broker with --nats")
    return found


def children(plan: Plan, port: int, *, soc: Soc | None = None) -> list[Child]:
    """The processes of this plan, in the order in which they are started; `soc` if it was asked for."""
    base = platform_prompt.with_platform(dict(os.environ), soc)
    for name in _CLIENT_KEYS:
        base.pop(name, None)
    found: list[Child] = []
    nats_url = plan.nats_url
    if nats_url is None:
        nats_port = free_port()
        nats_url = f"nats://127.0.0.1:{nats_port}"
        config = str(plan.data / BROKER / broker.CONFIG)
        argv = [_nats_server(), "-c", config, "-a", "127.0.0.1", "-p", str(nats_port)]
        if not plan.debug:
            argv += ["-l", str(plan.data / "nats.log")]
        found.append(Child(name="nats", argv=argv, env=base, stop_s=1.0))
    base |= {
        "RKLLAMA_NATS_URL": nats_url,
        "RKLLAMA_DATA": str(plan.data),
        "RKLLAMA_HOST": plan.host,
        "RKLLAMA_DEBUG": str(plan.debug),
    }
    if plan.rkllm_library is not None:
        base["RKLLAMA_RKLLM_LIBRARY"] = str(plan.rkllm_library)
    store = base | _user(plan, STORE)
    found.append(Child(name="model-store", argv=_module("rkllama_store"), env=store, stop_s=2.0))
    gateway = {
        "RKLLAMA_GATEWAY_PORT": str(port),
        "RKLLAMA_GATEWAY_OLLAMA_PORT": base.get(
            "RKLLAMA_GATEWAY_OLLAMA_PORT", str(OLLAMA_PORT if plan.port is None else 0)
        ),
        "RKLLAMA_GATEWAY_EXPECTED_WORKERS": str(plan.workers),
        "RKLLAMA_GATEWAY_DRAIN_TIMEOUT_S": str(DRAIN_S),
        **_user(plan, GATEWAY),
        "RKLLAMA_AUTH": auth_of(plan),
        "RKLLAMA_KEYS_FILE": str(plan.keys),
    }
    found.append(
        Child(name="gateway", argv=_module("rkllama_gateway"), env=base | gateway, stop_s=STOP_S)
    )
    for number in range(1, plan.workers + 1):
        worker = {
            **_user(plan, f"worker-{number}"),
            "RKLLAMA_WORKER_WORKER_ID": f"worker-{number}",
            "RKLLAMA_WORKER_RUNTIME": plan.runtime,
            "RKLLAMA_WORKER_DRAIN_TIMEOUT_S": str(DRAIN_S),
        }
        found.append(
            Child(
                name=f"worker-{number}",
                argv=_module("rkllama_worker"),
                env=base | worker,
                stop_s=STOP_S,
            )
        )
    return found


def make_users(plan: Plan) -> None:
    """A user of the broker for each process, if the broker is ours.

    Raises:
        SetupError: The files cannot be written or read.
    """
    if plan.nats_url is None:
        processes: list[broker.Process] = [("store", STORE), ("gateway", GATEWAY)]
        processes += [("worker", f"worker-{number}") for number in range(1, plan.workers + 1)]
        broker.init(plan.data / BROKER, processes, listen="127.0.0.1:0")


def _user(plan: Plan, name: str) -> dict[str, str]:
    """What a process is told of its user; of a broker that is not ours the settings say it."""
    if plan.nats_url is not None:
        return {}
    return {"RKLLAMA_NATS_CREDENTIALS_FILE": str(plan.data / BROKER / f"{name}.json")}


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


async def serve(plan: Plan, stop: asyncio.Event) -> int:
    """Run the plan until `stop` is set; the exit code.

    Raises:
        SetupError: Something a person has to mend.
    """
    asking = platform_prompt.choose(
        plan.runtime, read_shared().platform, library_named=plan.rkllm_library is not None
    )
    soc = await process.unless(stop, asking)
    if stop.is_set():
        return 0
    port = prepare(plan)
    make_users(plan)
    if plan.auth is Auth.OFF and not http.is_loopback(plan.host):
        log.warning("no key is asked for, whoever reaches the port may change the models")
    if (text := first_key(auth_of(plan), plan.keys)) is not None:
        print(text, flush=True)
    trusted = trusted_certificate()
    host = f"[{plan.host}]" if ":" in plan.host else plan.host
    url = f"{'http' if trusted is None else 'https'}://{host}:{port}"
    async with asyncio.TaskGroup() as tasks:
        family = Children(tasks)
        planned = children(plan, port, soc=soc)
        for child in planned:
            family.start(child)
        waiters = [
            tasks.create_task(stop.wait()),
            tasks.create_task(family.refused.wait()),
        ]
        announcer = tasks.create_task(_announce(url, family, trusted))
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        announcer.cancel()
        for waiter in waiters:
            waiter.cancel()
        names = [child.name for child in planned]
        inner = [name for name in names if name == "gateway" or name.startswith("worker-")]
        await family.stop(*inner)
        await family.stop("model-store")
        await family.stop("nats")
    return family.exit_code


def trusted_certificate() -> ssl.SSLContext | None:
    """What to believe the gateway by, if it is told to serve HTTPS.

    Raises:
        SetupError: Its certificate cannot be used.
    """
    text = os.environ.get(TLS_CERT_FILE)
    if not text:
        return None
    try:
        context = ssl.create_default_context(cafile=Path(text).expanduser())
    except OSError as error:
        raise SetupError(f"cannot use the certificate {text}: {error}") from error
    # It is asked for by an address, and its certificate is for a name; who signed it does not matter.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _announce(url: str, family: Children, trusted: ssl.SSLContext | None) -> None:
    """Print the ready line once the gateway says that everything is there."""
    address = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    async with httpx2.AsyncClient(trust_env=False, verify=trusted or True) as client:
        while True:
            try:
                if (await client.get(address)).status_code == httpx2.codes.OK:
                    break
            except httpx2.TransportError:
                log.debug("gateway not there yet")
            await asyncio.sleep(POLL_S)
    family.settled = True
    print(f"rkllama is ready at {url}", flush=True)
