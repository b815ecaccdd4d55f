"""Secrets that the chart makes are good ones, and an upgrade keeps them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from rkllama_service.key_file import load
from rkllama_service.keys import Keys, Scope

from tests.chart.rendering import Manifest, content, pods, render, secret, template, values_of

Answer = dict[str, Any]


def discovery(manifests: list[Manifest]) -> dict[str, Answer]:
    """What a cluster that knows the kinds of these objects answers, by path (Kubernetes' API, discovery)."""
    kinds: dict[str, set[str]] = {}
    for manifest in manifests:
        kinds.setdefault(manifest["apiVersion"], set()).add(manifest["kind"])
    named = [(version.rpartition("/")[0], version) for version in kinds if "/" in version]
    groups = [
        {
            "name": group,
            "versions": [{"groupVersion": version, "version": version.rpartition("/")[2]}],
        }
        for group, version in named
    ]
    found: dict[str, Answer] = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, names in kinds.items():
        resources = [
            {
                "name": f"{kind.lower()}s",
                "singularName": "",
                "namespaced": True,
                "kind": kind,
                "verbs": ["get"],
            }
            for kind in names
        ]
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        found[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return found


@contextmanager
def cluster(installed: list[Manifest], folder: Path) -> Iterator[Path]:
    """A cluster with these objects, as far as rendering asks for it: kinds and Secrets. The file is the way to it."""
    known = discovery(installed)
    place = "/api/v1/namespaces/ai/secrets"
    known |= {f"{place}/{m['metadata']['name']}": m for m in stored(installed)}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(found or missing).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        way = folder / "kubeconfig"
        address = f"http://127.0.0.1:{server.server_port}"
        way.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": address}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )
        try:
            yield way
        finally:
            server.shutdown()
            thread.join()


def stored(manifests: list[Manifest]) -> list[Manifest]:
    """The Secrets as a cluster keeps them."""
    found = []
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            data = {
                k: base64.b64encode(v.encode()).decode() for k, v in manifest["stringData"].items()
            }
            found.append({k: v for k, v in manifest.items() if k != "stringData"} | {"data": data})
    return found


def texts(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """What every Secret holds, by its name."""
    return {m["metadata"]["name"]: content(m) for m in manifests if m["kind"] == "Secret"}


def upgraded(installed: list[Manifest], folder: Path, *, way: str = "default") -> list[Manifest]:
    """What an upgrade of `installed` renders, which sees its Secrets."""
    with cluster(installed, folder) as kubeconfig:
        asking = ("--dry-run=server", "--kubeconfig", kubeconfig, "--disable-openapi-validation")
        code, text, complaint = template("-f", values_of(way), "--is-upgrade", *asking)
    assert code == 0, complaint
    return [found for found in yaml.safe_load_all(text) if found is not None]


def test_an_upgrade_keeps_every_password_and_key(tmp_path: Path) -> None:
    installed = render("three-nats-servers")
    after = texts(upgraded(installed, tmp_path, way="three-nats-servers"))

    assert len(after) == 5
    assert after == texts(installed)
    assert texts(render("three-nats-servers")) != after


def test_an_upgrade_keeps_keys_that_were_added_since(tmp_path: Path) -> None:
    installed = render()
    (keys,) = (m for m in installed if m["metadata"]["name"] == "r-rkllama-keys")
    keys["stringData"] |= {"keys.json": Keys().model_dump_json(), "mine": "more"}

    assert texts(upgraded(installed, tmp_path))["r-rkllama-keys"] == keys["stringData"]


def test_a_board_that_is_added_later_gets_a_password_and_the_others_keep_theirs(
    tmp_path: Path,
) -> None:
    installed = render()
    after = texts(upgraded(installed, tmp_path, way="boards-by-name"))
    before = texts(installed)

    assert after["r-rkllama-nats-gateway"] == before["r-rkllama-nats-gateway"]
    assert "r-rkllama-nats-worker-board-1" in after.keys() - before.keys()
    server = json.loads(after["r-rkllama-nats-server"]["nats-server.conf"])
    passwords = {user["user"]: user["password"] for user in server["authorization"]["users"]}
    board = json.loads(after["r-rkllama-nats-worker-board-1"]["credentials.json"])
    assert passwords["board-1"] == board["password"]


def test_the_keys_that_are_made_let_an_administrator_and_prometheus_in(tmp_path: Path) -> None:
    made = secret(render(), "-keys")
    path = tmp_path / "keys.json"
    path.write_text(made["keys.json"])
    keys = load(path)
    assert keys is not None
    admin, metrics = keys.find(made["admin-key"].encode()), keys.find(made["metrics-key"].encode())
    assert admin is not None
    assert metrics is not None

    assert (admin.name, admin.scope) == ("admin", Scope.ADMIN)
    assert (metrics.name, metrics.scope) == ("metrics", Scope.INFER)
    assert made["admin-key"].endswith(admin.hint)
    # As many random bits as a key of `rkllama key create`: 43 of 62 characters.
    assert len(made["admin-key"]) == len("rk-") + 43


def test_where_secrets_are_there_already_none_is_made() -> None:
    manifests = render("existing-secrets")
    named = {
        volume["secret"]["secretName"]
        for _, pod in pods(manifests)
        for volume in pod["spec"].get("volumes", [])
        if "secret" in volume
    }

    assert not [m for m in manifests if m["kind"] == "Secret"]
    assert named == {
        "rkllama-api-keys",
        "broker-server",
        "broker-gateway",
        "broker-store",
        "broker-worker",
    }


def test_no_secret_is_written_into_a_pod(installations: dict[str, list[Manifest]]) -> None:
    """They come by reference: who may read pods may not read them."""
    for way, manifests in installations.items():
        shown = json.dumps([pod for _, pod in pods(manifests)])
        for held in texts(manifests).values():
            for name, text in held.items():
                assert text not in shown, (way, name)
        assert "rk-" not in shown.replace("rk-npu", ""), way
