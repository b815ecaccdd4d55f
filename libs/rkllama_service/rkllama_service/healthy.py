"""`python -m rkllama_service.healthy URL`: exit code 0 if the URL answers 200; what containers are asked by.

Nothing but the standard library, for it is started every few seconds on a small board.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4.0


def answer(url: str, *, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """Whether `GET url` is 200, and what was answered or why nothing was.

    Whose certificate it is does not matter: it is this machine that is asked.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, timeout=timeout_s, context=unchecked
        )
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        got = connection.getresponse()
        text = got.read(512).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"{url}: {error or type(error).__name__}"
    finally:
        connection.close()
    return got.status == http.client.OK, text


def main() -> None:
    """Print the answer, for `docker inspect` to show, and exit by it."""
    (url,) = sys.argv[1:]
    healthy, text = answer(url)
    sys.stdout.write(f"{text}\n")
    raise SystemExit(0 if healthy else 1)


if __name__ == "__main__":
    main()
