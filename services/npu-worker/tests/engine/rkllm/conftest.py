"""Every family's emulator, built once a run, and engines with an emulated model."""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Job, Sampling
from rkllama_worker.engine.wire import Frame, Kind, LoadSpec, RkllmSpec, RunEnded
from rkllm_bindings import FAMILIES
from rkllm_bindings.emulator import ModelScript, Reply, build, byte_level_tokenizer, read_trace

if TYPE_CHECKING:
    from conftest import EngineUnderTest

SPECIAL = {256: "<|im_end|>", 257: "<|im_start|>"}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOADED_WITH = Sampling(temperature=0.5, top_k=7, top_p=0.75, repeat_penalty=1.25)
DOUBT = "tokenizer disagrees"


@dataclass(frozen=True)
class Family:
    """What the engine is to make of a family."""

    id: str
    library: Path
    samples_per_run: bool
    gives_perf: bool
    clears_cache: bool
    reuses_prefix: bool


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The emulator of each family."""
    folder = tmp_path_factory.mktemp("emulator")
    with ThreadPoolExecutor(2) as compilers:
        built = compilers.map(lambda name: build(name, folder), FAMILIES)
        return dict(zip(FAMILIES, built, strict=True))


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, libraries: dict[str, Path]) -> Family:
    known = FAMILIES[request.param]
    return Family(
        id=known.id,
        library=libraries[known.id],
        samples_per_run=known.samples_per_run,
        gives_perf=known.gives_perf,
        clears_cache="rkllm_clear_kv_cache" in known.prototypes,
        reuses_prefix=known.id != "abi-1.1",
    )


@dataclass(frozen=True)
class Answered:
    """A run that is over."""

    chunks: list[Chunk]
    ended: RunEnded

    @property
    def content(self) -> str:
        return "".join(chunk.content for chunk in self.chunks)

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.ids]

    @property
    def last(self) -> Chunk:
        return self.chunks[-1]


class Emulated:
    """An engine, and the model that it is to load; `load` does."""

    def __init__(
        self,
        engine: EngineUnderTest,
        folder: Path,
        library: Path,
        *,
        pooling: str = "",
        constrained: bool = False,
        **keys: Any,
    ) -> None:
        self.engine = engine
        self.trace_path = folder / "trace"
        self._forgotten = 0
        keys = {"special": SPECIAL, "trace": self.trace_path, **keys}
        self.script = ModelScript(**keys)
        contents: dict[str, Any] = {
            "tokenizer.json": byte_level_tokenizer(SPECIAL),
            "generation_config.json": {"eos_token_id": 256},
        }
        if pooling:
            contents["1_Pooling/config.json"] = {pooling: True}
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps(content))
        self.spec = LoadSpec(
            name="emulated-model",
            model_format="rkllm",
            weights=str(self.script.write(folder / "model.rkllm")),
            files={name: str(folder / name) for name in contents},
            template=TEMPLATE,
            sampling=LOADED_WITH,
            rkllm=RkllmSpec(
                library=str(library), base_domain_id=3, cpu_mask=0x30, constrained=constrained
            ),
        )
        self._runs = 0

    def load(self, **changes: Any) -> Frame:
        """READY or FAILED."""
        return self.engine.load(self.spec.model_copy(update=changes))

    def begin(self, job: Job) -> int:
        """Send a job; the number of its run."""
        self._runs += 1
        self.engine.begin(self._runs, job)
        return self._runs

    def rest(self, run: int) -> Answered:
        """Wait for the end of a run."""
        return Answered(*self.engine.rest(run))

    def ask(self, job: Job) -> Answered:
        """Run a job alone."""
        return self.rest(self.begin(job))

    def twin(self, prompt: str, limit: int = 10_000) -> list[int]:
        """The ids that have to follow a raw prompt."""
        return self.script.continuation(self.script.tokenize(prompt), limit)

    def trace(self, event: str | None = None) -> list[dict[str, Any]]:
        """What has crossed the border, or what has since it was forgotten."""
        lines = read_trace(self.trace_path)[self._forgotten :]
        return [line for line in lines if event in (None, line["event"])]

    def forget(self) -> None:
        """Begin the trace anew."""
        self._forgotten = len(read_trace(self.trace_path))

    def wait_for(self, event: str, count: int) -> None:
        """Until so many of an event were traced; a frame meanwhile is a fault."""
        while len(self.trace(event)) < count:
            readable, _, _ = select.select([self.engine.socket], [], [], 0.01)
            assert not readable


Emulate = Callable[..., Emulated]


class _Emulator:
    """Makes engines with emulated models, and ends them."""

    def __init__(self, start: Callable[[], EngineUnderTest], folders: Iterator[Path]) -> None:
        self._start = start
        self._folders = folders
        self._made: list[Emulated] = []

    def __call__(self, library: Path, **keys: Any) -> Emulated:
        made = Emulated(self._start(), next(self._folders), library, **keys)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.engine.destroy()


def _folders(factory: pytest.TempPathFactory) -> Iterator[Path]:
    while True:
        yield factory.mktemp("model")


@pytest.fixture
def emulate(
    start_engine: Callable[[], EngineUnderTest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulate]:
    """`emulate(library, **script)`: an engine of the test's own, not loaded."""
    emulator = _Emulator(start_engine, _folders(tmp_path_factory))
    yield emulator
    emulator.close()


