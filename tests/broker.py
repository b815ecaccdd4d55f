"""A real nats-server for tests."""

from __future__ import annotations

import signal
import subprocess
import sysconfig
import uuid
from pathlib import Path

from rkllama_service.tied import command

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"


class Broker:
    """A nats-server of a test's own, on a port that stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        log = self._folder / f"nats-{uuid.uuid4().hex}.log"
        self._process = subprocess.Popen(
            # A test run that is killed leaves nothing behind.
            command(
                [str(NATS_SERVER), "-a", "127.0.0.1", "-p", str(self._port), "-l", str(log)],
                signum=signal.SIGKILL,
            ),
        )
        # The log is the server's own word that it listens.
        while True:
            text = log.read_text() if log.exists() else ""
            if "Server is ready" in text:
                break
            assert self._process.poll() is None, text
        address = text.split("Listening for client connections on ")[1].split()[0]
        self._port = int(address.rsplit(":", 1)[1])

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()
