"""The stack of compose.yaml as people get it: pulled, asked, measured, broken, and healed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from rkllm_bindings.emulator import ModelScript

from tests.compose.composed import Project, docker
from tests.compose.conftest import bundled_model
from tests.emulated import prompt_ids
from tests.stack import wait_until

NPU_MODEL = "hf.co/test/Talk-1B-rk3588"
CPU_MODEL = "hf.co/test/SmolLM2-135M-GGUF"
HUGE_MODEL = "hf.co/test/huge"
WORKERS = ("npu-worker", "cpu-worker")
OURS = ("nats", "model-store", "gateway", *WORKERS)
QUESTION = "Where does it rain?"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=120, trust_env=False) as client:
        yield client


def pull(http: httpx2.Client, stack: Project, model: str) -> list[dict[str, object]]:
    """The lines of a pull."""
    answer = http.post(f"{stack.url}/api/pull", json={"model": model})
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def pulled(stack: Project, http: httpx2.Client) -> Project:
    """The stack, with a model for each worker."""
    for model in (NPU_MODEL, CPU_MODEL):
        lines = pull(http, stack, model)
        assert lines[-1] == {"status": "success"}, lines
    return stack


def body(model: str, question: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": question}]}


def chat(
    http: httpx2.Client, url: str, model: str, question: str = QUESTION, *, tokens: int = 8
) -> httpx2.Response:
    """At most so many tokens of an answer, the likeliest ones."""
    options = {"temperature": 0, "num_predict": tokens}
    return http.post(
        f"{url}/api/chat", json={**body(model, question), "stream": False, "options": options}
    )


def expected(script: ModelScript, question: str) -> str:
    """The whole answer of the emulated model."""
    return script.text(script.continuation(prompt_ids(script, question), 4096)).decode()


def whole_characters(answer: httpx2.Response) -> str:
    """What an answer that was cut says, without the beginning of a character."""
    return str(answer.json()["message"]["content"]).rstrip("\ufffd")


def told(line: str) -> str:
    message = json.loads(line)["message"]
    return str(message["content"])


def test_the_engine_is_asked_for_no_more_than_is_needed(stack: Project) -> None:
    """Only the worker that has the NPU is root and privileged; nobody can write to an image."""
    for service in OURS:
        found = stack.inspect(service)
        host, config = found["HostConfig"], found["Config"]
        is_npu = service == "npu-worker"

        assert host["ReadonlyRootfs"] is True, service
        assert host["Privileged"] is is_npu, service
        assert (config["User"] in ("", "0")) is is_npu, service
        assert is_npu or host["CapDrop"] == ["ALL"], service
        assert is_npu or "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert host["LogConfig"] == {
            "Type": "local",
            "Config": {"max-size": "10m", "max-file": "3"},
        }, service


def test_workers_reach_nothing_outside(stack: Project) -> None:
    """A model is a file of somebody else's that goes into a closed library."""
    for service in WORKERS:
        assert list(stack.inspect(service)["NetworkSettings"]["Networks"]) == [f"{stack.name}_bus"]
    (network,) = json.loads(docker("network", "inspect", f"{stack.name}_bus"))

    assert network["Internal"] is True


def test_ports_are_published_on_loopback_only(stack: Project) -> None:
    for service in OURS:
        ports = stack.inspect(service)["HostConfig"]["PortBindings"] or {}
        addresses = {binding["HostIp"] for bindings in ports.values() for binding in bindings}
        assert addresses == ({"127.0.0.1"} if service == "gateway" else set()), service


def test_the_worker_says_which_library_it_runs(stack: Project) -> None:
    (found,) = (
        json.loads(line)
        for line in stack.logs("npu-worker").splitlines()
        if "rkllm library found" in line
    )

    assert found["path"] == "/rkllm/librkllmrt.so"
    assert (found["family"], found["emulator"]) == ("abi-1.3.0", True)


def test_both_models_come_from_the_hub_and_answer(
    pulled: Project, http: httpx2.Client, script: ModelScript
) -> None:
    npu = chat(http, pulled.url, NPU_MODEL, tokens=-1)
    cpu = chat(http, pulled.ollama_url, CPU_MODEL)

    assert npu.json()["message"]["content"] == expected(script, QUESTION)
    assert cpu.json()["eval_count"] == 8


def test_every_process_tells_its_metrics(pulled: Project, http: httpx2.Client) -> None:
    urls = {
        "gateway": f"{pulled.url}/metrics",
        "npu-worker": f"http://{pulled.address('npu-worker')}:8081/metrics",
        "cpu-worker": f"http://{pulled.address('cpu-worker')}:8081/metrics",
        "model-store": f"http://{pulled.address('model-store')}:8082/metrics",
    }
    texts = {service: http.get(url).text for service, url in urls.items()}

    assert re.search(r"^rkllama_boards_ready 2\.0$", texts["gateway"], re.M)
    for worker in WORKERS:
        assert re.search(r"^rkllama_worker_runs_total\{.*\} [1-9]", texts[worker], re.M)
    assert "rkllama_store_" in texts["model-store"]


