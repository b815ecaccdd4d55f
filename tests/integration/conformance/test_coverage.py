"""The table is whole: every route of the contract, rows enough, each with a section; and so is the document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest

from tests.emulated import emulated
from tests.integration.conformance.rows import ROWS
from tests.integration.conformance.table import Step

ROUTES = {
    "/": {"GET", "HEAD"},
    "/api/version": {"GET", "HEAD"},
    "/api/tags": {"GET", "HEAD"},
    "/api/status": {"GET"},
    "/api/ps": {"GET"},
    "/api/generate": {"POST"},
    "/api/chat": {"POST"},
    "/api/embed": {"POST"},
    "/api/embeddings": {"POST"},
    "/api/show": {"POST"},
    "/api/pull": {"POST"},
    "/api/push": {"POST"},
    "/api/create": {"POST"},
    "/api/copy": {"POST"},
    "/api/delete": {"DELETE"},
    "/api/blobs/{}": {"HEAD", "POST"},
    "/api/me": {"POST"},
    "/api/signout": {"POST"},
    "/api/user/keys/{}": {"DELETE"},
    "/api/experimental/web_search": {"POST"},
    "/api/experimental/web_fetch": {"POST"},
    "/api/experimental/model-recommendations": {"GET"},
}
"""Contract 1.1, outside of /v1."""
OURS = {
    "/api/debug", "/api/drain", "/api/verify", "/livez", "/metrics", "/openapi.json", "/readyz",
}  # fmt: skip
"""What Ollama has not."""
SECTIONS = (
    {f"1.{number}" for number in range(1, 12)}
    | {f"2.{number}" for number in range(1, 21)}
    | {"3.6", "5", "6.2", "7", "8"}
)
TOLD_BY_OTHERS = {"1.4"}
"""Scalars: a part of every row with a time or a duration in it."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, object]]]:
    """The paths of `/openapi.json`, their parameters without names."""
    with emulated(tmp_path_factory.mktemp("document"), "abi-1.3.0") as stack:
        paths = httpx2.get(f"{stack.url}/openapi.json", trust_env=False).json()["paths"]
        yield {re.sub(r"\{.*?\}", "{}", path): methods for path, methods in paths.items()}


def template(path: str) -> str:
    """The route of a path."""
    path = path.partition("?")[0]
    for prefix in ("/api/blobs/", "/api/user/keys/"):
        if path.startswith(prefix) and "/" not in path.removeprefix(prefix):
            return prefix + "{}"
    return path


def steps() -> Iterator[Step]:
    for row in ROWS:
        yield row.step
        yield from row.after


def test_every_route_has_a_row_that_it_answers() -> None:
    """Another method, or nothing at that path, is no answer of the route's."""
    answered = {
        (template(step.request.path), step.request.method)
        for step in steps()
        if step.expected.status != 405 and step.expected.body != "404 page not found"
    }
    routes = {(path, method) for path, methods in ROUTES.items() for method in methods}

    assert routes - answered == set()


def test_every_route_has_a_row_with_a_method_that_it_has_not() -> None:
    refused = {template(step.request.path) for step in steps() if step.expected.status == 405}

    assert ROUTES.keys() - refused == set()


def test_there_are_rows_for_every_section_and_each_stands_once() -> None:
    ids = Counter(row.id for row in ROWS)

    assert [name for name, count in ids.items() if count > 1] == []
    assert {row.section for row in ROWS} == SECTIONS - TOLD_BY_OTHERS
    assert len(ROWS) >= 250


def test_the_document_has_the_routes_of_the_contract(
    document: dict[str, dict[str, object]],
) -> None:
    documented = {path: {method.upper() for method in has} for path, has in document.items()}
    outside = {path for path in documented if not path.startswith("/v1/")}

    assert outside - OURS == ROUTES.keys()
    assert {path: documented[path] for path in ROUTES} == ROUTES
