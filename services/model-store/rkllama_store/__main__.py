"""`python -m rkllama_store`: the model store, wired."""

from __future__ import annotations

import asyncio

from rkllama_service import http, logs, process
from rkllama_service.settings import read

from rkllama_store import folder
from rkllama_store.settings import Settings
from rkllama_store.store import Store


async def main(stop: asyncio.Event) -> None:
    """Run the store until `stop` is set."""
    settings, shared = read(Settings)
    logs.configure(debug=shared.debug)
    root = shared.data_dir / "models"
    with folder.owned(root), http.bind(settings.http_host, settings.http_port) as sock:
        await Store(settings, root=root, sock=sock).run(shared.nats_url, stop)


if __name__ == "__main__":
    process.run(main)
