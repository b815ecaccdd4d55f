"""What is rendered runs: services, broker, users, keys and the script of `helm test`, on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trustme

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


@pytest.fixture
def certificate() -> dict[str, str]:
    """A Secret as cert-manager makes it, for this machine."""
    made = trustme.CA().issue_cert("127.0.0.1")
    chain = b"".join(each.bytes() for each in made.cert_chain_pems)
    return {"tls.crt": chain.decode(), "tls.key": made.private_key_pem.bytes().decode()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_installation_answers_who_has_its_key(
    scheme: str, certificate: dict[str, str], tmp_path: Path
) -> None:
    """A worker with the shared user claims, fetches from the store, and runs; strangers stay outside."""
    tls = {"existingSecret": "certificate" if scheme == "https" else ""}
    manifests = render("cpu-only", {"gateway": {"tls": tls}})
    keys = secret(manifests, "-keys")
    with (
        installed(manifests, tmp_path, existing={"certificate": certificate}) as url,
        httpx2.Client(base_url=url, trust_env=False, verify=False) as client,
    ):
        wait_until(
            "the gateway to be ready",
            lambda: client.get("/readyz").status_code == 200,
            timeout_s=START_S,
        )
        good = ask(manifests, url, key=keys["admin-key"])
        wrong = ask(manifests, url, key="rk-nobodys")
        header = {"Authorization": f"Bearer {keys['metrics-key']}"}
        metrics = client.get("/metrics", headers=header)
        managing = client.request("DELETE", "/api/delete", headers=header, json={"model": "x"})

    assert url.startswith(f"{scheme}://")
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
