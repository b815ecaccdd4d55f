"""Bodies are read as Go reads them (contract 1.2); the texts were taken from Go 1.26 itself."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.gokinds import ANY, mapping
from rkllama_gateway.dialects.goscan import MAX_DEPTH, MOST_TOKENS, syntax_error
from rkllama_gateway.dialects.ollama import bodies

GOLDEN = Path(__file__).parent / "golden" / "go_json.ndjson"
"""Body and error of `json.NewDecoder(body).Decode(&request)` with Ollama's request types."""

KINDS = {
    "ChatRequest": bodies.CHAT,
    "GenerateRequest": bodies.GENERATE,
    "ShowRequest": bodies.SHOW,
    "CreateRequest": bodies.CREATE,
    "PullRequest": bodies.PULL,
}
VALUES = mapping(ANY)

plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
near_json = st.lists(
    st.sampled_from(
        [
            *'{}[],:"\\ \n',
            "1",
            "-",
            ".",
            "e",
            "null",
            "tru",
            '"model"',
            '"messages"',
            "\\u12",
            "NaN",
        ]
    ),
    max_size=14,
).map("".join)


def refusal(body: bytes, kind: Any = bodies.CHAT) -> str:
    with pytest.raises(DialectError) as caught:
        decode(body, kind)
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(
    "case", [json.loads(line) for line in GOLDEN.read_text().splitlines()], ids=lambda c: c["body"]
)
def test_errors_have_the_text_of_go(case: dict[str, str]) -> None:
    """Some clients show `missing request body` and `cannot unmarshal ...` to people as they are."""
    body = case["body"].encode()

    if case["error"]:
        assert refusal(body, KINDS[case["type"]]) == case["error"]
    else:
        decode(body, KINDS[case["type"]])


@given(st.binary(max_size=60) | near_json.map(str.encode))
def test_no_body_raises_anything_but_a_refusal(body: bytes) -> None:
    """A traceback would be a 500 without a text."""
    for kind in KINDS.values():
        with contextlib.suppress(DialectError):
            decode(body, kind)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain_json))
def test_well_formed_bodies_decode_as_the_standard_library_decodes_them(value: Any) -> None:
    """Only what Go does differently is done differently."""
    for ascii_only in (True, False):
        body = json.dumps(value, ensure_ascii=ascii_only).encode()

        assert decode(body + b" trailing", VALUES) == value


@given(plain_json)
def test_the_scanner_finds_nothing_wrong_with_well_formed_json(value: Any) -> None:
    assert syntax_error(json.dumps(value).encode()) is None


@given(near_json)
def test_scanner_and_standard_library_agree_on_what_is_well_formed(text: str) -> None:
    """A body that one takes and the other refuses would get no text at all."""
    body = '{"a":[' + text + "]}"
    refused = syntax_error(body.encode()) is not None

    try:
        json.JSONDecoder(parse_constant=int).raw_decode(body)
    except ValueError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize(
    "body", [b'{"MODEL":"x"}', b'{"Model":"x"}', b'{"MODEL":null,"model":"x"}']
)
def test_field_names_match_in_any_case(body: bytes) -> None:
    assert decode(body, bodies.CHAT) == {"model": "x"}


def test_a_long_s_is_an_s_in_a_field_name() -> None:
    """Go folds names by Unicode."""
    assert decode('{"\u017ftream":true}'.encode(), bodies.CHAT) == {"stream": True}


@pytest.mark.parametrize(
    "field", ["stream", "options", "format", "think", "keep_alive", "messages", "model", "tools"]
)
def test_null_is_the_same_as_absent(field: str) -> None:
    assert decode(json.dumps({field: None}).encode(), bodies.CHAT) == {}


def test_null_after_a_value_forgets_it_where_go_has_a_pointer() -> None:
    body = b'{"stream":true,"model":"x","stream":null,"model":null}'

    assert decode(body, bodies.CHAT) == {"model": "x"}


def test_the_last_of_duplicate_keys_wins() -> None:
    assert decode(b'{"model":"a","MODEL":"b"}', bodies.CHAT) == {"model": "b"}


def test_a_null_among_list_elements_is_a_zero_value() -> None:
    body = b'{"messages":[null],"context":[null,1]}'

    assert decode(body, bodies.CHAT)["messages"] == [{}]
    assert decode(body, bodies.GENERATE)["context"] == [0, 1]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"\xe2\x82x", "\ufffd\ufffdx"),
        (b"\\ud800", "\ufffd"),
        (b"\\ud83d\\ude00", "\U0001f600"),
        (b"\\ud83dA\xc3\xa9", "\ufffdA\u00e9"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
def test_what_is_no_unicode_becomes_a_replacement_character(raw: bytes, text: str) -> None:
    """Byte by byte, as in Go; a lone surrogate left in a string would break every encoder later."""
    assert decode(b'{"model":"' + raw + b'"}', bodies.CHAT) == {"model": text}


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("1", 1),
        ("1.0", 1),
        ("1.7", 1.7),
        ("1e3", 1000),
        ("-0", 0),
        ("1" * 400, None),
        ("1e999", None),
    ],
)
def test_numbers_of_any_size_are_float64(literal: str, value: float | None) -> None:
    body = f'{{"options":{{"a":{literal}}}}}'.encode()

    if value is None:
        expected = f"json: cannot unmarshal number {literal} into Go struct field "
        assert refusal(body) == expected + "ChatRequest.options of type float64"
    else:
        assert decode(body, bodies.CHAT)["options"] == {"a": value}


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"[" * 5000])
def test_deep_nesting_is_refused_with_gos_words(body: bytes) -> None:
    assert refusal(body).endswith("' exceeded max depth")


def test_a_value_that_is_kept_may_be_as_deep_as_a_job_can_carry() -> None:
    def options(levels: int) -> bytes:
        return b'{"options":{"a":' + b"[" * levels + b"]" * levels + b"}}"

    decode(options(MAX_DEPTH), bodies.CHAT)
    assert refusal(options(MAX_DEPTH + 1)) == "invalid character '[' exceeded max depth"
    deep = b'{"options":{"a":' + b'{"a":' * MAX_DEPTH + b'{"a":1}' + b"}" * MAX_DEPTH + b"}}"
    assert refusal(deep) == "invalid character '{' exceeded max depth"


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (b"", "unexpected EOF"),
        (b'"x', "unexpected EOF"),
        (b"[" * 5000, "exceeded max depth"),
        (b"x]}", f"invalid JSON at character {12 + 2 * MOST_TOKENS}: Expecting value"),
    ],
)
def test_a_long_malformed_body_is_not_searched_to_its_end(tail: bytes, text: str) -> None:
    """Go's exact words are not worth seconds in which nobody else is served."""
    assert refusal(b'{"context":[' + b"1," * MOST_TOKENS + tail, bodies.GENERATE) == text


def test_a_body_may_be_missing_in_other_words() -> None:
    """The OpenAI endpoints say `EOF`."""
    with pytest.raises(DialectError, match="EOF"):
        decode(b" ", bodies.CHAT, missing="EOF")
