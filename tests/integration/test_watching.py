"""What the whole system tells of itself: metrics as they are documented, and nobody's words."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.conftest import MODEL
from tests.metrics_page import SECTIONS, documented, exposed
from tests.stack import Stack, prepared, wait_until

MARKER = "xyzzyplugh"
"""A word that stands in everything that is asked, and nowhere else."""
SAID = [{"role": "user", "content": f"Say {MARKER}."}]
SHORT = {"num_predict": 4}
ANTHROPIC = {"model": MODEL, "max_tokens": 4, "messages": SAID}
OPENAI = {"model": MODEL, "max_tokens": 4, "messages": SAID}
SCHEMA = {"type": "object", "properties": {MARKER: {"type": "string"}}, "required": [MARKER]}
TOOL = {
    "type": "function",
    "function": {"name": MARKER, "description": MARKER, "parameters": SCHEMA},
}

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", {"model": MODEL, "messages": SAID, "options": SHORT}),
    ("/api/chat", {"model": MODEL, "messages": SAID, "options": SHORT, "stream": False}),
    ("/api/chat", {"model": MODEL, "messages": SAID, "options": SHORT, "format": SCHEMA}),
    ("/api/chat", {"model": MODEL, "messages": SAID, "options": SHORT, "tools": [TOOL]}),
    ("/api/generate", {"model": MODEL, "prompt": MARKER, "system": MARKER, "options": SHORT}),
    ("/api/embed", {"model": MODEL, "input": [MARKER]}),
    ("/v1/chat/completions", OPENAI),
    ("/v1/responses", {"model": MODEL, "input": MARKER, "max_output_tokens": 4}),
    ("/v1/messages", ANTHROPIC),
    ("/v1/messages/count_tokens", ANTHROPIC),
    # What is refused is no less somebody's.
    ("/api/chat", {"model": MODEL, "messages": [{"role": MARKER, "content": MARKER}], "options": SHORT}),
    ("/api/chat", {"model": MODEL, "messages": MARKER}),
    ("/api/chat", {"model": MODEL, "messages": SAID, "options": {**SHORT, MARKER: 1}}),
    ("/api/chat", {"model": MODEL, "messages": SAID, "format": MARKER}),
    ("/api/generate", {"model": MODEL, "raw": True, "prompt": MARKER * 500, "options": {"num_ctx": 64, **SHORT}}),
    ("/api/generate", {"model": MODEL, "prompt": MARKER, "template": "{{ .Nope " + MARKER}),
    ("/api/chat", {"model": f"{MARKER}:1b", "messages": SAID}),
    ("/v1/chat/completions", {"model": MARKER, "messages": SAID}),
    ("/v1/messages", {**ANTHROPIC, "model": MARKER}),
    (f"/api/nope?{MARKER}", {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def watched(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that logs all that it can, after everything in `REQUESTS`, and a run whose engine died."""
    folder = prepared(models, tmp_path_factory.mktemp("watched"))
    with (
        Stack(folder, env={"RKLLAMA_DEBUG": "true"}) as stack,
        httpx2.Client(base_url=stack.url, timeout=None, trust_env=False) as http,
    ):
        for path, body in REQUESTS:
            http.post(path, json=body, headers={"user-agent": MARKER})
        http.post("/api/chat", content=b'{"model": "' + MARKER.encode())
        endless = {"model": MODEL, "messages": SAID, "options": {"num_predict": -1, "seed": 1}}
        with http.stream("POST", "/api/chat", json=endless) as answer:
            lines = answer.iter_lines()
            next(lines)
            (engine,) = stack.engines()
            os.kill(engine, signal.SIGKILL)
            next(lines)
        wait_until(
            "the queue to be empty", lambda: not stack.metric(stack.url, "rkllama_requests_running")
        )
        yield stack


def urls(stack: Stack) -> dict[str, str]:
    """The address of each service's metrics, by the page's section."""
    addresses = (stack.url, stack.worker_url(), stack.store_url())
    return dict(zip(SECTIONS, addresses, strict=True))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_metric_with_its_type_labels_and_help(
    watched: Stack, section: str
) -> None:
    page, found = documented(section), exposed(urls(watched)[section])

    assert page.keys() == found.keys()
    for name, metric in found.items():
        here = page[name]
        assert (metric.kind, metric.text) == (here.kind, here.text), name
        assert metric.labels in (None, here.labels), name


def test_nothing_that_was_asked_is_in_a_log(watched: Stack) -> None:
    logs = [*watched.folder.glob("*.log"), *watched.folder.glob("**/rkllama_debug.log*")]
    with_lines = [path for path in logs if path.stat().st_size]

    assert len(with_lines) >= len(SECTIONS) + 2
    assert not [path.name for path in logs if MARKER in path.read_text(errors="replace")]


def test_nothing_that_was_asked_is_in_a_metric(watched: Stack) -> None:
    for url in urls(watched).values():
        assert MARKER not in httpx2.get(f"{url}/metrics", trust_env=False).text


def test_lines_about_a_job_name_it_its_model_and_its_board(watched: Stack) -> None:
    events = watched.events("gateway") + watched.events("worker-1")
    of = {event["event"]: event for event in events if "job_id" in event}

    assert {"job accepted", "job granted", "job ended"} <= of.keys()
    assert all(event["model"] == MODEL for event in of.values())
    assert all("worker_id" in event for event in watched.events("worker-1"))
    assert of["job granted"]["worker_id"] == "worker-1"


def test_readiness_falls_with_the_broker_and_liveness_does_not(own_stack: Stack) -> None:
    addresses = urls(own_stack).values()

    def codes(path: str) -> list[int]:
        return [httpx2.get(url + path, trust_env=False).status_code for url in addresses]

    before = codes("/readyz")
    own_stack.broker.kill()
    wait_until("nobody to be ready", lambda: codes("/readyz") == [503, 503, 503])
    alive = codes("/livez")
    connected = [own_stack.metric(url, "rkllama_nats_connected") for url in addresses]
    own_stack.broker.start()
    wait_until("everybody to be ready again", lambda: codes("/readyz") == [200, 200, 200])

    assert before == alive == [200, 200, 200]
    assert connected == [0, 0, 0]
    assert [own_stack.metric(url, "rkllama_nats_reconnects_total") for url in addresses] == [
        1,
        1,
        1,
    ]
