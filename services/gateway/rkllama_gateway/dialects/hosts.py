"""Who may ask from a browser: Ollama's CORS rules and its guard against DNS rebinding.

origin first, then host, then routing                       (contract 1.11)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - an origin, nothing is bound
BUILT_IN_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in _LOCAL
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
"""Origins that are always allowed; `*` stands for any text, once in an entry."""

_STAINLESS = (
    "Arch",
    "Async",
    "Custom-Poll-Interval",
    "Helper-Method",
    "Lang",
    "Os",
    "Package-Version",
    "Poll-Helper",
    "Retry-Count",
    "Runtime",
    "Runtime-Version",
    "Timeout",
)
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        ",".join(
            (
                "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
                *(f"X-Stainless-{name}" for name in _STAINLESS),
            )
        ),
    ),
    ("Access-Control-Max-Age", "43200"),
)
_VARY = (("Vary", "Origin"),)
_VARY_PREFLIGHT = (
    *_VARY,
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginVerdict:
    """What becomes of a request because of its origin."""

    status: int = 0
    """403: refuse it, with an empty body; 204: a preflight, answered; 0: go on."""
    headers: tuple[tuple[str, str], ...] = ()
    """To add to the answer; a name may stand several times."""


def judge_origin(
    method: str, *, origin: str, host: str, extra: Sequence[str] = ()
) -> OriginVerdict:
    """Judge a request by its headers `Origin` and `Host`.

    Args:
        method: Of the request.
        origin: Empty where there is no such header.
        host: As the client sent it, port included.
        extra: More allowed origins, as in `OLLAMA_ORIGINS`; `*` alone allows all.
    """
    if not origin or origin in (f"http://{host}", f"https://{host}"):
        return OriginVerdict()
    everyone = "*" in extra
    if not everyone and not origin_allowed(origin, (*extra, *BUILT_IN_ORIGINS)):
        return OriginVerdict(status=403)
    allow = ("Access-Control-Allow-Origin", "*" if everyone else origin)
    if method != "OPTIONS":
        return OriginVerdict(headers=(allow, *(() if everyone else _VARY)))
    vary = () if everyone else _VARY_PREFLIGHT
    return OriginVerdict(status=204, headers=(allow, *_PREFLIGHT, *vary))


def origins(text: str) -> tuple[str, ...]:
    """The origins in a list with commas, as `OLLAMA_ORIGINS` has it."""
    return tuple(origin.strip() for origin in text.split(",") if origin.strip())


def origin_allowed(origin: str, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` stands for `origin`."""
    return any(_matches(origin.lower(), pattern.strip().lower()) for pattern in patterns)


def _matches(origin: str, pattern: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return origin == pattern
    long_enough = len(origin) >= len(head) + len(tail)
    return long_enough and origin.startswith(head) and origin.endswith(tail)


def host_allowed(host: str, *, hostname: str, own_addresses: frozenset[str] = frozenset()) -> bool:
    """Whether the header `Host` names this machine, or one that only a local network knows.

    To be asked only by what listens on loopback: what listens wider is reached by names that nobody
    here knows.

    Args:
        host: The header, port included; may be empty.
        hostname: What this machine calls itself.
        own_addresses: IP addresses of its interfaces.
    """
    if named_here(host, hostname=hostname):
        return True
    address = _address(_without_port(host).lower())
    if address is None:
        return False
    private = any(address.version == net.version and address in net for net in _PRIVATE)
    return private or address.is_loopback or address.is_unspecified or str(address) in own_addresses


def named_here(host: str, *, hostname: str) -> bool:
    """Whether the header `Host` has no address, but a name of this machine or of a local network.

    To these Ollama answers every OPTIONS with 204 (`allowedHostsMiddleware`).
    """
    name = _without_port(host).lower()
    return name in ("", "localhost", hostname.lower()) or name.endswith(_LOCAL_SUFFIXES)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
