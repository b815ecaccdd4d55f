"""What a hub's answers mean, in words: who has to do what about them. No I/O.

The headers are the hub's own: `X-Error-Code` tells a missing repository from a gated one, both of
which come as 401 to somebody unknown (huggingface_hub `hf_raise_for_status`).
"""

from __future__ import annotations

from collections.abc import Mapping

from rkllama_protocol.errors import UpstreamError
from rkllama_transfer.retrying import PassingError, retry_after_s

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


def refused(
    status: int,
    headers: Mapping[str, str],
    *,
    what: str,
    repo: str,
    site: str,
    token: bool,
) -> UpstreamError:
    """The error for an answer that is none.

    Args:
        status: Of the answer.
        headers: Of the answer, case-insensitive.
        what: The file that was asked for, or empty for the repository.
        repo: `<user>/<repo>`.
        site: Address of the hub.
        token: Whether a token was sent.
    """
    host = site.partition("://")[2]
    code = headers.get("x-error-code", "")
    said = headers.get("x-error-message", "")[:200]
    of_file = f"{what} in {repo}" if what else repo
    if status in BUSY:
        wait_s = retry_after_s(headers.get("retry-after", ""))
        if status != 429:
            return PassingError(f"{host} has trouble of its own ({status})", retry_after_s=wait_s)
        hint = "" if token else "; with HF_TOKEN set it allows more"
        wait = f" for {wait_s:.0f} s" if wait_s is not None else ""
        return PassingError(f"{host} asks to wait{wait} (429){hint}", retry_after_s=wait_s)
    if code == "GatedRepo":
        account = "with the account of HF_TOKEN" if token else "and set HF_TOKEN"
        return UpstreamError(f"{repo} is gated: accept its conditions at {site}/{repo} {account}")
    if status == 401 and "Invalid credentials" in said:
        return UpstreamError(f"{host} does not accept HF_TOKEN: it is wrong, or has expired")
    if code == "EntryNotFound" or (status == 404 and what and code != "RepoNotFound"):
        return UpstreamError(f"there is no {of_file}")
    if status in {401, 404}:
        if token:
            return UpstreamError(f"there is no {repo} on {host} that HF_TOKEN may read")
        return UpstreamError(
            f"there is no {repo} on {host}, or it is private: then set HF_TOKEN to a token that may read it"
        )
    if status == 403:
        return UpstreamError(f"{host} denies access to {of_file}" + (f": {said}" if said else ""))
    return UpstreamError(f"{host} answered {status} for {of_file}")
