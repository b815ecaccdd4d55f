"""From request and model to a job: Ollama's checks, options and prompts (contract 1.5, 1.7, 1.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama.jobs import LoadIntent, UnloadIntent, chat_job, generate_job
from rkllama_gateway.dialects.ollama.requests import parse_chat, parse_generate
from rkllama_gateway.dialects.options import KINDS
from rkllama_modelfile import twin
from rkllama_protocol.messages import ChatMessage, Job, ModelDetails, ResolvedModel, Sampling

NOW = "2026-01-02T03:04:05Z"
FULL = "registry.ollama.ai/library/plain:latest"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


def plain(*capabilities: str, **facts: Any) -> ResolvedModel:
    return ResolvedModel(
        name="plain:latest",
        full_name=FULL,
        digest="sha256:" + "1" * 64,
        size=1,
        modified_at="2026-01-02T03:04:05+01:00",
        capabilities=capabilities or ("completion",),
        **{"details": ModelDetails(), **facts},
    )


def chat(
    model: ResolvedModel, *, served: int = 0, **fields: Any
) -> Job | LoadIntent | UnloadIntent:
    request = parse_chat(json.dumps({"model": "Plain", "messages": [USER], **fields}).encode())
    return chat_job(request, model, job_id="j", now=NOW, seed=77, context_length=served)


def generate(
    model: ResolvedModel, *, served: int = 0, **fields: Any
) -> Job | LoadIntent | UnloadIntent:
    request = parse_generate(json.dumps({"model": "Plain", "prompt": "hi", **fields}).encode())
    return generate_job(request, model, job_id="j", now=NOW, seed=77, context_length=served)


def run(intent: Job | LoadIntent | UnloadIntent) -> Job:
    assert isinstance(intent, Job)
    return intent


def refusal(function: Any, model: ResolvedModel, **fields: Any) -> tuple[int, str]:
    with pytest.raises(DialectError) as caught:
        function(model, **fields)
    return caught.value.status, caught.value.message


def test_a_chat_becomes_a_job() -> None:
    job = run(chat(plain(), keep_alive="10m", think=False, truncate=False))

    assert job == Job(
        job_id="j",
        model=plain(),
        kind="chat",
        messages=(ChatMessage(role="user", content="hi"),),
        think=False,
        sampling=Sampling(seed=77),
        truncate=False,
        keep_alive_s=600.0,
        now=NOW,
    )


SYSTEM = ChatMessage(role="system", content="model says")
EMBEDDED = ChatMessage(role="assistant", content="embedded")
SAID = ChatMessage(role="user", content="hi")


def test_the_models_system_stands_first_and_its_messages_follow() -> None:
    """Contract 2.8."""
    model = plain(system="model says", messages=(EMBEDDED,))

    assert run(chat(model)).messages == (SYSTEM, EMBEDDED, SAID)


def test_a_system_message_of_the_client_replaces_the_models_only_when_it_comes_first() -> None:
    """Contract 2.8."""
    model = plain(system="model says", messages=(EMBEDDED,))
    system = {"role": "System", "content": "client says"}
    theirs = ChatMessage(role="system", content="client says")

    assert run(chat(model, messages=[system, USER])).messages == (EMBEDDED, theirs, SAID)
    assert run(chat(model, messages=[USER, system])).messages == (SYSTEM, EMBEDDED, SAID, theirs)


def test_a_prompt_is_a_conversation() -> None:
    """Contract 2.7: the request's system replaces the model's, embedded messages stay."""
    model = plain("completion", "vision", system="model says", messages=(EMBEDDED,))
    theirs = ChatMessage(role="system", content="client says")
    seen = ChatMessage(role="user", content="hi", images=("QQ==",))

    assert run(generate(plain())).messages == (SAID,)
    assert run(generate(model)).messages == (SYSTEM, EMBEDDED, SAID)
    assert run(generate(model, system="client says")).messages == (theirs, EMBEDDED, SAID)
    assert run(generate(model, images=["QQ=="])).messages == (SYSTEM, EMBEDDED, seen)


def test_a_raw_prompt_is_taken_as_it_is() -> None:
    job = run(generate(plain(system="model says", messages=(EMBEDDED,)), raw=True))

    assert (job.kind, job.prompt, job.messages) == ("completion", "hi", ())


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_nothing_to_say_and_nothing_to_keep_unloads_whatever_else_is_asked(keep_alive: Any) -> None:
    """Contract 1.7; the shortcut comes before every check of the model (1.5)."""
    model = plain("embedding")

    asked = {"keep_alive": keep_alive, "think": True, "options": {"top_k": "x"}}

    assert chat(model, messages=[], **asked) == UnloadIntent(model=model)
    assert generate(model, prompt="", **asked) == UnloadIntent(model=model)


def test_nothing_to_say_loads() -> None:
    """Contract 2.7, 2.8."""
    for intent in (
        chat(plain(), messages=[], keep_alive=-1),
        generate(plain(), prompt="", keep_alive=-1),
    ):
        assert isinstance(intent, LoadIntent)
        assert (intent.job.kind, intent.job.messages, intent.keep_alive_s) == ("load", (), -1.0)


def test_a_request_with_keep_alive_zero_is_served_first() -> None:
    assert run(chat(plain(), keep_alive=0)).keep_alive_s == 0.0


@pytest.mark.parametrize(
    ("function", "capabilities", "fields", "status", "text"),
    [
        (chat, ("completion",), {"think": True}, 400, '"Plain" does not support thinking'),
        (chat, ("completion",), {"think": "low"}, 400, '"Plain" does not support thinking'),
        (generate, ("completion",), {"think": True}, 400, '"Plain" does not support thinking'),
        (chat, ("embedding",), {}, 400, '"Plain" does not support chat'),
        (generate, ("embedding",), {}, 400, '"Plain" does not support generate'),
        (generate, ("embedding",), {"prompt": ""}, 400, '"Plain" does not support generate'),
        (chat, ("completion",), {"tools": [TOOL]}, 400, f"{FULL} does not support tools"),
        (generate, ("completion",), {"suffix": "s"}, 400, f"{FULL} does not support insert"),
        (generate, ("completion",), {"images": ["QQ=="]}, 400, f"{FULL} does not support vision"),
        (
            chat,
            ("completion",),
            {"messages": [USER | {"images": ["QQ=="]}]},
            400,
            f"{FULL} does not support vision",
        ),
        *(
            (
                generate,
                ("embedding",),
                {"raw": True, name: value},
                400,
                "raw mode does not support template, system, or context",
            )
            for name, value in {"template": "t", "system": "s", "context": [1]}.items()
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_in_ollamas_words(
    function: Any, capabilities: tuple[str, ...], fields: Any, status: int, text: str
) -> None:
    """Contract 1.5."""
    assert refusal(function, plain(*capabilities), **fields) == (status, text)


ABLE = plain("completion", "thinking", "insert", "vision", "tools")


@pytest.mark.parametrize("function", [chat, generate])
@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"think": "low"}, {"think": "low"}),
        ({"think": False}, {"think": False}),
        ({"format": "json"}, {"format": "json"}),
        ({"format": {"type": "object"}}, {"format": {"type": "object"}}),
        ({"logprobs": True}, {"top_logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 5}, {"top_logprobs": 5}),
        ({"top_logprobs": 5}, {"top_logprobs": None}),
        ({"_debug_render_only": True}, {"render_only": True}),
        ({"truncate": False}, {"truncate": False}),
        ({"shift": False}, {"shift": False}),
        ({"truncate": None, "shift": None, "think": None}, {}),
        ({"options": {"num_keep": 9.9}}, {"num_keep": 9}),
    ],
)
def test_what_is_asked_for_is_in_the_job(
    function: Any, fields: dict[str, Any], asked: dict[str, Any]
) -> None:
    """Contract 2.7, 2.8."""
    expected = run(function(ABLE)).model_copy(update=asked)

    assert run(function(ABLE, **fields)) == expected


@pytest.mark.parametrize(
    ("capabilities", "parameters", "asked", "think"),
    [
        (("completion",), {}, None, None),
        (("completion",), {"think": True}, None, None),
        (("completion", "thinking"), {}, None, True),
        (("completion", "thinking"), {"think": False}, None, False),
        (("completion", "thinking"), {"think": "high"}, None, "high"),
        (("completion", "thinking"), {"think": 1}, None, True),
        (("completion", "thinking"), {"think": False}, True, True),
        (("completion", "thinking"), {"think": True}, False, False),
    ],
)
def test_a_model_that_can_think_does_unless_it_is_told_not_to(
    capabilities: tuple[str, ...], parameters: dict[str, Any], asked: Any, think: Any
) -> None:
    """Contract 2.7; `think` is a parameter of the predecessor's Modelfiles."""
    model = plain(*capabilities, parameters=parameters)

    assert run(chat(model, think=asked)).think == think
    assert run(generate(model, think=asked)).think == think


def test_a_context_takes_the_place_of_the_models_messages() -> None:
    """Contract 2.7: its SYSTEM stays."""
    model = plain(system="model says", messages=(EMBEDDED,))
    job = run(generate(model, context=[5, 6]))

    assert (job.messages, job.context) == ((SYSTEM, SAID), (5, 6))


def test_a_suffix_goes_with_the_prompt_alone() -> None:
    """Contract 2.7."""
    model = plain("completion", "insert", system="model says", messages=(EMBEDDED,))
    job = run(generate(model, suffix="end", system="s", context=[5]))

    assert (job.kind, job.prompt, job.suffix, job.messages) == ("completion", "hi", "end", ())
    assert job.context == (5,)


def test_a_raw_prompt_has_no_suffix() -> None:
    job = run(generate(ABLE, suffix="end", raw=True))

    assert (job.kind, job.prompt, job.suffix) == ("completion", "hi", "")


@pytest.mark.parametrize("fields", [{"raw": True}, {"suffix": "s"}])
def test_images_need_a_template_that_says_where_they_stand(fields: dict[str, Any]) -> None:
    text = "this server does not support images without a template"

    assert refusal(generate, ABLE, images=["QQ=="], **fields) == (400, text)


@pytest.mark.parametrize(
    ("given", "jinja"),
    [
        ("", ""),
        ("{{ messages[0].content }}", "{{ messages[0].content }}"),
        ("plain words", "plain words"),
        ("{{ .Prompt }}", twin("{{ .Prompt }}")),
        ("{{ .System }}: {{ .Prompt }}", twin("{{ .System }}: {{ .Prompt }}")),
    ],
)
def test_a_template_is_for_this_request_alone(given: str, jinja: str) -> None:
    """Ollama's own language is put into the one that engines render."""
    assert run(generate(plain(), template=given)).template == jinja


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .Prompt", "template: :1: unclosed action"),
        ("{{ if .Prompt }}", "template: :1: unexpected EOF"),
        (
            "{{ range .Messages }}{{ .Content }}{{ end }}",
            "template: this Go template is of no family",
        ),
    ],
)
def test_a_template_that_is_none_is_told(template: str, text: str) -> None:
    """Contract 1.5."""
    status, message = refusal(generate, plain(), template=template)

    assert status == 500
    assert message.startswith(text)


@pytest.mark.parametrize("fields", [{"template": "{{ .x"}, {"format": "xml"}])
def test_a_load_takes_no_notice_of_how_to_answer(fields: dict[str, Any]) -> None:
    """As in Ollama, which looks at them behind the load."""
    assert isinstance(generate(plain(), prompt="", **fields), LoadIntent)


def test_a_wrong_option_comes_before_a_wrong_format() -> None:
    """The order of checks (contract 1.5)."""
    wrong = {"options": {"top_k": "x"}, "format": "xml", "template": "{{ .x"}

    assert refusal(generate, plain(), **wrong)[1].startswith("option")


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_format_is_none(value: Any) -> None:
    assert run(chat(plain(), format=value)).kind == "chat"


@pytest.mark.parametrize(
    ("value", "shown"), [("xml", r"\"xml\""), (5, "5"), (True, "true"), ([], "[]")]
)
def test_a_format_that_is_none_of_ollamas_is_named(value: Any, shown: str) -> None:
    """Contract 1.5."""
    text = f'invalid format: "{shown}"; expected "json" or a valid JSON Schema object'

    assert refusal(chat, plain(), format=value) == (500, text)


def test_tools_go_to_a_model_that_has_them() -> None:
    assert run(chat(plain("completion", "tools"), tools=[TOOL])).tools == (TOOL,)
    assert run(chat(plain(), tools=[])).tools == ()


def test_defaults_are_ollamas() -> None:
    """Contract 1.8."""
    job = run(chat(plain()))

    assert job.sampling == Sampling(
        temperature=0.8, top_k=40, top_p=0.9, min_p=0.0, typical_p=1.0, repeat_last_n=64,
        repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0, seed=77,
    )  # fmt: skip
    assert (job.num_predict, job.num_ctx, job.stop) == (-1, None, ())


def test_the_request_comes_before_the_model() -> None:
    """`stop` is replaced, not merged (contract 1.8)."""
    model = plain(parameters={"temperature": 0.1, "top_k": 3.0, "stop": ["a", "b"], "seed": 5})

    of_model = run(chat(model))
    of_both = run(chat(model, options={"temperature": 1, "stop": ["c"], "seed": None}))

    assert (of_model.sampling.temperature, of_model.sampling.top_k) == (0.1, 3)
    assert (of_model.stop, of_model.sampling.seed) == (("a", "b"), 5)
    assert (of_both.sampling.temperature, of_both.sampling.top_k) == (1.0, 3)
    assert (of_both.stop, of_both.sampling.seed) == (("c",), 5)


