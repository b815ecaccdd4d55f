"""Our own headers of a request, as tables."""

from __future__ import annotations

import math

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.terms import deadline_s, job_class
from rkllama_protocol.subjects import JobClass


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, JobClass.INTERACTIVE),
        ({"x-rkllama-class": "interactive"}, JobClass.INTERACTIVE),
        ({"x-rkllama-class": "batch"}, JobClass.BATCH),
        ({"x-rkllama-class": " Batch "}, JobClass.BATCH),
    ],
)
def test_a_class_is_one_of_two(headers: dict[str, str], expected: JobClass) -> None:
    assert job_class(headers) is expected


@pytest.mark.parametrize("text", ["resume", "urgent", "batch,batch"])
def test_another_class_is_refused(text: str) -> None:
    """`resume` is not for clients: it goes before everybody else."""
    with pytest.raises(DialectError) as refused:
        job_class({"x-rkllama-class": text})

    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, math.inf), ({"x-rkllama-deadline": "30"}, 30.0), ({"x-rkllama-deadline": "0.5"}, 0.5)],
)
def test_a_deadline_is_in_seconds(headers: dict[str, str], seconds: float) -> None:
    assert deadline_s(headers) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "soon", "10s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DialectError) as refused:
        deadline_s({"x-rkllama-deadline": text})

    assert refused.value.status == 400
