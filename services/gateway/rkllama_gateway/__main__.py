"""`python -m rkllama_gateway`: one gateway, wired."""

from __future__ import annotations

import asyncio
import logging
import socket

import httpx2
from rkllama_service import broker_access, http, logs, process
from rkllama_service.first_key import auth_for, first_key
from rkllama_service.keys import Auth
from rkllama_service.process import SetupError
from rkllama_service.settings import Shared, read

from rkllama_gateway.app import build
from rkllama_gateway.auth import Guard
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.settings import Settings
from rkllama_gateway.wire import guarded, sweep

log = logging.getLogger(__name__)

SEND_BUFFER_BYTES = 128 * 2**10


def _sockets(host: str, settings: Settings) -> list[socket.socket]:
    sockets = [http.bind(host, settings.port)]
    if settings.ollama_port:
        try:
            sockets.append(http.bind(host, settings.ollama_port))
        except SetupError as error:
            log.info("second port not opened", extra={"reason": str(error)})
    for sock in sockets:
        # Connections inherit it: what the kernel holds for a client that reads slowly is bounded too.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return sockets


def _auth(settings: Settings, shared: Shared) -> Auth:
    """What takes a key; where that is decided here, the first key is made and printed."""
    if not settings.published_host:
        return shared.auth
    said = shared.auth if "auth" in shared.model_fields_set else None
    auth = auth_for(said, settings.published_host)
    if auth is Auth.OFF and not http.is_loopback(settings.published_host):
        log.warning("no key is asked for, whoever reaches the port may change the models")
    if (text := first_key(auth, shared.keys_path())) is not None:
        print(text, flush=True)  # noqa: T201 - for a person, once
    return auth


async def main(stop: asyncio.Event) -> None:
    """Run one gateway until `stop` is set."""
    settings, shared = read(Settings)
    logs.configure(debug=shared.debug, data_dir=shared.data_dir)
    listen_host = settings.published_host or shared.host
    guard = Guard(_auth(settings, shared), shared.keys_path())
    sockets = _sockets(shared.host, settings)
    async with asyncio.TaskGroup() as tasks:
        connecting = broker_access.connect(shared, role="gateway", tasks=tasks)
        bus = await process.unless(stop, connecting)
        if bus is None:
            return
        gateway = Gateway(settings, bus=bus, tasks=tasks)
        async with (
            bus,
            # Blobs take as long as they take; nothing of the machine's proxies is between us.
            httpx2.AsyncClient(timeout=None, trust_env=False) as client,
        ):
            running = await gateway.start()
            app = build(gateway, client, listen_host=listen_host, guard=guard, debug=shared.debug)
            tls = settings.certificate()
            async with http.serving(
                app, sockets, protocol=guarded(settings.wire_limits()), sweep=sweep, tls=tls
            ):
                scheme = "http" if tls is None else "https"
                urls = ", ".join(http.url_of(sock, scheme=scheme) for sock in sockets)
                log.info("gateway listens", extra={"urls": urls, "auth": guard.auth})
                await stop.wait()
                await gateway.drain()
            for task in running:
                task.cancel()


if __name__ == "__main__":
    process.run(main)
