"""What a request's headers ask beside its body, the same in every dialect.

X-Rkllama-Class: batch        yields to people; `interactive` is what is meant without it
X-Rkllama-Deadline: 30        seconds within which the answer has to begin
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rkllama_protocol.subjects import JobClass

from rkllama_gateway.dialects.errors import DialectError

CLASS = "x-rkllama-class"
DEADLINE = "x-rkllama-deadline"
_CLASSES = {"": JobClass.INTERACTIVE, "interactive": JobClass.INTERACTIVE, "batch": JobClass.BATCH}


def job_class(headers: Mapping[str, str]) -> JobClass:
    """In which lane the request waits.

    Raises:
        DialectError: There is no such class.
    """
    text = headers.get(CLASS, "").strip().lower()
    if text not in _CLASSES:
        raise DialectError(400, "X-Rkllama-Class must be interactive or batch")
    return _CLASSES[text]


def deadline_s(headers: Mapping[str, str]) -> float:
    """Seconds within which the answer has to begin; infinite if nothing is said.

    Raises:
        DialectError: It is no positive number.
    """
    text = headers.get(DEADLINE)
    if text is None:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise DialectError(400, "X-Rkllama-Deadline must be a positive number of seconds")
    return seconds
