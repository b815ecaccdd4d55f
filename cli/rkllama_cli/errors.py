"""What can go wrong between the command line and a server, as sentences.

CliError                  exit code 1
  NoServerError           nobody listens there
  BrokenError             the connection ended before the answer did
  RefusedError            the server answered with an error; `status` is HTTP's, 200 in mid-stream

What a person has to mend before anything can work is a `SetupError` of the process, code 2.
"""

from __future__ import annotations

import json

FAILED = 1
INTERRUPTED = 130
"""As shells have it: 128 and the number of SIGINT."""

_NOT_FOUND = 404
_SAID_ALREADY = frozenset({"unauthorized", "an API key is required", "invalid API key"})
"""A server's words that add nothing to the sentence."""


class CliError(Exception):
    """A command failed; the text is one sentence for the person who typed it."""


class NoServerError(CliError):
    """Nobody answers at the address."""

    def __init__(self, url: str) -> None:
        super().__init__(f"no server answers at {url}; start one with `rkllama serve`")


class BrokenError(CliError):
    """The connection ended before the answer did."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the connection to {url} broke before the answer was complete")


class RefusedError(CliError):
    """The server said no."""

    def __init__(self, sentence: str, *, status: int) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def not_found(self) -> bool:
        """Whether it said that there is no such model."""
        return self.status == _NOT_FOUND


def refusal(status: int, body: bytes, *, retry_after: str = "", key_sent: bool) -> RefusedError:
    """The sentence for an answer with an error status."""
    text = _text(body)
    match status:
        case 401 if key_sent:
            sentence = f"the server does not accept this key; set RKLLAMA_API_KEY{_because(text)}"
        case 401:
            sentence = f"the server wants a key; set RKLLAMA_API_KEY{_because(text)}"
        case 403:
            sentence = text or "the server does not allow this"
        case 503 if retry_after:
            sentence = f"{text or 'the server is busy'}; try again in {_seconds(retry_after)}"
        case _:
            sentence = text or f"the server answered {status} and gave no reason"
    return RefusedError(sentence, status=status)


def _text(body: bytes) -> str:
    """The server's own words: `{"error":...}`, or one line of plain text."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        lines = body.decode(errors="replace").strip().splitlines()
        # A page of a proxy is no sentence.
        return lines[0] if len(lines) == 1 and not lines[0].startswith("<") else ""
    if isinstance(said, dict):
        said = said.get("message", "")
    return str(said)


def _because(text: str) -> str:
    return f" ({text})" if text and text not in _SAID_ALREADY else ""


def _seconds(retry_after: str) -> str:
    if not retry_after.isdecimal():
        return "a while"
    return "1 second" if int(retry_after) == 1 else f"{int(retry_after)} seconds"
