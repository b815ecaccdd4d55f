"""The HTTP port that every process has: liveness, readiness, metrics, and what else it serves."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rkllama_service.process import SetupError


def probes(registry: CollectorRegistry, not_ready: Callable[[], str]) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`. `not_ready()` is why the process is not ready, or empty."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse(f"{reason or 'ok'}\n", status_code=503 if reason else 200)

    async def metrics(_: Request) -> Response:
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
    except OSError as error:
        sock.close()
        raise SetupError(f"cannot listen on {host} port {port}: {error.strerror}") from error
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


def url_of(sock: socket.socket) -> str:
    """`http://host:port` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's handlers alone."""
        yield


@asynccontextmanager
async def serving(
    app: ASGIApp, sockets: list[socket.socket], *, shutdown_s: float = 5.0
) -> AsyncIterator[None]:
    """Serve `app` on `sockets` inside this context; leaving it waits `shutdown_s` for open answers."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(shutdown_s)),
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=sockets))
        try:
            yield
        finally:
            server.should_exit = True
