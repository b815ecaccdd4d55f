"""A gateway in a container: it listens on every address, and is told where its port is published."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from tests.stack import Stack

EVERYWHERE = "0.0.0.0"  # noqa: S104 - as a container does


def gateway_of(folder: Path, published: str, *, gateways: int = 1, **env: str) -> Stack:
    return Stack(
        folder,
        workers=0,
        gateways=gateways,
        env={
            "RKLLAMA_HOST": EVERYWHERE,
            "RKLLAMA_GATEWAY_PUBLISHED_HOST": published,
            "RKLLAMA_STORE_BUNDLED": "false",
            **env,
        },
    )


def tags(stack: Stack, *, gateway: str = "gateway", **headers: str) -> int:
    url = stack.urls[gateway].replace(EVERYWHERE, "127.0.0.1")
    return httpx2.get(f"{url}/api/tags", headers=headers, trust_env=False).status_code


def test_published_on_loopback_it_takes_no_key_and_answers_only_to_local_names(
    tmp_path: Path,
) -> None:
    """A page that rebinds its name to 127.0.0.1 comes through the published port as well."""
    with gateway_of(tmp_path, "127.0.0.1") as stack:
        statuses = [tags(stack), tags(stack, host="evil.example"), tags(stack, host="localhost")]

    assert statuses == [200, 403, 200]
    assert not (tmp_path / "keys.json").exists()


def test_published_wider_it_takes_a_key_that_it_prints_at_its_first_start_only(
    tmp_path: Path,
) -> None:
    with gateway_of(tmp_path, EVERYWHERE, gateways=2) as stack:
        (key,) = re.findall(r"rk-\S+", stack.log("gateway").read_text())
        printed_again = re.findall(r"rk-\S+", stack.log("gateway-2").read_text())
        statuses = [tags(stack), tags(stack, authorization=f"Bearer {key}")]
        second = tags(stack, gateway="gateway-2", authorization=f"Bearer {key}", host="any.example")

    assert (statuses, second) == ([401, 200], 200)
    assert printed_again == []


@pytest.mark.parametrize("published", ["127.0.0.1", EVERYWHERE])
def test_what_is_said_of_keys_goes_before_the_address(tmp_path: Path, published: str) -> None:
    with gateway_of(tmp_path, published, RKLLAMA_AUTH="off") as stack:
        assert tags(stack) == 200
