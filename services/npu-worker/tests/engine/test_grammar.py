"""What a client asks for, as a grammar: which answers it lets through, token by token."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from rkllama_protocol.errors import InvalidJobError, UnsupportedError
from rkllama_protocol.messages import Job
from rkllama_protocol.templates import ThinkingTags
from rkllama_worker.engine import grammar
from rkllama_worker.engine.constraint import GrammarConstraint, Vocabulary
from rkllama_worker.engine.grammar import Thinking, call_form, prepared
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.requirement import required
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

MakeJob = Callable[..., Job]
TAGS = ThinkingTags("<think>", "</think>")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
WEATHER: dict[str, grammar.Schema] = {
    "weather": {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "$defs": {"city": {"enum": ["Rome"]}}},
    "clock": {"type": "object"},
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(facts: ModelFiles) -> Vocabulary:
    return Vocabulary(facts)


def fits(vocabulary: Vocabulary, text: str, answer: str) -> bool:
    """Whether the grammar lets `answer` through, whole, and lets it end there."""
    constraint = GrammarConstraint(vocabulary, text)
    for token in vocabulary.tokenizer.tokenize_str(answer):
        if token not in constraint.allowed():
            return False
        constraint.accept(token)
    return constraint.satisfied


def of(schema: grammar.Schema, thinking: Thinking = "none") -> str:
    body = grammar.of_schema(schema)
    return grammar.whole(body, thinking=thinking, tags=TAGS, literally=json.dumps)


@pytest.mark.parametrize(
    ("schema", "answer", "fitting"),
    [
        (PERSON, '{"name": "Ada", "age": 36}', True),
        (PERSON, '{"name":"Ada","age":36}', True),
        (PERSON, '{\n  "name": "Ada",\n  "age": 36\n}', True),
        (PERSON, '{"name": "漢字 🦜", "age": -1}', True),
        (PERSON, '{"name": "Ada", "age": 36', False),
        (PERSON, '{"name": "Ada", "age": 3.6}', False),
        (PERSON, '{"name": "Ada"}', False),
        (PERSON, '{"name": "Ada", "age": 36, "town": "London"}', False),
        (PERSON, '{"name":' + " " * 40 + '"Ada", "age": 36}', False),
        ({**PERSON, "additionalProperties": True}, '{"name": "A", "age": 3, "a": 1}', True),
        ({"type": "object"}, '{"a": [1, {"b": null}]}', True),
        ({"type": "object"}, "[1]", False),
        ({"type": "string", "format": "shoe-size"}, '"any"', True),
        ({"type": "string", "format": "uuid"}, '"any"', False),
        (True, "[1, null]", True),
    ],
)
def test_json_by_a_schema(
    vocabulary: Vocabulary, schema: grammar.Schema, answer: str, fitting: bool
) -> None:
    assert fits(vocabulary, of(schema), answer) is fitting


@pytest.mark.parametrize(
    ("thinking", "answer", "fitting"),
    [
        ("none", "<think>hm</think>3", False),
        ("none", "3", True),
        ("possible", "<think>hm, {3}\n</think>3", True),
        ("possible", "3", True),
        ("possible", "<think>hm</think>so: 3", False),
        ("possible", "<think>hm", False),
        ("begun", "hm <b> </think>3", True),
        ("begun", "hm", False),
        ("begun", "</think>3", True),
    ],
)
def test_the_body_begins_where_the_reasoning_ends(
    vocabulary: Vocabulary, thinking: Thinking, answer: str, fitting: bool
) -> None:
    """Contract 2.8: thinking is not constrained, the constraint holds once content starts."""
    assert fits(vocabulary, of({"type": "integer"}, thinking), answer) is fitting


def test_tags_that_are_special_tokens_are_those_tokens(vocabulary: Vocabulary) -> None:
    """SmolLM2 has no thinking tokens; these two stand in for some."""
    tags = ThinkingTags("<|im_start|>", "<file_sep>")
    body = grammar.of_schema({"type": "integer"})
    text = grammar.whole(body, thinking="possible", tags=tags, literally=vocabulary.literally)
    constraint = GrammarConstraint(vocabulary, text)

    for token in (1, *vocabulary.tokenizer.tokenize_str("hm, 3 <file_sep"), 5):
        assert token in constraint.allowed()
        constraint.accept(token)

    assert set(vocabulary.tokenizer.tokenize_str("hm")).isdisjoint(constraint.allowed())


HERMES = "<tool_call>{{ tools }}</tool_call>"


@pytest.mark.parametrize(
    ("template", "answer", "fitting"),
    [
        (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>', True),
        (HERMES, '<tool_call>\n{"name": "clock", "arguments": {"x": 1}}\n</tool_call>', True),
        (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>', False),
        (HERMES, '<tool_call>\n{"name": "stove", "arguments": {}}\n</tool_call>', False),
        (HERMES, "It is sunny.", False),
        ("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "clock", "arguments": {}}]', True),
        ("<|python_tag|>", '{"name": "clock", "parameters": {}}', True),
        ("<|tool_call|> <|/tool_call|>", '<|tool_call|>\n{"name": "clock", "arguments": {}}\n<|/tool_call|>', True),
        ("no marks", '{"name": "clock", "arguments": {}}', True),
    ],
)  # fmt: skip
def test_a_call_is_written_as_the_template_shows(
    vocabulary: Vocabulary, template: str, answer: str, fitting: bool
) -> None:
    """References in a tool's schema are its own."""
    body = grammar.of_call(WEATHER, call_form(template), vocabulary.literally)
    text = grammar.whole(body, thinking="none", tags=None, literally=vocabulary.literally)

    assert fits(vocabulary, text, answer) is fitting


