"""The profile `monitoring`, with Debian's Prometheus in the place of its own image."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from tests.compose.composed import ROOT, Project, docker, free_ports
from tests.stack import wait_until

IMAGE = "rkllama-test-prometheus"
DOCKERFILE = """\
FROM python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus \\
    && install -d -o nobody -g nogroup /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
"""


@pytest.fixture(scope="module")
def url(stack: Project) -> Iterator[str]:
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, "-"],
        input=DOCKERFILE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    (port,) = free_ports(1)
    env = {"RKLLAMA_PROMETHEUS_IMAGE": IMAGE, "RKLLAMA_PROMETHEUS_PORT": str(port)}
    stack.compose("up", "--detach", "--no-deps", "--no-build", "prometheus", **env)
    yield f"http://127.0.0.1:{port}"
    stack.compose("rm", "--stop", "--force", "prometheus", **env)
    docker("image", "rm", "--force", IMAGE)


def test_prometheus_has_our_rules_and_reaches_every_process(url: str) -> None:
    def asked(path: str) -> dict[str, list[dict[str, object]]]:
        try:
            answer = httpx2.get(f"{url}/api/v1/{path}", trust_env=False)
        except httpx2.TransportError:
            return {}
        # It is 503 in words while it starts.
        return dict(answer.json()["data"]) if answer.status_code == 200 else {}

    def scraped() -> bool:
        targets = asked("targets").get("activeTargets", [])
        return {target["scrapePool"] for target in targets if target["health"] == "up"} == {
            "gateway",
            "worker",
            "store",
        }

    wait_until("every target to be up", scraped, timeout_s=60)

    assert asked("rules")["groups"]
