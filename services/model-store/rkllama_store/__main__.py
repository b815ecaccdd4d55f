"""`python -m rkllama_store`: the model store, wired."""

from __future__ import annotations

import asyncio

from rkllama_board import detect, parse_soc
from rkllama_service import http, logs, process
from rkllama_service.settings import read

from rkllama_store import folder
from rkllama_store.settings import HubSettings, Settings
from rkllama_store.store import Store


async def main(stop: asyncio.Event) -> None:
    """Run the store until `stop` is set."""
    settings, shared = read(Settings)
    hub, _ = read(HubSettings)
    logs.configure(debug=shared.debug, data_dir=shared.data_dir)
    root = shared.data_dir / "models"
    with folder.owned(root), http.bind(settings.http_host, settings.http_port) as sock:
        # Models are for the boards, which this machine need not be: the setting counts first.
        soc = parse_soc(shared.platform) or detect().soc
        store = Store(settings, root=root, sock=sock, hub=hub, soc=soc)
        await store.run(shared, stop)


if __name__ == "__main__":
    process.run(main)