@pytest.mark.parametrize(
    ("answer", "fitting"),
    [
        ('<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>', True),
        ('{"name": "Ada", "age": 36}', True),
        ('{"name": "clock", "arguments": {}}', False),
        ("It is sunny.", False),
    ],
)
def test_an_agents_answer_is_a_call_or_in_its_format(
    vocabulary: Vocabulary, answer: str, fitting: bool
) -> None:
    body = grammar.of_either(PERSON, WEATHER, call_form(HERMES), vocabulary.literally)
    text = grammar.whole(body, thinking="none", tags=None, literally=vocabulary.literally)

    assert fits(vocabulary, text, answer) is fitting


OBJECT: dict[str, Any] = {"properties": {"a": {"format": "path"}}}
CLOSED = {"properties": {"a": {}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, True),
        (OBJECT, CLOSED),
        ({"items": OBJECT}, {"items": CLOSED}),
        ({"items": [OBJECT]}, {"items": [CLOSED]}),
        ({"$defs": {"x": OBJECT}}, {"$defs": {"x": CLOSED}}),
        ({"anyOf": [OBJECT, True]}, {"anyOf": [CLOSED, True]}),
        ({"format": "date", "x-guidance": {"lenient": True}}, {"format": "date"}),
        # Names of properties are no keywords.
        ({"properties": {"allOf": True, "format": {}}}, {"properties": {"allOf": True, "format": {}}, "additionalProperties": False}),
        # Told apart, the parts of one object must stay open for each other.
        ({"allOf": [OBJECT]}, {"allOf": [{"properties": {"a": {}}}]}),
        ({**OBJECT, "anyOf": [OBJECT]}, {"properties": {"a": {}}, "anyOf": [{"properties": {"a": {}}}]}),
        ({**OBJECT, "patternProperties": {}}, {"properties": {"a": {}}, "patternProperties": {}}),
        ({"const": {"properties": {"format": 1}}}, {"const": {"properties": {"format": 1}}}),
    ],
)  # fmt: skip
def test_a_schema_is_never_made_wider(schema: grammar.Schema, expected: object) -> None:
    assert prepared(schema) == expected


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string", "pattern": "(?=x)x"}, "regex parse error: .* look-ahead .* not supported"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "Unsatisfiable schema: minimum .5. .* maximum .1."),
        (False, "Unsatisfiable schema: anyOf is empty"),
        # What refers to itself alone compiles, and has no answer.
        ({"$ref": "#"}, "NoExtensionBias"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "NoExtensionBias"),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_refused_and_says_why(
    vocabulary: Vocabulary, schema: grammar.Schema, reason: str
) -> None:
    """Of the grammar, which the client has not written, nothing is told."""
    with pytest.raises(InvalidJobError, match=f"^no answer can be held to the schema: {reason}$"):
        GrammarConstraint(vocabulary, of(schema))


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"type": "array", "uniqueItems": True}, "[1, 1]"),
        ({"not": {"type": "string"}}, '"a"'),
        ({"type": "object", "propertyNames": {"pattern": "^a"}}, '{"b": 1}'),
        ({"if": {"type": "object"}, "then": {"required": ["a"]}}, "{}"),
    ],
)
def test_what_no_grammar_can_say_is_left_to_the_check(
    vocabulary: Vocabulary, make_job: MakeJob, schema: dict[str, Any], answer: str
) -> None:
    requirement = required(make_job("Hi", format=schema))
    assert requirement is not None

    assert fits(vocabulary, of(schema), answer)
    assert requirement.problem(answer, ())


