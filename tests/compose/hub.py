"""The store's test hub in a container: each folder /files/<owner>/<name> is a repository.

One more, `test/huge`, has a file that no volume of these tests can hold.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub_server import HubServer, of_seed  # Mounted beside this file.

FILES = Path("/files")
HUGE_BYTES = 512 * 2**20
LARGE_FILES = frozenset({".gguf", ".rkllm"})


def repositories(hub: HubServer) -> None:
    """What is served."""
    for folder in sorted(FILES.glob("*/*")):
        repo = hub.repo(folder.relative_to(FILES).as_posix())
        for path in sorted(folder.iterdir()):
            repo.add(path.name, path.read_bytes(), lfs=path.suffix in LARGE_FILES)
    huge = hub.repo("test/huge")
    huge.add("huge-1B-rk3588-w8a8.rkllm", of_seed(1, HUGE_BYTES), lfs=True)
    for path in FILES.glob("test/Talk-*/*.json"):
        huge.add(path.name, path.read_bytes())


async def main() -> None:
    """Serve for ever."""
    hub = HubServer()
    repositories(hub)
    everywhere = "0.0.0.0"  # noqa: S104 - in a network of the test's own
    async with hub.serving(everywhere, ports=(8000, 8001), name="hub"):
        await asyncio.Event().wait()


asyncio.run(main())
