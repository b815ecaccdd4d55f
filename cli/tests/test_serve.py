"""`rkllama serve` as a person runs it: ready line, clear refusals, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme
from rkllama_cli.serve import Plan, children

from tests.stack import alive, children_of, wait_until

RKLLAMA = [sys.executable, "-m", "rkllama_cli"]


def serve(*arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RKLLAMA, "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
        # Its own group, as a terminal gives it: signals are sent to it alone.
        start_new_session=True,
    )


def descendants(pid: int) -> set[int]:
    """Every process that came from `pid`, the broker and engines included."""
    found: set[int] = set()
    for child in children_of(pid):
        found |= {child} | descendants(child)
    return found


@pytest.fixture
def server(bundled_data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is ready, and its URL."""
    process = serve("--port", "0", "--data", str(bundled_data))
    assert process.stdout is not None
    line = process.stdout.readline()
    if "ready at " not in line:
        process.kill()
        raise AssertionError(process.communicate()[1])
    yield process, line.split("ready at ")[1].strip()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_answer_ends_every_process_and_tells_the_client(
    server: tuple[subprocess.Popen[str], str], signum: signal.Signals
) -> None:
    process, url = server
    body = {"model": "smollm2:135m", "prompt": "Tell me a story", "options": {"num_predict": 4000}}
    with httpx2.stream(
        "POST", f"{url}/api/generate", json=body, timeout=None, trust_env=False
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        family = descendants(process.pid)
        process.send_signal(signum)
        last = json.loads(list(lines)[-1])
    code = process.wait(30)

    assert "error" in last or last["done"]
    assert code == 0
    assert len(family) >= 5
    assert not [pid for pid in family if alive(pid)]


def test_killing_serve_leaves_no_process(server: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = server
    family = descendants(process.pid)
    process.kill()
    process.wait()

    wait_until("every process to end", lambda: not [pid for pid in family if alive(pid)])


def test_a_service_that_dies_is_started_again(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = server
    before = descendants(process.pid)
    for pid in before:
        if "rkllama_store" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)

    def lists_models() -> bool:
        answer = httpx2.get(f"{url}/api/tags", timeout=30, trust_env=False)
        return answer.status_code == 200 and bool(answer.json()["models"])

    wait_until("the store to be back", lists_models)
    assert descendants(process.pid) != before


def test_the_commands_talk_to_the_server(server: tuple[subprocess.Popen[str], str]) -> None:
    _, url = server

    def rkllama(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"RKLLAMA_HOST": url}
        return subprocess.run(
            [*RKLLAMA, *arguments], check=False, env=env, capture_output=True, text=True
        )

    assert "smollm2:135m" in rkllama("list").stdout
    assert rkllama("cp", "smollm2:135m", "qwen2.5:3b").returncode == 0
    assert "qwen2.5:3b" in rkllama("list").stdout
    assert rkllama("rm", "qwen2.5:3b").returncode == 0
    missing = rkllama("rm", "qwen2.5:3b")
    assert (missing.returncode, missing.stderr) == (
        1,
        "rkllama: model 'qwen2.5:3b' not found\n",
    )
    assert "success" in rkllama("pull", "smollm2").stdout
    assert rkllama("ps").stdout.startswith("NAME")


def test_a_port_in_use_is_one_sentence_and_code_2(bundled_data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = serve("--port", str(port), "--data", str(bundled_data))
        _, error = process.communicate(timeout=30)

    assert process.returncode == 2
    assert error == f"rkllama: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "env", "sentence"),
    [
        (["--rkllm-library", "/no/such.so"], {}, "there is no library at /no/such.so"),
        (["--data", "/proc/nothing"], {}, "cannot use the folder /proc/nothing"),
        ([], {"RKLLAMA_DATTA": "x"}, "unknown variable RKLLAMA_DATTA"),
        ([], {"RKLLAMA_GATEWAY_MAX_WAITING": "0"}, "RKLLAMA_GATEWAY_MAX_WAITING"),
        (["--runtime", "gpu"], {}, "RKLLAMA_WORKER_RUNTIME"),
        ([], {"RKLLAMA_WORKER_RUNTIME": "gpu"}, "RKLLAMA_WORKER_RUNTIME"),
        (["--nats", "foo://x"], {}, "'foo://x' is no URL of a broker"),
        ([], {"RKLLAMA_NATS_URL": "nats://x:99999"}, "RKLLAMA_NATS_URL"),
        (["--port", "70000"], {}, "--port"),
        ([], {"RKLLAMA_HOST": "board:70000"}, "a port is 65535 at most"),
    ],
)
def test_what_a_person_has_to_mend_is_a_sentence_and_code_2(
    tmp_path: Path, arguments: list[str], env: dict[str, str], sentence: str
) -> None:
    process = serve("--port", "0", "--data", str(tmp_path), *arguments, **env)
    _, error = process.communicate(timeout=30)

    assert process.returncode == 2
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("set_to", "port", "second"),
    [(None, None, "11434"), (None, 8080, "0"), ("0", None, "0"), ("9", None, "9"), ("9", 1, "9")],
)
def test_the_second_port_is_ollamas_unless_somebody_says_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    set_to: str | None,
    port: int | None,
    second: str,
) -> None:
    if set_to is not None:
        monkeypatch.setenv("RKLLAMA_GATEWAY_OLLAMA_PORT", set_to)
    plan = Plan(
        host="127.0.0.1",
        port=port,
        data=tmp_path,
        auth=None,
        keys=tmp_path / "keys.json",
        workers=1,
        runtime="cpu",
        rkllm_library=None,
        nats_url="nats://127.0.0.1:1",
        debug=False,
    )

    (gateway,) = (child for child in children(plan, 8080) if child.name == "gateway")

    assert gateway.env["RKLLAMA_GATEWAY_OLLAMA_PORT"] == second