@pytest.mark.parametrize(
    "given", [None, {}, {"type": "string"}, {"type": ["object", "null"]}, {"properties": {}}]
)
def test_arguments_are_always_an_object(given: object) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": given}}

    found = grammar.parameters([tool], ["f"])["f"]
    assert isinstance(found, dict)
    assert found["type"] == "object"


def test_the_end_is_offered_only_where_the_answer_may_end(vocabulary: Vocabulary) -> None:
    constraint = GrammarConstraint(vocabulary, of({"type": "integer"}))
    end = vocabulary.tokenizer.eos_token

    before = end in constraint.allowed()
    constraint.accept(vocabulary.tokenizer.tokenize_str("7")[0])

    assert (before, end in constraint.allowed(), constraint.complete) == (False, True, False)


def test_what_must_follow_is_known_ahead(vocabulary: Vocabulary) -> None:
    constraint = GrammarConstraint(vocabulary, of({"const": "the only answer there is"}))
    constraint.accept(vocabulary.tokenizer.tokenize_str('"the')[0])

    forced = vocabulary.tokenizer.decode_str(constraint.forced())
    assert forced.startswith("the only answer")


@pytest.mark.parametrize("token", [33, 300, 2000, 49151])
def test_a_token_is_its_bytes(vocabulary: Vocabulary, facts: ModelFiles, token: int) -> None:
    assert vocabulary.bytes_of(token).decode() == facts.tokenizer.decode([token])


def test_half_a_character_is_its_bytes_too(vocabulary: Vocabulary, facts: ModelFiles) -> None:
    ids = facts.tokenizer.encode("🦜", add_special_tokens=False).ids

    assert b"".join(map(vocabulary.bytes_of, ids)) == "🦜".encode()
    assert len(ids) > 1
    assert vocabulary.bytes_of(10**6) == b""


def test_where_no_end_is_known_an_answer_ends_when_it_is_complete(facts: ModelFiles) -> None:
    """Left alone llguidance takes id 0 for the end, in many vocabularies a token like any other."""
    vocabulary = Vocabulary(dataclasses.replace(facts, eos_ids=frozenset()))
    constraint = GrammarConstraint(vocabulary, of({"type": "object"}))

    for token in vocabulary.tokenizer.tokenize_str('{"a": 1}'):
        assert vocabulary.no_end not in constraint.allowed()
        constraint.accept(token)

    assert constraint.complete


def test_a_tokenizer_that_cannot_be_read_so_is_told_of(facts: ModelFiles) -> None:
    words = Tokenizer(WordLevel({"a": 0, "b": 1}))

    with pytest.raises(UnsupportedError, match="this model's tokenizer"):
        Vocabulary(dataclasses.replace(facts, tokenizer=words)).bytes_of(1)