@pytest.fixture(scope="module")
def emulate_shared(
    start_engine: Callable[[], EngineUnderTest], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Iterator[Emulated]]:
    """The same for fixtures of a module, loaded: a test leaves no run behind."""

    def shared(library: Path, **keys: Any) -> Iterator[Emulated]:
        emulator = _Emulator(start_engine, _folders(tmp_path_factory))
        made = emulator(library, **keys)
        assert made.load().kind is Kind.READY
        yield made
        doubted = DOUBT in made.engine.output
        emulator.close()
        assert not doubted

    return shared


ALPHABET = "".join(map(chr, range(33, 127))) + "é漢🦉 " * 20
"""Prompts have answers that differ from the first tokens on; half of the characters are several tokens."""
ENDLESS = Reply(tokens=(*b"lorem ipsum ",) * 2000, when="endless")


@pytest.fixture(scope="module")
def calm(family: Family, emulate_shared: Callable[..., Iterator[Emulated]]) -> Iterator[Emulated]:
    """A model on its best day. Answers have 40 tokens; a prompt with `FAIL` fails at the third."""
    yield from emulate_shared(
        family.library,
        alphabet=ALPHABET,
        answer_tokens=40,
        prefill_tokens_per_s=2000,
        decode_tokens_per_s=1000,
        replies=[ENDLESS],
        fault="error",
        fault_after=2,
        fault_when="FAIL",
    )


@pytest.fixture(scope="module")
def rude(family: Family, emulate_shared: Callable[..., Iterator[Emulated]]) -> Iterator[Emulated]:
    """One that knows no EOS, splits characters, calls from a thread of its own, and aborts badly."""
    yield from emulate_shared(
        family.library,
        alphabet=ALPHABET,
        answer_tokens=40,
        decode_tokens_per_s=1000,
        replies=[ENDLESS],
        ignore_eos=True,
        utf8="split",
        foreign_thread=True,
        finish_after_abort=False,
        abort_status=-1,
        abort_after_tokens=3,
    )


@pytest.fixture(params=["calm", "rude"])
def model(request: pytest.FixtureRequest, calm: Emulated, rude: Emulated) -> Emulated:
    """Either of them: what a client sees is the same."""
    return {"calm": calm, "rude": rude}[request.param]


@pytest.fixture(scope="session")
def raw(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """`raw("text", num_predict=3)`: a job whose prompt is the text, sampled as the model was loaded."""

    def make(prompt: str, **fields: Any) -> Job:
        fields.setdefault("sampling", LOADED_WITH)
        return make_job(kind="completion", prompt=prompt, **fields)

    return make


@pytest.fixture(scope="session")
def newest(libraries: dict[str, Path]) -> Path:
    """For what is the same in every family."""
    return libraries["abi-1.3.0"]
