"""The commands, against a server that speaks scripted Ollama answers."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rkllama_cli.__main__ import app
from typer.testing import CliRunner, Result

from cli.tests.scripted import CUT, Reply, Scripted, model, scripted

DIGEST = "0123456789ab" + "c" * 52
ROW = {
    "name": "qwen2.5:3b",
    "digest": DIGEST,
    "size": 3_400_000_000,
    "modified_at": "2020-01-01T00:00:00.123456789+01:00",
}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as script:
        script.on("GET /api/tags", Reply(body={"models": [ROW]}))
        script.on("GET /api/ps", Reply(body={"models": []}))
        yield script


def rkllama(server: Scripted, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(
        app, list(arguments), env={"RKLLAMA_HOST": server.url, **env}, prog_name="rkllama"
    )


def sentence(result: Result) -> str:
    """What a command that failed said; it is one line, and the code is 1."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("rkllama: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("rkllama: ").strip()


def test_list_is_a_table_and_json_for_programs(server: Scripted) -> None:
    shown = rkllama(server, "list").stdout.splitlines()

    assert shown[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert shown[1].startswith("qwen2.5:3b  0123456789ab  3.4 GB  ")
    assert shown[1].rstrip().endswith("years ago")
    assert json.loads(rkllama(server, "list", "--json").stdout) == [ROW]


def test_list_takes_the_beginning_of_a_name_as_ollama_does(server: Scripted) -> None:
    rows = [{**ROW, "name": name} for name in ("qwen2.5:3b", "Qwen3:1b", "smollm2:135m")]
    server.on("GET /api/tags", *[Reply(body={"models": rows})] * 3)

    table = rkllama(server, "list", "QWEN").stdout
    assert [line.split()[0] for line in table.splitlines()] == ["NAME", "qwen2.5:3b", "Qwen3:1b"]
    assert json.loads(rkllama(server, "ls", "smol", "--json").stdout) == rows[2:]
    assert rkllama(server, "list", "nope").stdout.split() == ["NAME", "ID", "SIZE", "MODIFIED"]


def test_times_are_told_by_the_servers_clock(server: Scripted) -> None:
    """A board without a clock of its own is years behind."""
    loaded = {**ROW, "size_vram": ROW["size"], "expires_at": "2001-01-01T00:04:30Z"}
    server.on(
        "GET /api/ps",
        Reply(body={"models": [loaded]}, headers={"date": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    )

    assert "100% NPU   -        4 minutes from now" in rkllama(server, "ps").stdout


def test_show_is_a_table_or_one_part_as_it_is(server: Scripted) -> None:
    server.on("POST /api/show", model(system="You are\nbrief.", modelfile="FROM x\n"))

    assert "completion" in rkllama(server, "show", "m").stdout
    assert rkllama(server, "show", "m", "--system").stdout == "You are\nbrief.\n"
    assert rkllama(server, "show", "m", "--modelfile").stdout == "FROM x\n"
    assert json.loads(rkllama(server, "show", "m", "--json").stdout)["modelfile"] == "FROM x\n"
    assert rkllama(server, "show", "m", "--system", "--license").exit_code == 2


def test_cp_and_rm_and_stop(server: Scripted) -> None:
    server.on("POST /api/copy", Reply())
    server.on("POST /api/generate", Reply(body={"done": True}))
    server.on(
        "DELETE /api/delete", Reply(), Reply(status=404, body={"error": "model 'b' not found"})
    )
    server.on("GET /api/ps", Reply(body={"models": [ROW]}))

    assert rkllama(server, "cp", "a", "b").stdout == "copied 'a' to 'b'\n"
    removed = rkllama(server, "rm", "qwen2.5:3b", "b")
    assert (removed.exit_code, removed.stdout) == (1, "deleted 'qwen2.5:3b'\n")
    assert removed.stderr == "rkllama: model 'b' not found\n"
    assert rkllama(server, "stop", "c").stdout == "stopped 'c'\n"
    assert server.bodies("/api/copy") == [{"source": "a", "destination": "b"}]
    assert server.bodies("/api/generate") == [
        {"model": "qwen2.5:3b", "keep_alive": 0},
        {"model": "c", "keep_alive": 0},
    ]


def test_pull_and_verify_end_with_success(server: Scripted) -> None:
    server.on(
        "POST /api/pull", Reply(stream=({"status": "pulling manifest"}, {"status": "success"}))
    )
    server.on("POST /api/verify", Reply(stream=({"status": "success"},)))

    assert rkllama(server, "pull", "m").stdout == "pulling manifest\nsuccess\n"
    assert rkllama(server, "verify").stdout == "success\n"
    assert rkllama(server, "verify", "m").exit_code == 0
    assert server.bodies("/api/verify") == [{}, {"model": "m"}]


def test_the_key_is_sent(server: Scripted) -> None:
    rkllama(server, "list", RKLLAMA_API_KEY="ours")
    rkllama(server, "list", OLLAMA_API_KEY="ollamas")

    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer ours",
        "Bearer ollamas",
    ]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=400, body={"error": "invalid model name"}), "invalid model name"),
        (
            Reply(status=401, body={"error": "unauthorized"}),
            "the server wants a key; set RKLLAMA_API_KEY",
        ),
        (Reply(status=403), "the server does not allow this"),
        (Reply(status=403, body={"error": "this key may not pull"}), "this key may not pull"),
        (
            Reply(status=503, body={"error": "server busy"}, headers={"retry-after": "2"}),
            "server busy; try again in 2 seconds",
        ),
        (Reply(status=503, body={"error": "no worker"}), "no worker"),
        (Reply(status=404, body=b"404 page not found"), "404 page not found"),
        (Reply(status=502, body=b"<html>\n"), "the server answered 502 and gave no reason"),
        (
            Reply(body=b"hello"),
            "what answers at {url} is no rkllama or Ollama server",
        ),
        (Reply(body={"models": [{}]}), "the server sent an answer that cannot be read"),
    ],
)
def test_a_refusal_is_one_sentence(server: Scripted, reply: Reply, said: str) -> None:
    server.on("GET /api/tags", reply)

    assert sentence(rkllama(server, "list")) == said.format(url=server.url)


