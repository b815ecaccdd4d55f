"""The HTTP port that every process has: liveness, readiness, metrics, and what else it serves."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rkllama_service.process import SetupError


def probes(
    registry: CollectorRegistry,
    not_ready: Callable[[], str],
    *,
    measure: Callable[[], Awaitable[None]] | None = None,
) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`. `not_ready()` is why the process is not ready, or empty.

    `measure` is awaited before metrics are told: for figures that have to be read from a disk.
    """
    # A series beside each counter and histogram, with the time when it was made: nobody reads them.
    disable_created_metrics()  # type: ignore[no-untyped-call]

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse(f"{reason or 'ok'}\n", status_code=503 if reason else 200)

    async def metrics(_: Request) -> Response:
        if measure is not None:
            await measure()
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        SetupError: The address is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        # A port out of range is no error of the system's.
        reason = error.strerror if isinstance(error, OSError) else error
        raise SetupError(f"cannot listen on {host} port {port}: {reason}") from error
    sock.setblocking(False)  # noqa: FBT003 - positional only
    return sock


def is_loopback(address: str) -> bool:
    """Whether what listens on `address` is reached from its own machine only.

    A name is taken for a wider address, but for `localhost`.
    """
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def url_of(sock: socket.socket, *, scheme: str = "http") -> str:
    """`http://host:port` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a server shows."""

    cert: Path
    key: Path


Sweep = Callable[[Iterable[object], float], None]
"""Looks at all connections of a server, at a time of the event loop."""
TICKS_A_SECOND = 10
"""Of uvicorn's main loop."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config, sweep: Sweep | None) -> None:
        super().__init__(config)
        self._sweep = sweep

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections once a second, also while the server ends."""
        if self._sweep is not None and counter % TICKS_A_SECOND == 0:
            self._sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's handlers alone."""
        yield


@asynccontextmanager
async def serving(
    app: ASGIApp,
    sockets: list[socket.socket],
    *,
    shutdown_s: float = 5.0,
    protocol: type[asyncio.Protocol] | None = None,
    sweep: Sweep | None = None,
    tls: Certificate | None = None,
) -> AsyncIterator[None]:
    """Serve `app` on `sockets` inside this context; leaving it waits `shutdown_s` for open answers.

    `sweep` is called each second with the connections, which are of class `protocol`.

    Raises:
        SetupError: The certificate cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=protocol or "auto",
        # No socket leaves its protocol, and no header says whose it is: any client can write one.
        ws="none",
        proxy_headers=False,
        ssl_certfile=None if tls is None else tls.cert,
        ssl_keyfile=None if tls is None else tls.key,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(shutdown_s)),
    )
    try:
        config.load()
    except OSError as error:
        raise SetupError(f"cannot use the certificate: {error}") from error
    server = _Server(config, sweep)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=sockets))
        try:
            yield
        finally:
            server.should_exit = True
