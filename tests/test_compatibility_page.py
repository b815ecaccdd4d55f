"""`docs/compatibility.md` has every endpoint, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from anthropic.types import message_count_tokens_params as counts
from anthropic.types import message_create_params as messages
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chats
from openai.types.responses import response_create_params as responses
from rkllama_gateway.dialects.anthropic import bodies as anthropic
from rkllama_gateway.dialects.gokinds import Kind
from rkllama_gateway.dialects.ollama import bodies
from rkllama_gateway.dialects.openai import bodies as openai
from rkllama_gateway.dialects.openapi.operations import OPERATIONS
from rkllama_gateway.dialects.openapi.texts import FIELDS
from rkllama_gateway.dialects.options import KINDS
from rkllama_gateway.recent import MOST
from rkllama_gateway.settings import Settings
from rkllama_service.logs import DEBUG_FILE, DEBUG_FILE_BYTES
from rkllama_worker.engine.runtime.rkllm import NEVER_HONOURED

TEXT = (Path(__file__).parents[1] / "docs" / "compatibility.md").read_text()
# The endpoints of the system's document, with their methods.
DOCUMENT = [
    ("/api/tags", "GET"),
    ("/api/version", "GET"),
    ("/api/show", "POST"),
    ("/api/create", "POST"),
    ("/api/pull", "POST"),
    ("/api/delete", "DELETE"),
    ("/api/generate", "POST"),
    ("/api/chat", "POST"),
    ("/api/embeddings", "POST"),
    ("/api/embed", "POST"),
]


def table() -> dict[str, tuple[str, str]]:
    """Path to method and status, a row each; rows of several paths are taken apart."""
    found: dict[str, tuple[str, str]] = {}
    for row in TEXT.split("## Endpoints")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        paths = re.findall(r"`(/[^`]*)`", cells[0])
        methods = cells[1].split(", ") if len(cells) > 1 else []
        several = len(paths) > 1 and len(methods) == len(paths)
        for at, path in enumerate(paths):
            found[path] = (methods[at] if several else cells[1].strip("| "), cells[-1].strip("| "))
    return found


@pytest.mark.parametrize(("path", "method"), DOCUMENT)
def test_every_endpoint_of_the_document_is_there_and_works(path: str, method: str) -> None:
    assert table()[path][0] == method
    assert table()[path][1].startswith("✅")


def test_the_table_has_what_is_served() -> None:
    served = {re.sub(r"\{(\w+)\}", r":\1", each.path) for each in OPERATIONS}

    assert table().keys() == served


def test_what_fails_by_design_is_marked_so() -> None:
    for each in OPERATIONS:
        if each.status >= 400:
            status = table()[re.sub(r"\{(\w+)\}", r":\1", each.path)][1]
            assert status.startswith(f"❌ {each.status}"), each.path


def test_figures_and_names_are_the_codes_own() -> None:
    assert f"level {Settings.model_fields['api_version'].default} " in TEXT
    assert f"last {MOST} requests" in TEXT
    assert f"`{DEBUG_FILE}`" in TEXT
    assert f"at {DEBUG_FILE_BYTES >> 20} MiB" in TEXT
    for name in NEVER_HONOURED:
        assert f"`{name}`" in TEXT
    options = re.search(r"^\| (`num_gpu`.*?) \|", TEXT, re.M)
    assert options is not None
    assert set(re.findall(r"`(\w+)`", options[1])) <= KINDS.keys()


def rows(title: str) -> dict[str, str]:
    """Path to its row in the table of a dialect."""
    section = TEXT.split(f"## {title}")[1].split("\n## ")[0]
    return {row.split("`")[1]: row for row in section.splitlines() if row.startswith("| `/v1/")}


@pytest.mark.parametrize(
    ("path", "read", "sent"),
    [
        ("/v1/chat/completions", openai.CHAT, chats.CompletionCreateParamsBase),
        ("/v1/completions", openai.COMPLETION, completions.CompletionCreateParamsBase),
        ("/v1/embeddings", openai.EMBEDDING, embeddings.EmbeddingCreateParams),
        ("/v1/responses", openai.RESPONSES, responses.ResponseCreateParamsBase),
    ],
)
def test_every_field_of_openais_requests_is_told(path: str, read: Kind, sent: type) -> None:
    """Those that are read here, and those that the client can send."""
    for name in {*read.schema["properties"], *sent.__annotations__}:
        assert f"`{name}`" in rows("OpenAI's API")[path], name


@pytest.mark.parametrize(
    ("path", "read", "sent"),
    [
        ("/v1/messages", anthropic.MESSAGES, messages.MessageCreateParamsBase),
        ("/v1/messages/count_tokens", anthropic.COUNT_TOKENS, counts.MessageCountTokensParams),
    ],
)
def test_every_field_of_anthropics_requests_is_told(path: str, read: Kind, sent: type) -> None:
    for name in {*read.schema["properties"], *sent.__annotations__}:
        assert f"`{name}`" in rows("Anthropic's API")[path], name


def test_every_content_block_of_anthropics_requests_is_told() -> None:
    section = TEXT.split("## Anthropic's API")[1].split("\n## ")[0]
    blocks = FIELDS["anthropic.ContentBlock"]["type"]
    for block in re.findall(r"`(\w+)`", blocks):
        assert f"`{block}`" in section


def test_fields_that_it_names_are_fields() -> None:
    for name in ("renderer", "parser"):
        assert name in bodies.CREATE.schema["properties"]
        assert f"`{name}`" in TEXT