def test_a_key_that_is_refused_is_not_asked_for_again(server: Scripted) -> None:
    server.on("GET /api/tags", Reply(status=401, body={"error": "the key has expired"}))

    said = sentence(rkllama(server, "list", RKLLAMA_API_KEY="old"))

    assert said == "the server does not accept this key; set RKLLAMA_API_KEY (the key has expired)"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (({"error": "disk full"},), "disk full"),
        (
            ({"error": "pull model manifest: file does not exist"},),
            "there is no model 'm' to pull; models of the hub are hf.co/<user>/<repository>",
        ),
        ((CUT,), "the connection to {url} broke before the answer was complete; {goes_on}"),
        ((), "the connection to {url} broke before the answer was complete; {goes_on}"),
        ((b"hello\n",), "{url} sent a record that cannot be read"),
    ],
)
def test_a_stream_that_fails_is_one_sentence(
    server: Scripted, stream: tuple[object, ...], said: str
) -> None:
    server.on("POST /api/pull", Reply(stream=({"status": "pulling manifest"}, *stream)))

    result = rkllama(server, "pull", "m")

    goes_on = "the same command goes on where this one was"
    assert result.exit_code == 1
    assert result.stderr == f"rkllama: {said.format(url=server.url, goes_on=goes_on)}\n"


def test_a_record_may_hold_what_else_ends_a_line(server: Scripted) -> None:
    """U+2028 and U+2029 are newlines to Python, and letters to JSON."""
    status = "a\u2028b\u2029c"
    server.on("POST /api/pull", Reply(stream=({"status": status}, {"status": "success"})))

    assert rkllama(server, "pull", "m").stdout == f"{status}\nsuccess\n"


def test_no_server_is_a_sentence() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        result = CliRunner().invoke(app, ["list"], env={"RKLLAMA_HOST": url})

    assert sentence(result) == f"no server answers at {url}; start one with `rkllama serve`"


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["list"], {"RKLLAMA_HOST": "ftp://x"}, "RKLLAMA_HOST is 'ftp://x'"),
        (["list"], {"RKLLAMA_DATTA": "x"}, "unknown variable RKLLAMA_DATTA"),
        (["pull"], {}, "Missing argument"),
        (["run", "m", "hi", "-o", "foo=1"], {}, "unknown parameter 'foo'"),
        (["run", "m", "hi", "--format", "xml"], {}, "A format is json"),
        (["nothing"], {}, "No such command"),
    ],
)
def test_what_a_person_has_to_mend_is_code_2(
    arguments: list[str], env: dict[str, str], said: str
) -> None:
    result = CliRunner().invoke(app, arguments, env=env)

    assert result.exit_code == 2
    assert said in result.stderr