@pytest.mark.parametrize("service", ["nats", "model-store", "npu-worker"])
def test_an_answer_outlives_the_death_of_any_process_but_its_gateway(
    pulled: Project, http: httpx2.Client, script: ModelScript, service: str
) -> None:
    """kill -9 in the middle of the answer: no token is lost, and none told twice."""
    question = f"What if {service} dies?"
    with http.stream("POST", f"{pulled.url}/api/chat", json=body(NPU_MODEL, question)) as answer:
        lines = answer.iter_lines()
        text = "".join(told(next(lines)) for _ in range(5))
        pulled.kill(service)
        text += "".join(told(line) for line in lines)

    assert text == expected(script, question)


@pytest.mark.parametrize("service", OURS)
def test_the_stack_heals_after_a_kill(
    pulled: Project, http: httpx2.Client, script: ModelScript, service: str
) -> None:
    pulled.kill(service)

    def answers() -> bool:
        try:
            npu, cpu = (chat(http, pulled.url, model) for model in (NPU_MODEL, CPU_MODEL))
        except httpx2.TransportError:
            return False
        return bool(
            npu.status_code == cpu.status_code == httpx2.codes.OK
            and expected(script, QUESTION).startswith(whole_characters(npu))
        )

    wait_until("answers to come again", answers, timeout_s=60)
    pulled.wait_healthy(*OURS)


def test_a_worker_that_is_cut_off_is_missed_and_comes_back(
    pulled: Project, http: httpx2.Client, script: ModelScript
) -> None:
    network, container = f"{pulled.name}_bus", pulled.container("npu-worker")
    docker("network", "disconnect", network, container)
    try:
        refused = chat(http, pulled.url, NPU_MODEL)
        others = chat(http, pulled.url, CPU_MODEL)
    finally:
        docker(
            "network", "connect", "--alias", "npu-worker", "--alias", "worker", network, container
        )
    wait_until(
        "the worker to be back",
        lambda: chat(http, pulled.url, NPU_MODEL).status_code == httpx2.codes.OK,
        timeout_s=60,
    )

    assert refused.status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert others.status_code == httpx2.codes.OK


def test_a_full_disk_refuses_pulls_and_nothing_else(pulled: Project, http: httpx2.Client) -> None:
    before = http.get(f"{pulled.url}/api/tags").json()
    fill = "dd if=/dev/zero of=/data/models/filler bs=1M 2>&1 | grep -c 'No space'"
    assert pulled.inside("model-store", "sh", "-c", fill).strip() == "1"
    try:
        lines = pull(http, pulled, HUGE_MODEL)
        answer = chat(http, pulled.url, CPU_MODEL)
        healthy = http.get(f"http://{pulled.address('model-store')}:8082/readyz")
    finally:
        pulled.inside("model-store", "rm", "-f", "/data/models/filler")

    assert "space" in str(lines[-1].get("error")), lines
    assert answer.status_code == healthy.status_code == httpx2.codes.OK
    assert http.get(f"{pulled.url}/api/tags").json() == before


def test_a_stop_lets_a_running_answer_end(
    pulled: Project, http: httpx2.Client, script: ModelScript
) -> None:
    """The grace period is longer than what a worker takes to drain: it ends by itself."""
    question = "Who stops here?"
    with http.stream("POST", f"{pulled.url}/api/chat", json=body(NPU_MODEL, question)) as answer:
        lines = answer.iter_lines()
        text = told(next(lines))
        pulled.compose("stop", "npu-worker")
        text += "".join(told(line) for line in lines)
    code = pulled.inspect("npu-worker")["State"]["ExitCode"]
    pulled.compose("start", "npu-worker")
    pulled.wait_healthy("npu-worker")

    assert text == expected(script, question)
    assert code == 0


def test_published_on_every_address_it_prints_a_key_and_asks_for_it(
    pulled: Project, http: httpx2.Client
) -> None:
    wide = {"RKLLAMA_PUBLISH": "0.0.0.0"}  # noqa: S104 - for a moment, with a key
    pulled.compose("up", "--detach", "--no-deps", "--no-build", "gateway", **wide)
    try:
        pulled.wait_healthy("gateway")
        (key,) = re.findall(r"rk-\S+", pulled.compose("logs", "gateway"))
        without = http.get(f"{pulled.url}/api/tags")
        with_key = http.get(f"{pulled.url}/api/tags", headers={"authorization": f"Bearer {key}"})
    finally:
        pulled.compose("up", "--detach", "--no-deps", "--no-build", "gateway")
        pulled.wait_healthy("gateway")

    assert (without.status_code, with_key.status_code) == (401, 200)


def test_models_of_the_predecessor_are_taken_along_as_the_page_says(
    pulled: Project, http: httpx2.Client, tmp_path: Path
) -> None:
    """docs/from-rkllama.md."""
    weights = bundled_model()
    old = tmp_path / "models" / "Old-SmolLM2"
    old.mkdir(parents=True)
    shutil.copyfile(weights, old / weights.name)
    (old / "Modelfile").write_text(f'FROM="{weights.name}"\nHUGGINGFACE_PATH="test/none"\n')
    run = ("run", "--rm", "--no-deps", "--no-TTY", "--volume", f"{old.parent}:/old:ro")
    pulled.compose("stop", "model-store")
    try:
        said = pulled.compose(*run, "model-store", "rkllama", "import", "/old")
    finally:
        pulled.compose("start", "model-store")
        pulled.wait_healthy("model-store")
    answer = chat(http, pulled.url, "Old-SmolLM2")

    assert answer.json().get("eval_count") == 8, said


def test_the_command_line_is_in_the_image(pulled: Project) -> None:
    assert CPU_MODEL in pulled.inside("gateway", "rkllama", "list")
