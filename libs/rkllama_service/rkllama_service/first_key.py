"""What takes a key where nobody said, and the key that is made where there is none yet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rkllama_service import key_file
from rkllama_service.http import is_loopback
from rkllama_service.key_file import KeyFileError
from rkllama_service.keys import Auth
from rkllama_service.process import SetupError

ANNOUNCEMENT = """\
the key of an administrator, shown only now:

    {text}

set RKLLAMA_API_KEY to it; make others with `rkllama key create`
"""


def auth_for(said: Auth | None, address: str) -> Auth:
    """What was said; else nothing takes a key on this machine alone, and everything beyond it."""
    if said is not None:
        return said
    return Auth.OFF if is_loopback(address) else Auth.ALL


def first_key(auth: Auth, path: Path) -> str | None:
    """What to print once: an admin key, made if keys are asked for and none ever was.

    Raises:
        SetupError: The file of keys cannot be written or read.
    """
    if auth is Auth.OFF:
        return None
    try:
        text = key_file.create_first(path, now=datetime.now(UTC))
    except KeyFileError as error:
        raise SetupError(str(error)) from error
    return None if text is None else ANNOUNCEMENT.format(text=text)
