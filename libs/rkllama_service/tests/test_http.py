"""Addresses that are listened on."""

from __future__ import annotations

import pytest
from rkllama_service.http import is_loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("", False),
        ("192.168.1.2", False),
        ("box", False),
    ],
)
def test_only_loopback_is_this_machine_alone(address: str, loopback: bool) -> None:
    """Contract 1.11: there hosts are checked, and `rkllama serve` asks for no key."""
    assert is_loopback(address) is loopback
