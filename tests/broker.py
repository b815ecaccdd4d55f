"""A real nats-server for tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sysconfig
import uuid
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from rkllama_protocol.access import Access, Credentials
from rkllama_service import broker
from rkllama_service.broker_access import credentials
from rkllama_service.broker_config import Tls
from rkllama_service.tied import command

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"

TESTER = Access(credentials=Credentials(user="test", password=SecretStr("test")))
"""A user of closed brokers that may do everything."""


class Broker:
    """A nats-server of a test's own, on a port that stays the same over restarts.

    It is open to everybody until `close_to_others` is called.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._configured: list[str] = []
        self.users = folder / "broker"
        """Where the files of users are."""
        self.log_path = folder / "nats.log"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def close_to_others(
        self, processes: Sequence[broker.Process], *, tls: Tls | None = None
    ) -> None:
        """From its next start on let these processes in, each to what is its own, and `TESTER`."""
        broker.init(self.users, processes, listen="127.0.0.1:0", tls=tls)
        path = self.users / broker.CONFIG
        first, _, rest = path.read_text().partition("\n")
        config = json.loads(rest)
        config["authorization"]["users"].append({"user": "test", "password": "test"})
        path.write_text(f"{first}\n{json.dumps(config)}")
        self._configured = ["-c", str(path)]

    def access(self, user: str) -> Access:
        """What a user of this broker connects with."""
        return Access(credentials=credentials(self.users / f"{user}.json"))

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self.log_path = self._folder / f"nats-{uuid.uuid4().hex}.log"
        log = self.log_path
        where = ["-a", "127.0.0.1", "-p", str(self._port), "-l", str(log)]
        self._process = subprocess.Popen(
            # A test run that is killed leaves nothing behind.
            command([str(NATS_SERVER), *self._configured, *where], signum=signal.SIGKILL),
        )
        # The log is the server's own word that it listens.
        while True:
            text = log.read_text() if log.exists() else ""
            if "Server is ready" in text:
                break
            assert self._process.poll() is None, text
        address = text.split("Listening for client connections on ")[1].split()[0]
        self._port = int(address.rsplit(":", 1)[1])

    def reload(self) -> None:
        """Have the server read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()
