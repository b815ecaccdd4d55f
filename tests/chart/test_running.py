"""What is rendered runs: services, broker, users, keys and the script of `helm test`, on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.chart.installed import installed
from tests.chart.rendering import Manifest, environment, pods, render, secret
from tests.stack import wait_until

START_S = 120.0


def ask(manifests: list[Manifest], url: str, *, key: str) -> subprocess.CompletedProcess[str]:
    """Run what the test pod runs, with this address and key."""
    (pod,) = (p for name, p in pods(manifests) if name.startswith("Pod/"))
    (container,) = pod["spec"]["containers"]
    variables = environment(pod) | {"ASK_URL": url, "ASK_KEY": key}
    return subprocess.run(
        [sys.executable, "-c", *container["args"]],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)
def test_an_installation_answers_who_has_its_key(tmp_path: Path) -> None:
    """A worker with the shared user claims, fetches from the store, and runs; strangers stay outside."""
    manifests = render("cpu-only")
    keys = secret(manifests, "-keys")
    with installed(manifests, tmp_path) as url:
        wait_until(
            "the gateway to be ready",
            lambda: httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200,
            timeout_s=START_S,
        )
        good = ask(manifests, url, key=keys["admin-key"])
        wrong = ask(manifests, url, key="rk-nobodys")
        header = {"Authorization": f"Bearer {keys['metrics-key']}"}
        metrics = httpx2.get(f"{url}/metrics", headers=header, trust_env=False)
        managing = httpx2.request(
            "DELETE", f"{url}/api/delete", headers=header, json={"model": "x"}, trust_env=False
        )

    assert good.returncode == 0, good.stderr
    assert "changing models without a key: 401" in good.stdout
    assert "models: smollm2:135m" in good.stdout
    assert "Paris" in good.stdout
    assert wrong.returncode != 0
    assert metrics.status_code == 200
    assert managing.status_code == 403
    for log in tmp_path.glob("*.log"):
        assert "broker forbids" not in log.read_text(), log.name


def test_nobody_there_is_a_failure() -> None:
    assert ask(render(), "http://127.0.0.1:9", key="").returncode != 0
