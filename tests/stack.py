"""The whole system as real processes, for tests: broker, model store, gateway, workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx2
import orjson
from rkllama_service.broker import Process
from rkllama_service.tied import command

from tests.broker import Broker

START_S = 60.0
POLL_S = 0.02


def wait_until(what: str, test: object, *, timeout_s: float = 30.0) -> None:
    """Poll `test()` until it is true; the time is a hang guard, not an assertion."""
    assert callable(test)
    until = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < until, f"waited {timeout_s:g} s for {what}"
        time.sleep(POLL_S)


def children_of(pid: int) -> list[int]:
    """Process ids of the living children of `pid`, its own threads' included."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def prepared(models: Path, folder: Path) -> Path:
    """`folder` as a data folder, with hard links to the models."""
    shutil.copytree(
        models,
        folder / "models",
        copy_function=lambda source, copy: Path(copy).hardlink_to(source),
        # A lock belongs to the file, whatever its name.
        ignore=shutil.ignore_patterns("*lock*"),
    )
    return folder


class Stack:
    """One system on free ports, with its own broker and data folder; each process has its own user.

    With `apart`, each worker has a data folder of its own, as if it were another machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        most_workers: int = 0,
        gateways: int = 1,
        apart: bool = False,
        env: dict[str, str] | None = None,
        worker_prefix: Sequence[str] = (),
    ) -> None:
        """The broker lets `most_workers` in, if they are more: `start_worker` adds them later.

        `worker_prefix` is a command that becomes the worker's, which is its arguments.
        """
        self.folder = folder
        self.broker = Broker(folder)
        self.urls: dict[str, str] = {}
        """Of each gateway, by its name."""
        self._workers = workers
        self._most_workers = max(workers, most_workers)
        self._gateways = gateways
        self._apart = apart
        self._env = env or {}
        self._worker_prefix = worker_prefix
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        names = ["gateway", *(f"gateway-{number}" for number in range(2, self._gateways + 1))]
        processes: list[Process] = [("store", "store"), *(("gateway", name) for name in names)]
        processes += [("worker", f"worker-{number}") for number in range(1, self._most_workers + 1)]
        self.broker.close_to_others(processes)
        self.broker.start()
        self.start("store", "rkllama_store")
        for number in range(1, self._workers + 1):
            self.start_worker(number)
        for name in names:
            self.start_gateway(name)
        wait_until("everything to be ready", self._ready, timeout_s=START_S)

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.stop()

    @property
    def url(self) -> str:
        """Address of the first gateway."""
        return self.urls["gateway"]

    def start_gateway(self, name: str = "gateway") -> None:
        """Start a gateway: on a free port, and after that always on the same."""
        known = self.urls.get(name)
        self.start(
            name,
            "rkllama_gateway",
            RKLLAMA_GATEWAY_PORT=known.rpartition(":")[2] if known else "0",
            RKLLAMA_GATEWAY_EXPECTED_WORKERS=str(self._workers),
        )
        log = self.log(name)
        wait_until(
            f"the address of {name}", lambda: self._runs(name) and '"urls":"' in log.read_text()
        )
        self.urls[name] = log.read_text().split('"urls":"')[1].split('"')[0]

    def start_worker(self, number: int, **env: str) -> None:
        """Start worker `number`, which has that id."""
        self.start(
            f"worker-{number}",
            "rkllama_worker",
            RKLLAMA_WORKER_WORKER_ID=f"worker-{number}",
            **{"RKLLAMA_WORKER_DRAIN_TIMEOUT_S": "5", **self._npu(number), **env},
            **({"RKLLAMA_DATA": str(self.board(number))} if self._apart else {}),
        )

    def _npu(self, number: int) -> dict[str, str]:
        """An emulated board's own node: this machine may have one, for one worker."""
        if "RKLLAMA_RKLLM_LIBRARY" not in self._env or "RKLLAMA_WORKER_NPU_NODE" in self._env:
            return {}
        node = self.folder / f"npu-{number}"
        node.touch()
        return {"RKLLAMA_WORKER_NPU_NODE": str(node)}

    def board(self, number: int) -> Path:
        """The data folder of worker `number`, where each has its own."""
        return self.folder / f"board-{number}"

    def start(self, name: str, module: str, **env: str) -> None:
        """Start one service."""
        here = self.folder / name
        here.mkdir(exist_ok=True)
        prefix = self._worker_prefix if module == "rkllama_worker" else ()
        settings = {
            "RKLLAMA_NATS_URL": self.broker.url,
            "RKLLAMA_NATS_CREDENTIALS_FILE": str(self.broker.users / f"{name}.json"),
            "RKLLAMA_DATA": str(self.folder),
            **self._env,
            **env,
        }
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                # A test run that is killed leaves nothing behind.
                command([*prefix, sys.executable, "-m", module], signum=signal.SIGKILL),
                env=os.environ | settings,
                # What an emulated board keeps under a relative path is its own.
                cwd=here,
                stderr=log,
                stdout=log,
            )

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """Of one process."""
        return self._processes[name].pid

    def engines(self, worker: str = "worker-1") -> list[int]:
        """Process ids of a worker's engines."""
        return children_of(self.pid(worker))

    def kill(self, name: str) -> None:
        """kill -9, as a power cut would."""
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()

    def terminate(self, name: str) -> int:
        """Ask a process to end; its exit code."""
        self._processes[name].terminate()
        return self.wait(name)

    def wait(self, name: str) -> int:
        """The exit code of a process that is about to end."""
        return self._processes[name].wait(30)

    def worker_url(self, worker: str = "worker-1") -> str:
        """Address of a worker's metrics."""
        return self.log(worker).read_text().split('"http_url":"')[-1].split('"')[0]

    def store_url(self) -> str:
        """Address of the store's metrics."""
        (listens,) = (e for e in self.events("store") if e["event"] == "store listens")
        return str(listens["url"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of a process's log."""
        lines = self.log(name).read_text().splitlines()
        return [orjson.loads(line) for line in lines if line.startswith("{")]

    def metric(self, url: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 if there are none."""
        total = 0.0
        for line in httpx2.get(f"{url}/metrics", trust_env=False).text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total

    def runs(self, worker: str = "worker-1", **labels: str) -> float:
        """Attempts that ended on a worker, by the engine's own report."""
        return self.metric(self.worker_url(worker), "rkllama_worker_runs_total", **labels)

    def queued(self) -> float:
        """Requests that wait in the gateway."""
        return self.metric(self.url, "rkllama_queue_depth")

    def _runs(self, name: str) -> bool:
        ended = self._processes[name].poll() is not None
        assert not ended, f"{name} ended: {self.log(name).read_text()}"
        return True

    def _ready(self) -> bool:
        for name in self._processes:
            self._runs(name)
        return all(
            httpx2.get(url, trust_env=False).status_code == 200 for url in self.urls.values()
        )
