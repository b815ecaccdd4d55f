"""generate and chat with everything that shapes a prompt, through the whole system.

The emulated model goes on from the very ids it gets, so that its answer proves which they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript

from tests.emulated import SPECIAL, create, emulated, prompt_ids
from tests.stack import Stack

FIM = SPECIAL | {
    258: "<|fim_prefix|>",
    259: "<|fim_suffix|>",
    260: "<|fim_middle|>",
    261: "<|fim_pad|>",
}
LENGTH = 12


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One emulated board, which all tests share."""
    with emulated(tmp_path_factory.mktemp("whole"), "abi-1.3.0") as running:
        yield running


@pytest.fixture
def client(npu: Stack) -> Iterator[ollama.Client]:
    with ollama.Client(host=npu.url, trust_env=False) as client:
        yield client


@pytest.fixture
def script(client: ollama.Client, tmp_path: Path) -> ModelScript:
    """The model `m`, which goes on with any ids."""
    return create(client, "m", ModelScript(), tmp_path)


class Asking:
    """Requests in plain JSON: the client library knows no `_debug_render_only`."""

    def __init__(self, url: str, http: httpx2.Client) -> None:
        self._url, self._http = url, http

    def __call__(self, path: str, **fields: Any) -> httpx2.Response:
        body = {"model": "m", "stream": False, **fields}
        return self._http.post(f"{self._url}/api/{path}", json=body)

    def answer(self, path: str, **fields: Any) -> dict[str, Any]:
        fields["options"] = {"num_predict": LENGTH} | fields.get("options", {})
        answer = self(path, **fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def rendered(self, path: str, **fields: Any) -> str:
        answer = self(path, _debug_render_only=True, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["_debug_info"]["rendered_template"])


@pytest.fixture
def ask(npu: Stack, http: httpx2.Client) -> Asking:
    return Asking(npu.url, http)


def said(script: ModelScript, ids: list[int]) -> str:
    """What the model says behind these ids."""
    return script.text(script.continuation(ids, LENGTH)).decode()


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def test_a_context_is_gone_on_with_id_by_id(ask: Asking, script: ModelScript) -> None:
    """Contract 2.7: out, and in again."""
    first = ask.answer("generate", prompt="one")
    second = ask.answer("generate", prompt="two", context=first["context"])

    ids = prompt_ids(script, "one")
    assert first["response"] == said(script, ids)
    assert first["context"] == ids + script.continuation(ids, LENGTH)
    behind = first["context"] + prompt_ids(script, "two")
    assert second["response"] == said(script, behind)
    assert second["context"] == behind + script.continuation(behind, LENGTH)
    assert second["prompt_eval_count"] == len(behind)


def test_a_raw_prompt_has_no_template_and_no_context(ask: Asking, script: ModelScript) -> None:
    """Contract 2.7."""
    answer = ask.answer("generate", prompt="as it is", raw=True, system="")

    assert answer["response"] == said(script, script.tokenize("as it is"))
    assert "context" not in answer


def test_a_suffix_is_asked_for_in_the_models_own_tokens(
    ask: Asking, client: ollama.Client, tmp_path: Path
) -> None:
    """Contract 2.7; `insert` is among the capabilities by the tokenizer."""
    script = create(client, "fim", ModelScript(), tmp_path, special=FIM)
    fields = {"model": "fim", "prompt": "def f():", "suffix": "return 1", "system": "not told"}
    text = "<|fim_prefix|>def f():<|fim_suffix|>return 1<|fim_middle|>"

    assert "insert" in (client.show("fim").capabilities or ())
    assert ask.rendered("generate", **fields) == text
    assert ask.answer("generate", **fields)["response"] == said(script, script.tokenize(text))


def test_a_suffix_needs_a_model_that_fills_in(ask: Asking, script: ModelScript) -> None:
    """Contract 1.5."""
    answer = ask("generate", prompt="a", suffix="b")

    assert answer.status_code == 400
    assert answer.json() == {"error": "registry.ollama.ai/library/m:latest does not support insert"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .System }}|{{ .Prompt }}|", "S|hi|"),
        ("{{ if .System }}<{{ .System }}>{{ end }}{{ .Prompt }}{{ .Response }}!", "<S>hi"),
        ("{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}", "system=S;user=hi;"),
    ],
)
def test_a_template_is_taken_for_one_request(
    ask: Asking, script: ModelScript, template: str, text: str
) -> None:
    """Contract 2.7: in Ollama's language, or the one of the model's own."""
    fields = {"prompt": "hi", "system": "S", "template": template}

    assert ask.rendered("generate", **fields) == text
    assert ask.answer("generate", **fields)["response"] == said(script, script.tokenize(text))
    assert ask.answer("generate", prompt="hi")["response"] == said(script, prompt_ids(script, "hi"))


