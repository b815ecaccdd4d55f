"""What a container's health is asked by, as a process, against a real port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry
from rkllama_service import http
from starlette.applications import Starlette


async def asked(url: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rkllama_service.healthy", url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().strip()


@pytest.mark.parametrize(
    ("reason", "code", "text"),
    [("", 0, "ok"), ("the broker is unreachable", 1, "the broker is unreachable")],
)
async def test_the_exit_code_is_the_readiness_and_the_text_its_reason(
    reason: str, code: int, text: str
) -> None:
    app = Starlette(routes=http.probes(CollectorRegistry(), lambda: reason))
    with http.bind("127.0.0.1", 0) as sock:
        async with http.serving(app, [sock]):
            assert await asked(f"{http.url_of(sock)}/readyz") == (code, text)


async def test_a_port_that_is_served_with_any_certificate_is_asked_too(tmp_path: Path) -> None:
    app = Starlette(routes=http.probes(CollectorRegistry(), lambda: ""))
    issued = trustme.CA().issue_cert("rkllama.example")
    tls = http.Certificate(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tls.cert)
    issued.private_key_pem.write_to_path(tls.key)
    with http.bind("127.0.0.1", 0) as sock:
        async with http.serving(app, [sock], tls=tls):
            assert await asked(f"{http.url_of(sock, scheme='https')}/readyz") == (0, "ok")


async def test_a_port_that_nobody_listens_on_is_not_healthy() -> None:
    with http.bind("127.0.0.1", 0) as sock:
        url = http.url_of(sock)
    code, text = await asked(f"{url}/readyz")

    assert code == 1
    assert "Connection refused" in text
