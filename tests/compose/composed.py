"""compose.yaml as a running project of the tests' own, driven by the real `docker compose`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.stack import wait_until

ROOT = Path(__file__).parents[2]
HEALTHY_S = 90.0
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("RKLLAMA_", "OLLAMA_", "HF_", "COMPOSE_"))
}
"""Nothing of a person's settings: what a test does not say is the default."""


def docker(*arguments: str, env: Mapping[str, str] | None = None, check: bool = True) -> str:
    """What a docker command prints; on failure both of its outputs are told."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr if not check else done.stdout


def on_the_engines_machine(program: str) -> None:
    """Run Python as root of the machine that the engine is on, with its processes and devices."""
    host = ("--privileged", "--pid", "host", "--user", "0", "--volume", "/dev:/dev")
    docker("run", "--rm", *host, "rkllama-gateway:dev", "python", "-c", f"import os; {program}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Project:
    """A compose project with a name of its own."""

    def __init__(self, *, env: Mapping[str, str], files: Sequence[str] = ()) -> None:
        self.name = f"rkllama-test-{uuid.uuid4().hex[:8]}"
        port, ollama_port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self.ollama_url = f"http://127.0.0.1:{ollama_port}"
        ports = {"RKLLAMA_PORT": str(port), "RKLLAMA_OLLAMA_PORT": str(ollama_port)}
        self.env = ports | dict(env)
        self._files = [flag for file in ("compose.yaml", *files) for flag in ("-f", file)]

    def compose(self, *arguments: str, check: bool = True, **env: str) -> str:
        """What `docker compose` prints."""
        return docker(
            "compose",
            "--env-file",
            "/dev/null",
            "-p",
            self.name,
            *self._files,
            *arguments,
            env=self.env | env,
            check=check,
        )

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        (found,) = json.loads(docker("inspect", self.container(service)))
        return dict(found)

    def healthy(self, service: str) -> bool:
        """Whether a service's container says so."""
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def wait_healthy(self, *services: str) -> None:
        """Wait for the containers' own word."""
        for service in services:
            healthy = partial(self.healthy, service)
            wait_until(f"{service} to be healthy", healthy, timeout_s=HEALTHY_S)

    def kill(self, service: str) -> None:
        """kill -9 of the process, as the kernel would, and wait until the engine has begun another.

        `docker kill` would count as a person's wish, after which nothing is restarted.
        """
        before = self.inspect(service)
        on_the_engines_machine(f"os.kill({before['State']['Pid']}, 9)")

        def again() -> bool:
            now = self.inspect(service)
            return bool(
                now["RestartCount"] > before["RestartCount"] and now["State"]["Status"] == "running"
            )

        wait_until(f"{service} to be started again", again)

    def inside(self, service: str, *command: str, user: str = "") -> str:
        """What a command in a service's container prints."""
        who = ("--user", user) if user else ()
        return self.compose("exec", "--no-TTY", *who, service, *command)

    def address(self, service: str) -> str:
        """A service's address in the network that workers are in."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.name}_bus"]["IPAddress"])

    def logs(self, service: str) -> str:
        """What a service said."""
        return docker("logs", self.container(service), check=False)


@contextmanager
def running(project: Project, *up: str) -> Iterator[Project]:
    """The project, from `up --wait` to `down`; where it does not come up, its logs are told."""
    try:
        try:
            project.compose("up", "--detach", "--wait", "--no-build", *up)
        except AssertionError as error:
            error.add_note(project.compose("logs", "--tail", "20"))
            raise
        yield project
    finally:
        project.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
