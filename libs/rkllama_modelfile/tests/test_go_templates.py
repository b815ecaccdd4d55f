"""Go templates of the known families, in the forms that people write them, and their twins."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from rkllama_modelfile import TemplateError, UnknownTemplateError, fills_in, is_go, twin
from rkllama_modelfile import template_twins as twins

LOOP = "{{- range .Messages }}%s{{ .Role }}%s{{ .Content }}%s{{ end }}%s"
BOS = {"bos_token": "<bos>"}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "A"},
    {"role": "assistant", "content": "B"},
    {"role": "user", "content": "C"},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
}
CALLED = [*TALK, CALL, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]

QWEN_TOOLS = """{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>
{{- else if .Messages }}
{{- if or .System .Tools }}<|im_start|>system
{{- if .System }}
{{ .System }}
{{- end }}
{{- if .Tools }}

You may call one or more functions. <tools>{{ range .Tools }}{{ .Function }}{{ end }}</tools>
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
THINKING{{ if .Content }}{{ .Content }}
{{- else if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}{{ if not $last }}<|im_end|>{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>{{ .Content }}</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}
{{- else }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}{{ .Response }}{{ if .Response }}<|im_end|>{{ end }}"""
THINKING = """{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"""
SWITCH = '{{ if .Think }}{{ " " }}/think{{ else }}{{- " /no_think" }}{{ end }}'

LLAMA3_TURNS = """{{- range $i, $_ := .Messages }}
{{- if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>

{{ .Content }}<|eot_id|>
{{- else }}<|start_header_id|>{{ .Role }}<|end_header_id|>
{{- if and $.Tools (eq .Role "user") }}

Given these, respond with a JSON for a function call: {{ $.Tools }}
{{- end }}

{{ .Content }}<|eot_id|>{{ end }}{{ end }}"""

KNOWN = [
    pytest.param("{{ .Prompt }}", twins.PLAIN, id="nothing but the prompt"),
    pytest.param("{{- .Prompt -}} {{ .Response }}", twins.PLAIN, id="and the response"),
    pytest.param(
        LOOP % ("<|im_start|>", "\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
        twins.CHATML,
        id="chatml",
    ),
    pytest.param(
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n{{ .Response }}<|im_end|>",
        twins.CHATML,
        id="chatml of old",
    ),
    pytest.param(QWEN_TOOLS.replace("THINKING", ""), twins.QWEN2_5, id="qwen2.5"),
    pytest.param(QWEN_TOOLS.replace("THINKING", THINKING + SWITCH), twins.QWEN3, id="qwen3"),
    pytest.param(
        QWEN_TOOLS.replace("THINKING", "").replace(
            "You may call one or more functions.", "You are an expert in composing functions."
        ),
        twins.SMOLLM2,
        id="smollm2",
    ),
    pytest.param(
        LOOP % ("<|im_start|>", "\n" + THINKING, "<|im_end|>\n", "<|im_start|>assistant\n"),
        twins.CHATML_THINKING,
        id="chatml with thinking",
    ),
    pytest.param(
        LOOP % ("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>"),
        twins.PHI4,
        id="phi4",
    ),
    pytest.param(
        LOOP % ("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "{{ .Response }}"),
        twins.LLAMA3,
        id="llama3",
    ),
    pytest.param(LLAMA3_TURNS, twins.LLAMA3_1, id="llama3.1"),
    pytest.param(
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n"
        "{{ .System }}<|eot_id|>" + LLAMA3_TURNS,
        twins.LLAMA3_2,
        id="llama3.2",
    ),
    pytest.param(
        "[INST] <<SYS>>{{ .System }}<</SYS>>\n\n{{ .Prompt }} [/INST]", twins.LLAMA2, id="llama2"
    ),
    pytest.param(
        "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]",
        twins.MISTRAL_SPACED,
        id="mistral of old",
    ),
    pytest.param(
        '{{ range .Messages }}{{ if eq .Role "user" }}[INST] {{ .Content }}[/INST]'
        "{{ else }} {{ .Content }}</s>{{ end }}{{ end }}",
        twins.MISTRAL,
        id="mistral",
    ),
    pytest.param(
        '{{ range .Messages }}{{ if eq .Role "user" }}'
        "{{ if $.Tools }}[AVAILABLE_TOOLS] {{ json $.Tools }}[/AVAILABLE_TOOLS]{{ end }}"
        "[INST] {{ .Content }}[/INST]{{ end }}{{ end }}",
        twins.MISTRAL_TOOLS,
        id="mistral with tools",
    ),
    pytest.param(
        '{{ $s := "" }}{{ range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}model'
        "{{ else }}{{ .Role }}{{ end }}\n{{ .Content }}<end_of_turn>\n{{ end }}",
        twins.GEMMA,
        id="gemma",
    ),
    pytest.param(
        LOOP % ("<|", "|>\n", "<|end|>\n", "<|assistant|>\n"), twins.PHI3, id="phi3, roles joined"
    ),
    pytest.param(LOOP % ("<|", "|>\n", "</s>\n", "<|assistant|>\n"), twins.ZEPHYR, id="zephyr"),
    pytest.param(
        "{{ .System }}{{ range .Messages }}<\uff5cUser\uff5c>{{ .Content }}<\uff5cAssistant\uff5c>"
        "{{ end }}{{/* }} a comment */}}",
        twins.DEEPSEEK,
        id="deepseek",
    ),
    pytest.param(
        "{{ range .Messages }}<\uff5cUser\uff5c>{{ .Content }}<\uff5cAssistant\uff5c>"
        "<think>\n\n</think>{{ end }}",
        twins.DEEPSEEK_R1,
        id="deepseek-r1",
    ),
    pytest.param(
        "{{ .System }}\n\n### Instruction:\n{{ .Prompt }}\n\n### Response:\n",
        twins.ALPACA,
        id="alpaca",
    ),
    pytest.param("{{ .System }}\nUSER: {{ .Prompt }}\nASSISTANT:", twins.VICUNA, id="vicuna"),
]


@pytest.mark.parametrize(("go", "expected"), KNOWN)
def test_a_familys_template_gets_its_twin(go: str, expected: str) -> None:
    assert is_go(go)
    assert twin(go) == expected


ALL = {
    name: value
    for name, value in vars(twins).items()
    if isinstance(value, str) and name.isupper() and not name.startswith("_")
}


def rendered(template: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    environment = Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    # As in transformers: without the escapes for HTML.
    environment.filters["tojson"] = json.dumps
    return environment.from_string(template).render(
        messages=messages, add_generation_prompt=True, **variables
    )


@pytest.mark.parametrize("name", ALL)
def test_a_twin_is_jinja_and_says_everything(name: str) -> None:
    text = rendered(ALL[name], TALK)

    assert not is_go(ALL[name])
    assert [letter for letter in text if letter in "SABC"] or name == "PLAIN"
    assert all(letter in text for letter in "SABC")
    assert text.index("A") < text.index("B") < text.rindex("C")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CHATML", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n"),
        ("PHI3", "<|system|>\nS<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n"),
        ("GEMMA", "<bos><start_of_turn>user\nS\n\nA<end_of_turn>\n<start_of_turn>model\nB"),
        ("LLAMA3", "<bos><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"),
        ("LLAMA2", "<bos>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B </s><bos>[INST] C [/INST]"),
        ("MISTRAL", "<bos>[INST] S\n\nA[/INST] B</s>[INST] C[/INST]"),
        ("ZEPHYR", "<|system|>\nS</s>\n<|user|>\nA</s>\n"),
        ("ALPACA", "S\n\n### Instruction:\nA\n\n### Response:\nB\n\n### Instruction:\nC"),
        ("DEEPSEEK_R1", "<bos>S<\uff5cUser\uff5c>A<\uff5cAssistant\uff5c>B<\uff5cend\u2581of"),
    ],
)
def test_the_layout(name: str, expected: str) -> None:
    assert rendered(ALL[name], TALK, **BOS).startswith(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "QWEN2_5",
            """<|im_start|>assistant
<tool_call>
{"name": "f", "arguments": {"x": 1}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
1
</tool_response>
<tool_response>
2
</tool_response><|im_end|>
<|im_start|>assistant
""",
        ),
        ("LLAMA3_1", '{"name": "f", "parameters": {"x": 1}}<|eot_id|><|start_header_id|>ipython'),
        ("MISTRAL_TOOLS", '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}]</s>[TOOL_RESULTS]'),
    ],
)
def test_tools_are_told_and_called(name: str, expected: str) -> None:
    text = rendered(ALL[name], CALLED, tools=[TOOL])

    assert '"parameters": {}' in text
    assert expected in text


@pytest.mark.parametrize("name", ["QWEN3", "CHATML_THINKING", "DEEPSEEK_R1"])
def test_thinking_can_be_turned_off(name: str) -> None:
    thought = [*TALK[:2], {"role": "assistant", "content": "<think>hm</think>\n\nB"}, TALK[3]]

    assert rendered(ALL[name], thought, enable_thinking=False).endswith("<think>\n\n</think>\n\n")
    assert "hm" not in rendered(ALL[name], thought)


CHATML = LOOP % ("<|im_start|>", "\n", "<|im_end|>\n", "<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("go", "text"),
    [
        ("{{ .System }} and {{ json .Prompt }}", "of no family known here"),
        ("{{ range .Messages }}{{ .Content }}{{ end }}", "of no family known here"),
        ("{{ if eq .System .Prompt }}{{ .Prompt }}{{ end }}", "of no family known here"),
        (
            "You are a pirate. " + CHATML,
            "text of its own, which would be lost: 'You are a pirate.'",
        ),
        (CHATML + "<|tool_list|>", "text of its own"),
        ('{{ $x := "Ahoy" }}' + CHATML, "text of its own, which would be lost: 'Ahoy'"),
        (CHATML + '{{ printf "Ahoy %s" .Content }}', "'Ahoy'"),
        ("{{ if .Tools }}{{ .Tools }}{{ end }}" + CHATML, "describes tools in a form"),
        ("{{ if .Tools }}<start_of_turn><end_of_turn>{{ end }}", "describes tools in a form"),
        ("[SYSTEM_PROMPT]{{ $.System }}[INST]{{ .Prompt }}[/INST]", "text of its own"),
    ],
)
def test_what_would_be_lost_is_refused(go: str, text: str) -> None:
    with pytest.raises(UnknownTemplateError, match="give a Jinja template") as refused:
        twin(go)

    assert text in str(refused.value)


@pytest.mark.parametrize(
    "go",
    [
        "{{ json .Messages }}",
        "{{- len .Prompt -}}",
        '{{ printf "%s" .Prompt }}',
        "{{ nope $.Prompt }}",
    ],
)
def test_a_template_of_calls_alone_is_no_jinja(go: str) -> None:
    """As Jinja it would be the attribute of a name that nobody has: an empty prompt."""
    assert is_go(go)
    with pytest.raises(UnknownTemplateError):
        twin(go)


@pytest.mark.parametrize(
    "jinja",
    [
        '{{ a or "b" }}',
        '{{ a ~ "b" }}',
        '{{ a if b else "c" }}',
        '{{ a | default("b") }}',
        "{{ a .b }}",
    ],
)
def test_an_expression_of_jinja_is_no_call_of_go(jinja: str) -> None:
    assert not is_go(jinja)


@pytest.mark.parametrize(
    ("go", "text"),
    [
        ("{{ .System", "template: :1: unclosed action"),
        ("{{", "template: :1: unclosed action"),
        ("{{ .System }}{{ x", "template: :1: unclosed action"),
        ("{{ .Prompt }}\n{{ .System }", "template: :2: unclosed action"),
        ("{{ if .System }}x", "unexpected EOF"),
        ("{{ .Prompt }}{{ end }}", "unexpected {{end}}"),
    ],
)
def test_what_is_not_well_formed(go: str, text: str) -> None:
    assert is_go(go)
    with pytest.raises(TemplateError) as refused:
        twin(go)

    assert text in str(refused.value)


PIECES = st.sampled_from(
    [
        "{{", "}}", "{{-", "-}}", "{{ .Role }}", "{{ if .Tools }}", "{{ end }}", "{{ else }}", '"',
        "`", "/*", "*/", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", " ", "\\", "$x := ",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=25).map("".join))
def test_any_text_has_a_twin_or_is_refused(text: str) -> None:
    with suppress(TemplateError):
        Environment().parse(twin(text))  # noqa: S701


@pytest.mark.parametrize(
    "text",
    ["{{ .x" + " " * 200_000, "{{" * 100_000, "{{ if .x }}" * 20_000, '{{ "' + '\\"' * 100_000],
)
@pytest.mark.timeout(10)
def test_a_large_text_takes_no_long_time(text: str) -> None:
    with pytest.raises(TemplateError):
        twin(text)


TURNS = [
    pytest.param("{{ .System }} {{ .Prompt }}", "S AB C", id="words between"),
    pytest.param("Q: {{ .Prompt }}\nA: {{ .Response }}\n", "Q: A\nA: B\nQ: C\nA: ", id="cut"),
    pytest.param(
        "{{ if .System }}[{{ .System }}] {{ end }}{{ .Prompt }}!",
        "[S] A!BC!",
        id="a condition",
    ),
    pytest.param(
        "{{- if .System }}\n{{ .System }}\n{{- end }}\n\n{{- .Prompt -}}\n\n=",
        "\nSA=BC=",
        id="white space is trimmed",
    ),
    pytest.param(
        "{{ if and .System .Prompt }}1{{ else if not .System }}2{{ else }}3{{ end }}{{.Prompt}};",
        "1A;B2C;",
        id="else",
    ),
    pytest.param(
        "{{ .Prompt }}{{ if .Response }}>{{ .Response }}<{{ end }}|",
        "A>B<|C",
        id="block that is cut",
    ),
    pytest.param(
        '{{/* {{ */}}"{{ .Prompt }}" \\n%} {% é', '"A" \\n%} {% éB"C" \\n%} {% é', id="text"
    ),
]


@pytest.mark.parametrize(("go", "text"), TURNS)
def test_a_template_of_turns_is_translated(go: str, text: str) -> None:
    """Once for each turn, and for the last one up to where the model goes on (contract 6.2)."""
    assert rendered(twin(go), TALK) == text


@pytest.mark.parametrize(
    ("go", "fills"),
    [
        ("{{ .System }} {{ .Prompt }} {{ .Response }}", False),
        (
            "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}{{ else }}{{ .Prompt }}{{ end }}",
            True,
        ),
    ],
)
def test_only_a_template_with_a_suffix_fills_in_the_middle(go: str, *, fills: bool) -> None:
    """The capability `insert` is read from the translation."""
    assert fills_in(twin(go)) is fills


def test_a_translated_template_fills_in_the_middle() -> None:
    """It gets the prompt and the suffix, and nothing else (contract 2.7)."""
    go = "{{ if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>{{ else }}{{ .Prompt }}{{ end }}"

    assert rendered(twin(go), [], prompt="p", suffix="s") == "<PRE> p <SUF>s <MID>"
    assert rendered(twin(go), TALK) == "ABC"
