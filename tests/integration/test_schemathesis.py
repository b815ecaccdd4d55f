"""What our own document describes, and what it does not, thrown at every operation of it: `make test-attacks`.

The examples are the same in every run. What a server of ours may answer is its document's to say: no status
from 500 on that the operation does not name, no text of an exception, no answer of another shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import hypothesis
import ollama
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.openapi.operations import OPERATIONS
from schemathesis import GenerationMode

from tests.emulated import create, emulated, known

pytestmark = pytest.mark.attacks

EXAMPLES = 40
ANSWER_S = 60
MODEL = "tiny"
LABELS = [f"{each.method.upper()} {each.path}" for each in OPERATIONS]
ENDS = {"DELETE /api/delete", "POST /api/create"}
"""What would take the model away is not asked for it."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with one emulated board and one small model, which no hub is behind."""
    folder = tmp_path_factory.mktemp("attacked")
    env = {"HF_HUB_OFFLINE": "1", "RKLLAMA_DEBUG": "true", "RKLLAMA_GATEWAY_NO_WORKER_S": "0.5"}
    with emulated(folder, "abi-1.3.0", **env) as stack:
        with ollama.Client(host=stack.url, trust_env=False) as client:
            create(client, MODEL, known(8), folder)
        yield stack.url


@pytest.fixture(scope="module")
def operations(url: str) -> dict[str, Any]:
    """Every operation, by its label."""
    schema = schemathesis.openapi.from_dict(
        httpx2.get(f"{url}/openapi.json", trust_env=False).json()
    )
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.label: operation for operation in found}


def aimed(case: Any, hit: bool) -> Any:
    """The same request, for the model that there is where it names one and should hit."""
    if hit and isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = MODEL
    return case


@pytest.mark.parametrize("label", LABELS)
def test_nothing_that_is_sent_breaks_the_server(
    url: str, operations: dict[str, Any], label: str
) -> None:
    operation = operations[label]
    documented = set(operation.definition.raw["responses"])
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]

    @hypothesis.seed(20260101)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(case=st.one_of(*strategies), hit=st.booleans())
    def attack(case: Any, hit: bool) -> None:
        answer = aimed(case, hit and label not in ENDS).call(base_url=url, timeout=ANSWER_S)
        judge(answer, documented)

    attack()


def judge(answer: Any, documented: set[str]) -> None:
    """Hold an answer against what the document says."""
    status, text = answer.status_code, answer.text
    if status >= 500:
        assert str(status) in documented, f"{status} is not documented: {text}"
    assert "internal error" not in text
    assert "Internal Server Error" not in text
    assert "Traceback" not in text
    of_text = "application/json" in answer.headers.get("content-type", [""])[0]
    if status >= 400 and of_text and answer.request.method != "HEAD":
        assert "error" in json.loads(text)


def test_the_server_is_as_it_was(url: str) -> None:
    """After all of it: the model answers, and no worker was lost."""
    with ollama.Client(host=url, trust_env=False) as client:
        answer = client.generate(model=MODEL, prompt="hello", options={"num_predict": 4})

    assert answer.done
