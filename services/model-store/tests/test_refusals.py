"""What answers of a hub mean, as a table."""

from __future__ import annotations

import pytest
from rkllama_store.refusals import refused
from rkllama_transfer.retrying import PassingError, retry_after_s

SITE = "https://hub.example"


@pytest.mark.parametrize(
    ("status", "headers", "what", "token", "text"),
    [
        (
            401,
            {"x-error-code": "GatedRepo"},
            "f",
            False,
            "u/r is gated: accept its conditions at https://hub.example/u/r and set HF_TOKEN",
        ),
        (
            403,
            {"x-error-code": "GatedRepo"},
            "f",
            True,
            "u/r is gated: accept its conditions at https://hub.example/u/r with the account of HF_TOKEN",
        ),
        (
            401,
            {"x-error-message": "Invalid credentials in Authorization header"},
            "",
            True,
            "hub.example does not accept HF_TOKEN: it is wrong, or has expired",
        ),
        (
            401,
            {"x-error-code": "RepoNotFound"},
            "",
            False,
            "there is no u/r on hub.example, or it is private: then set HF_TOKEN to a token that may read it",
        ),
        (
            404,
            {"x-error-code": "RepoNotFound"},
            "",
            True,
            "there is no u/r on hub.example that HF_TOKEN may read",
        ),
        (
            404,
            {"x-error-code": "RepoNotFound"},
            "f",
            True,
            "there is no u/r on hub.example that HF_TOKEN may read",
        ),
        (404, {"x-error-code": "EntryNotFound"}, "f", False, "there is no f in u/r"),
        (404, {}, "f", False, "there is no f in u/r"),
        (403, {}, "f", False, "hub.example denies access to f in u/r"),
        (403, {"x-error-message": "why"}, "", False, "hub.example denies access to u/r: why"),
        (451, {}, "", False, "hub.example answered 451 for u/r"),
    ],
)
def test_whose_turn_it_is_to_do_what(
    status: int, headers: dict[str, str], what: str, *, token: bool, text: str
) -> None:
    error = refused(status, headers, what=what, repo="u/r", site=SITE, token=token)

    assert error.message == text
    assert not isinstance(error, PassingError)


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (429, {}, None),
        (503, {"retry-after": "0"}, 0.0),
        (502, {}, None),
    ],
)
def test_what_may_pass(status: int, headers: dict[str, str], wait_s: float | None) -> None:
    error = refused(status, headers, what="", repo="u/r", site=SITE, token=True)

    assert isinstance(error, PassingError)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("12", 12.0),
        ("0", 0.0),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("9" * 20, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_count_of_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds
