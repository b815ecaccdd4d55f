"""From a Modelfile to the body of a create."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_modelfile import (
    Message,
    Modelfile,
    ModelfileError,
    parse,
    to_create,
    typed_parameters,
    warnings,
)


def test_the_whole_body() -> None:
    modelfile = Modelfile(
        sources=("base",),
        template="t",
        system="s",
        licenses=("MIT",),
        parameters=(("stop", "a"), ("top_k", "3"), ("stop", "b"), ("top_k", "4"), ("top_p", ".5")),
        messages=(Message("user", "hi"),),
        requires="0.14.0",
        tokenizer_repo="Qwen/Qwen2.5-3B",
    )

    assert to_create(modelfile) == {
        "from": "base",
        "template": "t",
        "system": "s",
        "license": ["MIT"],
        "parameters": {"stop": ["a", "b"], "top_k": 4, "top_p": 0.5},
        "messages": [{"role": "user", "content": "hi"}],
        "requires": "0.14.0",
        "tokenizer_repo": "Qwen/Qwen2.5-3B",
    }


def test_files_stand_in_place_of_from() -> None:
    files, adapters = {"m.gguf": "sha256:1"}, {"l.gguf": "sha256:2"}
    body = to_create(Modelfile(sources=("./m.gguf",)), files=files, adapters=adapters)

    assert body == {"files": files, "adapters": adapters}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_ctx", "+4096", 4096),
        ("seed", "-1", -1),
        ("temperature", "1", 1.0),
        ("temperature", "1e-1", 0.1),
        ("use_mmap", "T", True),
        ("think", "False", False),
        ("stop", "", [""]),
        ("image_start", "<img>", "<img>"),
    ],
)
def test_types(name: str, text: str, value: object) -> None:
    found = typed_parameters([(name, text)])[name]

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("top_k", "1.5", "invalid int value [1.5]"),
        ("top_k", "1_0", "invalid int value [1_0]"),
        ("seed", "9223372036854775808", "invalid int value [9223372036854775808]"),
        ("top_p", "x", "invalid float value [x]"),
        ("top_p", "nan", "invalid float value [nan]"),
        ("top_p", "1e999", "invalid float value [1e999]"),
        ("use_mmap", "yes", "invalid bool value [yes]"),
        ("Top_K", "1", "unknown parameter 'Top_K'"),
    ],
)
def test_values_that_do_not_fit(name: str, text: str, error: str) -> None:
    with pytest.raises(ModelfileError) as refused:
        typed_parameters([(name, text)])

    assert str(refused.value) == error


def test_what_is_left_out_is_said() -> None:
    modelfile = parse("FROM=m\nMIROSTAT=0\nVIDEO_X=1")

    assert to_create(modelfile) == {"from": "m"}
    assert warnings(modelfile) == (
        "parameter 'mirostat' is deprecated and was skipped",
        "key VIDEO_X means nothing here and was skipped",
    )


def test_requires_is_a_version() -> None:
    assert to_create(Modelfile(sources=("m",), requires="1.2.3-rc.1+b"))["requires"]
    with pytest.raises(ModelfileError, match="semver"):
        to_create(Modelfile(sources=("m",), requires="new"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["top_k", "top_p", "stop", "use_mmap", "mirostat"]),
            st.one_of(st.text(max_size=25), st.integers().map(str), st.floats().map(str)),
        )
    )
)
def test_the_body_is_json_or_refused(parameters: list[tuple[str, str]]) -> None:
    try:
        body = to_create(Modelfile(sources=("m",), parameters=tuple(parameters)))
    except ModelfileError:
        return

    assert json.loads(json.dumps(body, allow_nan=False)) == body