@pytest.mark.parametrize(
    ("template", "text"),
    [("{{ .Prompt", "template: :1: unclosed action"), ("{% if %}", "template: ")],
)
def test_a_template_that_is_none_is_told(
    ask: Asking, script: ModelScript, template: str, text: str
) -> None:
    """Contract 1.5."""
    answer = ask("generate", prompt="hi", template=template)

    assert answer.status_code == 500
    assert answer.json()["error"].startswith(text)


def test_a_prompt_is_shown_without_a_run(
    npu: Stack, ask: Asking, client: ollama.Client, tmp_path: Path
) -> None:
    """Contract 2.7: also to a client that streams, which is the default."""
    # A run of this model would never end.
    create(client, "hanging", ModelScript(fault="hang"), tmp_path)
    messages = [user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d")]
    answer = ask("chat", model="hanging", messages=messages, stream=True, _debug_render_only=True)

    assert answer.json()["_debug_info"]["rendered_template"] == (
        "<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
        "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ask.rendered("generate", model="hanging", prompt="raw", raw=True) == "raw"


def test_the_oldest_messages_go_and_the_system_message_stays(
    ask: Asking, script: ModelScript
) -> None:
    """Contract 2.8."""
    talk = [{"role": "system", "content": "be brief"}]
    for number in range(9):
        talk += [user(f"question {number}"), {"role": "assistant", "content": f"answer {number}"}]
    talk.append(user("last"))
    shown = ask.rendered("chat", messages=talk, options={"num_ctx": 256})

    assert "be brief" in shown
    assert "question 0" not in shown
    assert "answer 8" in shown
    assert shown.endswith("<|im_start|>user\nlast<|im_end|>\n<|im_start|>assistant\n")
    assert len(script.tokenize(shown)) < 256
    whole = ask("chat", messages=talk, truncate=False, options={"num_ctx": 256})
    assert whole.status_code == 400
    assert "longer than the context" in whole.json()["error"]


def test_a_last_message_too_long_is_cut_in_its_middle_unless_that_is_forbidden(
    ask: Asking, script: ModelScript
) -> None:
    """Contract 2.9."""
    options = {"num_ctx": 128, "num_predict": 4, "num_keep": 5}
    fields: dict[str, Any] = {"messages": [user("word " * 90)], "options": options}
    answer = ask.answer("chat", **fields)
    refused = ask("chat", shift=False, **fields)

    ids = prompt_ids(script, "word " * 90)
    count = answer["prompt_eval_count"]
    cut = ids[:5] + ids[5 - count :]
    assert count < 128
    assert answer["message"]["content"] == script.text(script.continuation(cut, 4)).decode()
    assert refused.status_code == 400
    assert "longer than the context" in refused.json()["error"]


def test_the_models_own_messages_stand_first(
    ask: Asking, client: ollama.Client, script: ModelScript
) -> None:
    """Contract 2.7, 2.8: but not behind a context, and its SYSTEM only where the client has none."""
    embedded = [
        {"role": "user", "content": "E"},
        {"role": "assistant", "content": "F"},
    ]
    client.create("own", from_="m", system="S", messages=embedded)

    def roles(path: str, **fields: Any) -> list[str]:
        shown = ask.rendered(path, model="own", **fields)
        return [part.partition("<|im_end|>")[0] for part in shown.split("<|im_start|>")[1:-1]]

    theirs = {"role": "system", "content": "T"}
    turns = ["user\nE", "assistant\nF", "user\nG"]
    assert roles("generate", prompt="G") == ["system\nS", *turns]
    assert roles("generate", prompt="G", system="T") == ["system\nT", *turns]
    assert roles("generate", prompt="G", context=[65]) == ["system\nS", "user\nG"]
    assert roles("chat", messages=[user("G")]) == ["system\nS", *turns]
    assert roles("chat", messages=[theirs, user("G")]) == [*turns[:2], "system\nT", turns[2]]