def test_each_process_has_a_user_of_the_broker_and_nobody_else_gets_in(
    server: tuple[subprocess.Popen[str], str], bundled_data: Path
) -> None:
    process, _ = server
    folder = bundled_data / "broker"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    arguments = [
        Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in descendants(process.pid)
    ]
    broker = next(each for each in arguments if each[0].endswith("nats-server"))
    port = int(broker[broker.index("-p") + 1])
    with socket.create_connection(("127.0.0.1", port)) as stranger, stranger.makefile("rb") as said:
        greeting = said.readline()
        stranger.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        answer = said.readline()

    assert modes == dict.fromkeys(
        ("nats-server.conf", "store.json", "gateway.json", "worker-1.json"), 0o600
    )
    assert json.loads(greeting.split(b" ", 1)[1])["auth_required"]
    assert b"Authorization Violation" in answer


def test_the_gateway_speaks_https_where_it_has_a_certificate(
    bundled_data: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    pem, trusted = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(trusted))
    files = dict.fromkeys(
        ("RKLLAMA_GATEWAY_TLS_CERT_FILE", "RKLLAMA_GATEWAY_TLS_KEY_FILE"), str(pem)
    )
    process = serve("--port", "0", "--data", str(bundled_data), **files)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip().partition("ready at ")[2]
        context = ssl.create_default_context(cafile=trusted)
        answer = httpx2.get(f"{url}/api/tags", verify=context, trust_env=False)
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url.replace("https:", "http:"), trust_env=False)
        env = os.environ | {"RKLLAMA_HOST": url}
        asked = [
            subprocess.run(
                [*RKLLAMA, "list"], check=False, env=env | more, capture_output=True, text=True
            )
            for more in ({"SSL_CERT_FILE": str(trusted)}, {})
        ]
    finally:
        process.terminate()
        process.communicate(timeout=30)

    assert url.startswith("https://")
    assert "smollm2:135m" in asked[0].stdout
    assert asked[1].returncode == 1
    assert answer.json()["models"][0]["name"] == "smollm2:135m"


def test_a_certificate_that_cannot_be_used_is_a_sentence_and_code_2(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    files = dict.fromkeys(
        ("RKLLAMA_GATEWAY_TLS_CERT_FILE", "RKLLAMA_GATEWAY_TLS_KEY_FILE"), str(tmp_path / "bad.pem")
    )
    process = serve("--port", "0", "--data", str(tmp_path), **files)
    _, error = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "cannot use the certificate" in error
    assert "Traceback" not in error
