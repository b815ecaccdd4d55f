"""The parts of the chart that follow from the code: `python -m tests.chart.generated` writes them again.

files/broker.json             limits and permissions, from `rkllama_service.broker_config`
values.schema.json            what `settings` may hold, from the Settings classes
README.md                     the table of values, from the comments in values.yaml
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic_settings import BaseSettings
from rkllama_gateway.settings import Settings as GatewaySettings
from rkllama_protocol.permissions import permissions
from rkllama_protocol.subjects import Role, Subjects
from rkllama_service.broker_config import User, render
from rkllama_store.settings import Settings as StoreSettings
from rkllama_worker.settings import Settings as WorkerSettings

from tests.test_docs import texts

CHART = Path(__file__).parents[2] / "helm" / "rkllama"
TABLE = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- /values -->)", re.S)
COMMENT = re.compile(r"^( *)# -- (.*)$")
KEY = re.compile(r"^( *)([A-Za-z]+):(?: (.*))?$")

WORKER = frozenset(
    {"worker_id", "runtime", "http_host", "http_port", "cache_dir", "saved_dir", "subject_prefix"}
)
DEFINITIONS: dict[str, tuple[type[BaseSettings], frozenset[str]]] = {
    "gatewaySettings": (
        GatewaySettings,
        frozenset(
            {
                "port",
                "ollama_port",
                "published_host",
                "tls_cert_file",
                "tls_key_file",
                "subject_prefix",
            }
        ),
    ),
    "npuWorkerSettings": (WorkerSettings, WORKER),
    "cpuWorkerSettings": (
        WorkerSettings,
        WORKER | {"npu_node", "rkllm_constrained", "rkllm_saved"},
    ),
    "storeSettings": (
        StoreSettings,
        frozenset({"store_id", "http_host", "http_port", "advertise_url", "subject_prefix"}),
    ),
}
"""What each `settings` may hold: the fields of a class but those that the chart sets itself."""


def broker() -> str:
    """`files/broker.json`: PREFIX, USER and ID stand for what a template puts in."""
    roles: tuple[Role, ...] = get_args(Role)
    subjects = Subjects("PREFIX")
    users = [
        User(
            name=role,
            password_hash="",
            permissions=permissions(role, "ID", user="USER", subjects=subjects),
        )
        for role in sorted(roles)
    ]
    text = render(users, listen="0.0.0.0:4222", monitor="0.0.0.0:8222")
    server = json.loads("".join(line for line in text.splitlines() if not line.startswith("#")))
    found = {user["user"]: user["permissions"] for user in server["authorization"].pop("users")}
    return json.dumps({"server": server, "roles": found}, indent=2) + "\n"


def settings_schema(settings: type[BaseSettings], own: frozenset[str]) -> dict[str, Any]:
    """What `settings` may hold, in the draft of JSON Schema that Helm reads."""
    schema = settings.model_json_schema()
    fields = {
        name: _field(schema["properties"][name], schema.get("$defs", {})) | {"description": text}
        for name, text in texts(settings).items()
        if name not in own
    }
    return {"type": "object", "additionalProperties": False, "properties": fields}


def _field(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    known = {"type", "minimum", "maximum", "exclusiveMinimum", "pattern", "enum"}
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]]
    # A field that may be left out is left out: `null` would be text.
    for choice in field.get("anyOf", []):
        if choice["type"] != "null":
            field = choice
    return {key: value for key, value in field.items() if key in known}


def schema() -> str:
    """`values.schema.json` with the definitions as they should be."""
    found = json.loads((CHART / "values.schema.json").read_text())
    for name, (settings, own) in DEFINITIONS.items():
        found["definitions"][name] = settings_schema(settings, own)
    return json.dumps(found, indent=2) + "\n"


def values_rows() -> Iterator[tuple[str, str, str]]:
    """Path, default and text of each value, in the order of values.yaml."""
    path: list[str] = []
    text = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        if found := COMMENT.match(line):
            text = found[2]
        elif found := KEY.match(line):
            path[len(found[1]) // 2 :] = [found[2]]
            if text:
                yield ".".join(path), found[3] or "see values.yaml", text
            text = ""


def readme() -> str:
    """`README.md` with the table as it should be."""
    rows = "".join(
        f"| `{path}` | `{default}` | {text} |\n" for path, default, text in values_rows()
    )
    table = f"\n| value | default | meaning |\n| --- | --- | --- |\n{rows}\n"
    return TABLE.sub(lambda _: table, (CHART / "README.md").read_text())


FILES = {"files/broker.json": broker, "values.schema.json": schema, "README.md": readme}


def main() -> None:
    """Write every file."""
    for name, text in FILES.items():
        (CHART / name).write_text(text())


if __name__ == "__main__":
    main()
