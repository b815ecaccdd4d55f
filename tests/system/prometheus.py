"""Debian's Prometheus, watching a stack of a test's own."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx2
from rkllama_service.tied import command

from tests import monitoring
from tests.stack import Stack, wait_until

BIN = Path(__file__).parents[2] / "build" / "prometheus" / "usr" / "bin"
"""Where `prometheus.sh` puts the programs; `make test-system` calls it."""
INTERVAL = "500ms"
HANG_S = 120.0
_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def promtool(*arguments: str | Path, given: str = "") -> str:
    """What promtool says, of what it is `given`; a failure of the test if it finds fault."""
    ran = subprocess.run(
        [BIN / "promtool", *arguments], input=given, capture_output=True, text=True, check=False
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return said


class Prometheus:
    """A server on a free port, with the project's own configuration on this stack's addresses."""

    def __init__(self, folder: Path, stack: Stack, *, workers: int) -> None:
        self._folder = folder
        self._workers = workers
        self._stack = stack
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx2.Client(trust_env=False, timeout=HANG_S)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self._folder.mkdir()
        rules = self._folder / "rules.yaml"
        # What takes minutes for people takes seconds here.
        rules.write_text(re.sub(r"for: \w+", "for: 1s", monitoring.RULES.read_text()))
        config = self._folder / "prometheus.yml"
        config.write_text(self._configuration(rules))
        self.log = self._folder / "prometheus.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(
                    [
                        str(BIN / "prometheus"),
                        f"--config.file={config}",
                        f"--storage.tsdb.path={self._folder / 'data'}",
                        "--web.listen-address=127.0.0.1:0",
                        "--query.lookback-delta=1m",
                    ],
                    signum=signal.SIGKILL,
                ),
                stdout=log,
                stderr=log,
            )
        wait_until("Prometheus to listen", lambda: self._port() is not None, timeout_s=HANG_S)
        self._http.base_url = f"http://127.0.0.1:{self._port()}"
        wait_until(
            "Prometheus to be ready",
            lambda: self._http.get("/-/ready").status_code == 200,
            timeout_s=HANG_S,
        )

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query: `metric` and `value`.

        A query that Prometheus refuses fails the test.
        """
        answer = self._http.post("/api/v1/query", data={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values that a label of a metric has."""
        answer = self._http.get(f"/api/v1/label/{label}/values", params={"match[]": metric})
        found: list[str] = answer.json()["data"]
        return found

    def targets(self) -> dict[str, list[str]]:
        """The health of each job's targets."""
        found: dict[str, list[str]] = {}
        for target in self._get("targets")["activeTargets"]:
            found.setdefault(target["labels"]["job"], []).append(target["health"])
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its `worker_id`, or nothing."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("worker_id", ""))
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def _get(self, what: str) -> Any:
        return self._http.get(f"/api/v1/{what}").json()["data"]

    def _configuration(self, rules: Path) -> str:
        workers = [self._stack.worker_url(f"worker-{n + 1}") for n in range(self._workers)]
        text = monitoring.CONFIG.read_text()
        for old, new in (
            ("scrape_interval: 5s", f"scrape_interval: {INTERVAL}"),
            ("evaluation_interval: 5s", f"evaluation_interval: {INTERVAL}"),
            ("rules/rkllama.yaml", str(rules)),
            ('"gateway:8080"', _address(self._stack.url)),
            ('"worker:8081"', ", ".join(map(_address, workers))),
            ('"store:8082"', _address(self._stack.store_url())),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    def _port(self) -> int | None:
        """The port it listens on, as the kernel tells it: the log says that it is 0."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        proc = Path(f"/proc/{self._process.pid}")
        sockets = set()
        for fd in (proc / "fd").iterdir():
            # It opens and closes files meanwhile.
            with contextlib.suppress(FileNotFoundError):
                sockets.add(str(fd.readlink()))
        for line in (proc / "net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTEN and f"socket:[{inode}]" in sockets:
                return int(local.partition(":")[2], 16)
        return None


def _address(url: str) -> str:
    return f'"{url.removeprefix("http://")}"'
