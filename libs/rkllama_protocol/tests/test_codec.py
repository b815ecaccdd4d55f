"""Messages and chunks as bytes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol import codec
from rkllama_protocol.codec import (
    Chunk,
    MalformedMessageError,
    decode,
    decode_chunk,
    encode,
    encode_chunk,
)
from rkllama_protocol.errors import BY_CODE, RkllamaError, from_wire
from rkllama_protocol.messages import Claim, Taken

ids = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)


@given(
    st.builds(
        Chunk,
        seq=st.integers(0, 10**6),
        ids=ids,
        content=st.text(),
        thinking=st.text(),
        prompt_tokens=st.integers(0, 10**6),
        decode_ns=st.integers(0, 10**15),
        finish=st.sampled_from(["", "stop", "length"]),
        context=ids,
    )
)
def test_a_chunk_comes_back_as_it_was(chunk: Chunk) -> None:
    assert decode_chunk(encode_chunk(chunk)) == chunk


def test_a_token_costs_few_bytes() -> None:
    assert encode_chunk(Chunk(seq=7, ids=(42,), content="x")) == (
        b'{"v":1,"seq":7,"ids":[42],"content":"x"}'
    )


def test_a_message_comes_back_as_it_was() -> None:
    claim = Claim(job_id="j", attempt=1, worker_id="w")

    assert decode(Claim, encode(claim)) == claim


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b'{"v":1}', b'{"v":1,"job_id":"a.b","attempt":1}', b"\xff"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode(Taken, data)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"v":1}', b'{"v":1,"ids":3}'])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_chunk(data)


def test_another_version_is_refused() -> None:
    old = orjson.dumps({"v": 0, "job_id": "j", "attempt": 1})

    with pytest.raises(MalformedMessageError, match="version 0"):
        decode(Taken, old)
    with pytest.raises(MalformedMessageError, match="version 2"):
        decode_chunk(b'{"v":2,"seq":0}')


def test_unknown_fields_are_refused_in_tests_and_ignored_in_the_field() -> None:
    newer = orjson.dumps({"v": 1, "job_id": "j", "attempt": 1, "mood": "good"})
    with pytest.raises(MalformedMessageError, match="mood"):
        decode(Taken, newer)
    with pytest.raises(MalformedMessageError, match="mood"):
        decode_chunk(b'{"v":1,"seq":0,"mood":"good"}')

    with codec.tolerant():
        assert decode(Taken, newer) == Taken(job_id="j", attempt=1)
        assert decode_chunk(b'{"v":1,"seq":0,"mood":"good"}') == Chunk(seq=0)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_crosses_the_wire_as_what_it_was(code: str) -> None:
    error = from_wire(code, "why")

    assert (error.code, error.message) == (code, "why")


def test_an_error_of_a_newer_peer_is_an_internal_one() -> None:
    assert type(from_wire("brand_new", "why")) is RkllamaError