@pytest.mark.parametrize(
    ("parameters", "options", "asked"),
    [
        ({}, {}, ()),
        ({}, {"min_p": 0, "seed": 5}, ("min_p", "seed")),
        ({"top_k": 3}, {"temperature": 0.8}, ("temperature", "top_k")),
        ({"top_k": 3, "stop": ["a"]}, {"top_k": None, "num_ctx": 64}, ("top_k",)),
        ({}, {"num_predict": 5, "stop": ["a"], "mirostat": 1, "num_gpu": 1}, ()),
        ({"seed": 5}, {"seed": -1}, ()),
    ],
)
def test_a_job_says_which_ways_of_choosing_tokens_were_asked_for(
    parameters: Any, options: Any, asked: tuple[str, ...]
) -> None:
    """Also a default that was said is asked for; a negative seed asks for nothing."""
    model = plain(parameters=parameters)

    assert run(chat(model, options=options)).asked_options == asked
    assert run(generate(model, options=options)).asked_options == asked


@pytest.mark.parametrize(("asked", "used"), [(0, 0), (42, 42), (1.9, 1), (-1, 77), (-5, 77)])
def test_a_negative_seed_means_any(asked: float, used: int) -> None:
    assert run(chat(plain(), options={"seed": asked})).sampling.seed == used


@pytest.mark.parametrize(("asked", "used"), [(1.7, 1), (0, 0), (-2, -1), (1e300, 2**63 - 1)])
def test_integers_take_any_number(asked: float, used: int) -> None:
    """Contract 1.8."""
    assert run(chat(plain(), options={"num_predict": asked})).num_predict == used


def test_a_float_stays_a_float32() -> None:
    assert run(chat(plain(), options={"top_p": 1e300})).sampling.top_p < 3.5e38


@pytest.mark.parametrize(
    ("capabilities", "trained", "asked", "used"),
    [
        (("completion",), None, 8192, 8192),
        (("completion",), 4096, 8192, 4096),
        (("completion",), 4096, 0, 4),
        (("completion", "vision"), 4096, 100, 2048),
    ],
)
def test_the_context_stays_within_what_the_model_has(
    capabilities: tuple[str, ...], trained: int | None, asked: int, used: int
) -> None:
    """Contract 1.8."""
    model = plain(*capabilities, details=ModelDetails(context_length=trained))

    assert run(chat(model, options={"num_ctx": asked})).num_ctx == used


@pytest.mark.parametrize(
    ("served", "parameters", "options", "used"),
    [
        (0, {}, {}, None),
        (2048, {}, {}, 2048),
        (9999, {}, {}, 4096),
        (2048, {"num_ctx": 1024}, {}, 1024),
        (2048, {"num_ctx": 1024}, {"num_ctx": 512}, 512),
        (2048, {}, {"num_ctx": None}, 2048),
    ],
)
def test_the_servers_context_comes_after_request_and_model(
    served: int, parameters: dict[str, Any], options: dict[str, Any], used: int | None
) -> None:
    """Contract 1.8: OLLAMA_CONTEXT_LENGTH."""
    model = plain(parameters=parameters, details=ModelDetails(context_length=4096))

    assert run(chat(model, served=served, options=options)).num_ctx == used
    assert run(generate(model, served=served, options=options)).num_ctx == used


@pytest.mark.parametrize("name", KINDS)
def test_an_option_of_the_wrong_type_is_named(name: str) -> None:
    """Contract 1.5, 1.8; Ollama's status is 500."""
    kinds = {"use_mmap": "boolean", "stop": "array"}
    floats = {name for name, field in Sampling.model_fields.items() if field.annotation is float}
    kind = kinds.get(name, "float32" if name in floats else "integer")

    assert refusal(chat, plain(), options={name: "x"}) == (
        500,
        f'option "{name}" must be of type {kind}',
    )


def test_stop_is_a_list_of_strings() -> None:
    """Contract 1.8."""
    expected = (500, 'option "stop" must be of an array of strings')

    assert refusal(generate, plain(), options={"stop": ["a", 1]}) == expected


def test_unknown_and_engine_options_do_not_matter() -> None:
    """Contract 1.8: old names are ignored, whatever they hold."""
    options = {"mirostat": "x", "Temperature": "x", "num_gpu": 1, "use_mmap": True, "stop": None}

    assert run(chat(plain(), options=options)) == run(chat(plain()))