def test_version_tells_of_both_sides(server: Scripted) -> None:
    server.on("GET /api/version", Reply(body={"version": "0.12.6"}), Reply(status=500))

    assert f"server at {server.url}, Ollama API 0.12.6" in rkllama(server, "version").stdout
    alone = rkllama(server, "--version")
    assert alone.exit_code == 0
    assert alone.stdout.startswith("rkllama ")


def test_create_uploads_what_the_server_lacks(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.gguf").write_bytes(b"weights")
    (tmp_path / "lora.gguf").write_bytes(b"adapter")
    (tmp_path / "Modelfile").write_text(
        'FROM ./models/a.gguf\nADAPTER lora.gguf\nSYSTEM """You are\nbrief."""\nPARAMETER seed 1\n'
        "PARAMETER mirostat 1\n"
    )
    weights, adapter = digest(b"weights"), digest(b"adapter")
    server.on(f"HEAD /api/blobs/{weights}", Reply(status=404))
    server.on(f"POST /api/blobs/{weights}", Reply(status=201))
    server.on(f"HEAD /api/blobs/{adapter}", Reply())
    server.on("POST /api/create", Reply(stream=({"status": "success"},)))

    result = rkllama(server, "create", "mine", "-f", str(tmp_path / "Modelfile"))

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "hashing a.gguf 100% of 7 B",
        "uploading a.gguf 100% of 7 B",
        "hashing lora.gguf 100% of 7 B",
        "success",
    ]
    assert result.stderr == "rkllama: parameter 'mirostat' is deprecated and was skipped\n"
    assert next(asked.body for asked in server.asked if asked.method == "POST") == b"weights"
    assert server.bodies("/api/create") == [
        {
            "model": "mine",
            "files": {"a.gguf": weights},
            "adapters": {"lora.gguf": adapter},
            "system": "You are\nbrief.",
            "parameters": {"seed": 1},
        }
    ]


def test_create_from_a_model_and_from_the_predecessors_grammar(
    server: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_text('FROM="qwen2.5:3b"\nTEMPERATURE=0.5\n')
    server.on("POST /api/create", Reply(stream=({"status": "success"},)))

    result = rkllama(server, "create", "mine", "-f", str(tmp_path / "Modelfile"))

    assert result.exit_code == 0, result.output
    assert server.bodies("/api/create") == [
        {"model": "mine", "from": "qwen2.5:3b", "parameters": {"temperature": 0.5}}
    ]


@pytest.mark.parametrize(
    ("modelfile", "said"),
    [
        (None, "cannot read the Modelfile {path}: No such file or directory"),
        ("SYSTEM x\n", "the Modelfile cannot be read: no FROM line"),
        ("FROM ./no.gguf\n", "FROM ./no.gguf: there is no such file"),
        ("FROM no.rkllm\n", "FROM no.rkllm: there is no such file"),
        ("FROM m\nADAPTER no.gguf\n", "ADAPTER no.gguf: there is no such file"),
        (
            "FROM m\nFROM ./Modelfile\n",
            "the Modelfile names a model and a file in FROM; it can only build on one",
        ),
        ("FROM .\n", "the folder {folder} holds no model"),
        ("FROM m\nPARAMETER foo 1\n", "the Modelfile cannot be taken: unknown parameter 'foo'"),
    ],
)
def test_a_modelfile_that_cannot_be_taken_is_one_sentence(
    server: Scripted, tmp_path: Path, modelfile: str | None, said: str
) -> None:
    path = tmp_path / "Modelfile"
    if modelfile is not None:
        path.write_text(modelfile)

    result = rkllama(server, "create", "mine", "-f", str(path))

    assert sentence(result) == said.format(path=path, folder=tmp_path)
    assert not server.asked


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
