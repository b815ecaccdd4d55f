"""`make against`: the simulator held against the real stack, on one trace of conversations.

Broker, store, gateway, four workers and their engines are real; the boards are emulated, with the vendor's
speeds, twenty times faster. Every board learns every model first; the simulator is then given what the
boards learned, as the policy itself is, and plays the same conversations in virtual time. Nothing is
subtracted from either side: the stack's own milliseconds count twentyfold.

Where boards stand alike, a hash of the job's id decides who claims, and that changes everything after it:
so both sides play the trace several times, with other ids each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from time import monotonic

import httpx2
import ollama
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Speed, StatusRequest, WorkerBeat
from rkllama_protocol.subjects import Subjects, WorkerVerb
from rkllm_bindings.emulator import ModelScript, byte_level_tokenizer

from bench.figures import quantile
from bench.simulator.board import Equipment
from bench.simulator.policies import Claims
from bench.simulator.running import play
from bench.simulator.speeds import Speeds
from bench.simulator.traffic import MEAN_ANSWER, MODELS, Conversation, Model, conversations
from tests.broker import TESTER
from tests.emulated import EOS, SPECIAL, emulated
from tests.stack import Stack, wait_until

BOARDS = 4
REQUESTS = 200
LOAD = 0.6
CLOCK = 20.0
RUNS = 3
PLAYS = 20
WITHIN = 0.1
MOST_MODELS = 2
WORD, WORD_ID = "abcd", 260
"""One token of four characters, as who has no tokenizer counts them."""
NAMES = [chr(code) for code in range(0x30, 0x7B) if chr(code).isalnum() and chr(code) not in WORD]
"""A conversation's first token, so that no other begins like it."""
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}<|im_start|>"


def trace(*, requests: int, load: float, seed: int) -> list[Conversation]:
    """The first conversations of so many requests in all; the last one is cut off."""
    many = [
        talk
        for talk in conversations(boards=BOARDS, load=load, count=requests, seed=seed)
        if talk.turns
    ]
    asked = accumulate(len(talk.turns) for talk in many)
    chosen: list[Conversation] = []
    for talk, so_far in zip(many, asked, strict=True):
        over = max(0, so_far - requests)
        chosen.append(replace(talk, turns=talk.turns[: len(talk.turns) - over]))
        if so_far >= requests:
            break
    if len(chosen) > len(NAMES):
        raise ValueError(f"{len(chosen)} conversations, and {len(NAMES)} names for them")
    return chosen


def script(model: Model, *, clock: float, seed: int = 0) -> ModelScript:
    """A model that says one word over and over, at the model's speed."""
    merged = [b"ab", b"cd", WORD.encode()]
    return ModelScript(
        vocabulary=[*(bytes([byte]) for byte in range(256)), b"<s>", b"<e>", *merged],
        special=SPECIAL,
        eos=(EOS,),
        alphabet_ids=(WORD_ID,),
        seed=seed,
        load_ms=1e3 * model.speeds.load_s,
        prefill_tokens_per_s=1 / model.speeds.prefill_s_per_token,
        decode_tokens_per_s=1 / model.speeds.decode_s_per_token,
        clock=clock,
    )


def tokenizer() -> dict[str, object]:
    """Of the same tokens."""
    made = byte_level_tokenizer(SPECIAL)
    made["model"]["vocab"] |= {text: token for token, text in SPECIAL.items()}
    made["model"]["vocab"] |= {"ab": 258, "cd": 259, WORD: WORD_ID}
    made["model"]["merges"] = ["a b", "c d", "ab cd"]
    return made


def create(client: ollama.Client, model: Model, folder: Path) -> None:
    """Create it on the server, under its name."""
    folder.mkdir(parents=True)
    weights = script(model, clock=CLOCK, seed=ord(model.digest[-1])).write(folder / "model.rkllm")
    texts = {
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"eos_token": SPECIAL[EOS], "chat_template": TEMPLATE},
    }
    files = {weights.name: client.create_blob(weights)}
    for name, content in texts.items():
        path = folder / name
        path.write_text(json.dumps(content))
        files[name] = client.create_blob(path)
    client.create(model.name.lower(), files=files)


def words(tokens: int) -> str:
    return WORD * max(1, tokens)


async def ask(
    http: httpx2.AsyncClient, url: str, model: Model, messages: list[dict[str, str]], answer: int
) -> float:
    """Seconds to the first token; the answer is appended to the messages."""
    body = {"model": model.name.lower(), "messages": messages, "options": {"num_predict": answer}}
    begun, first, said = monotonic(), 0.0, ""
    async with http.stream("POST", f"{url}/api/chat", json=body) as response:
        async for line in response.aiter_lines():
            record = json.loads(line)
            if "error" in record:
                raise RuntimeError(record["error"])
            if record["message"]["content"] and not said:
                first = monotonic() - begun
            said += record["message"]["content"]
    if said != WORD * answer:
        raise RuntimeError(f"{len(said) / len(WORD)} tokens instead of {answer}")
    messages.append({"role": "assistant", "content": said})
    return first


async def converse(
    http: httpx2.AsyncClient, url: str, talk: Conversation, name: str, begun: float
) -> list[float]:
    """One conversation as its client has it; virtual seconds to the first token of each turn."""
    messages: list[dict[str, str]] = []
    waited: list[float] = []
    since = begun
    for turn in talk.turns:
        pause_s = turn.pause_s if messages else talk.begins_s
        await asyncio.sleep(max(0.0, since + pause_s / CLOCK - monotonic()))
        # The template adds two tokens a turn, and a conversation's name is the first of its tokens.
        content = words(turn.question - 2) if messages else name + words(turn.question - 3)
        messages.append({"role": "user", "content": content})
        first_s = await ask(http, url, talk.model, messages, turn.answer)
        since = monotonic()
        waited.append(CLOCK * first_s)
    return waited


@asynccontextmanager
async def rambling(
    http: httpx2.AsyncClient, url: str, model: Model, prompt: str
) -> AsyncIterator[None]:
    """An answer that has begun, and that nothing ends but leaving it."""
    body = {"model": model.name.lower(), "prompt": prompt, "raw": True}
    async with http.stream("POST", f"{url}/api/generate", json=body) as response:
        lines = response.aiter_lines()
        await anext(lines)
        yield


async def warm(http: httpx2.AsyncClient, stack: Stack) -> None:
    """Let every board load every model, while no other one loads; run it, and unload it again."""
    for model in MODELS:
        async with AsyncExitStack() as busy:
            for name in NAMES[:BOARDS]:
                await busy.enter_async_context(rambling(http, stack.url, model, name))
        asked = [
            ask(
                http, stack.url, model, [{"role": "user", "content": name + words(99)}], MEAN_ANSWER
            )
            for name in NAMES[:BOARDS]
        ]
        await asyncio.gather(*asked)
    for model in MODELS:
        body = {"model": model.name.lower(), "keep_alive": 0}
        await http.post(f"{stack.url}/api/generate", json=body)
    await asyncio.to_thread(wait_until, "everything to be unloaded", lambda: not loaded(stack))


def loaded(stack: Stack) -> list[int]:
    return [pid for number in range(BOARDS) for pid in stack.engines(f"worker-{number + 1}")]


async def learned(stack: Stack) -> list[WorkerBeat]:
    """What each board says of itself."""
    subjects = Subjects()
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(stack.broker.url, name="bench", tasks=tasks, access=TESTER) as bus,
    ):
        boards = [
            await bus.ask(
                subjects.worker(f"worker-{number + 1}", WorkerVerb.STATUS),
                StatusRequest(),
                WorkerBeat,
                timeout_s=5,
            )
            for number in range(BOARDS)
        ]
    for board in boards:
        if len(board.speeds) != len(MODELS):
            raise RuntimeError(f"{board.worker_id} has learned {len(board.speeds)} models")
    return boards


def as_learned(boards: Sequence[WorkerBeat]) -> Iterator[Model]:
    """The models with the mean of what boards learned of them, in virtual seconds."""
    known: dict[int, list[Speed]] = {}
    for board in boards:
        for speed in board.speeds:
            # Digests are the store's: models are told apart by how fast they are.
            known.setdefault(_nearest(speed), []).append(speed)
    for at, model in enumerate(MODELS):
        speeds = known[at]
        yield replace(
            model,
            speeds=Speeds(
                load_s=CLOCK * statistics.fmean(one.load_s or 0 for one in speeds),
                prefill_s_per_token=CLOCK
                * statistics.fmean(one.prefill_s_per_token or 0 for one in speeds),
                decode_s_per_token=CLOCK
                * statistics.fmean(one.decode_s_per_token or 0 for one in speeds),
            ),
        )


def _nearest(speed: Speed) -> int:
    step_s = CLOCK * (speed.decode_s_per_token or 0)
    return min(
        range(len(MODELS)), key=lambda at: abs(MODELS[at].speeds.decode_s_per_token - step_s)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The trace, played once."""

    first_tokens_s: Sequence[float]
    """Virtual seconds that each question waited for its first token."""
    loads: int

    @property
    def mean_s(self) -> float:
        return statistics.fmean(self.first_tokens_s)

    @property
    def p95_s(self) -> float:
        return quantile(self.first_tokens_s, 0.95)


def simulated(talks: Sequence[Conversation], models: Sequence[Model], *, at: int) -> Play:
    """The conversations in virtual time, on boards that know these models; `at` is for other ids of jobs."""
    by_digest = {model.digest: model for model in models}
    played = [
        replace(talk, name=f"{at}-{talk.name}", model=by_digest[talk.model.digest])
        for talk in talks
    ]
    equipment = Equipment(most_models=MOST_MODELS)
    outcome = play(played, Claims, boards=BOARDS, equipment=equipment, models=models, bounded=True)
    waited = [one.ttft_s for one in outcome.served]
    return Play(first_tokens_s=waited, loads=outcome.loads)


async def run(
    stack: Stack, talks: Sequence[Conversation], *, plays: Sequence[int]
) -> tuple[Play, list[Play]]:
    """The trace on the real stack, and what the simulator makes of it."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as http:
        await warm(http, stack)
        models, before = list(as_learned(await learned(stack))), loads(stack)
        virtual = [simulated(talks, models, at=at) for at in plays]
        begun = monotonic()
        told = await asyncio.gather(
            *(
                converse(http, stack.url, talk, name, begun)
                for talk, name in zip(talks, NAMES, strict=False)
            )
        )
    waited = [one for of_talk in told for one in of_talk]
    return Play(first_tokens_s=waited, loads=loads(stack) - before), virtual


def loads(stack: Stack) -> int:
    """How many there have been."""
    logs = [stack.log(f"worker-{number + 1}").read_text() for number in range(BOARDS)]
    return sum(log.count('"event":"model loaded"') for log in logs)


def row(name: str, plays: Sequence[Play]) -> str:
    """The means over all plays, and how far they are apart."""
    means = [play.mean_s for play in plays]
    cells = [mean_s(plays), min(means), max(means), statistics.fmean(play.p95_s for play in plays)]
    loads = statistics.fmean(play.loads for play in plays)
    shown = [name, str(len(plays)), *(f"{cell:.2f}" for cell in cells), f"{loads:.1f}"]
    return f"| {' | '.join(shown)} |"


def mean_s(plays: Sequence[Play]) -> float:
    return statistics.fmean(play.mean_s for play in plays)


def play_both(talks: Sequence[Conversation], *, plays: Sequence[int]) -> tuple[Play, list[Play]]:
    """Once on a stack of its own; and in the simulator with what its boards learned."""
    with tempfile.TemporaryDirectory(prefix="against-") as name:
        folder = Path(name)
        with emulated(
            folder, "abi-1.3.0", workers=BOARDS, RKLLAMA_WORKER_MAX_MODELS=str(MOST_MODELS)
        ) as stack:
            with ollama.Client(host=stack.url, trust_env=False) as client:
                for model in MODELS:
                    create(client, model, folder / "models of the trace" / model.name)
            return asyncio.run(run(stack, talks, plays=plays))


def main() -> int:
    """Run both, and print both."""
    parser = argparse.ArgumentParser(prog="python -m bench.against")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--load", type=float, default=LOAD)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=RUNS, help="of the real stack")
    parser.add_argument("--plays", type=int, default=PLAYS, help="of the simulator, for each run")
    chosen = parser.parse_args()
    talks = trace(requests=chosen.requests, load=chosen.load, seed=chosen.seed)
    real, virtual = [], []
    for run_at in range(0, chosen.runs * chosen.plays, chosen.plays):
        one, many = play_both(talks, plays=range(run_at, run_at + chosen.plays))
        print(f"real stack: {one.mean_s:.2f} s", file=sys.stderr, flush=True)
        real.append(one)
        virtual += many
    print(f"seed {chosen.seed}, load {chosen.load:g}, {BOARDS} boards, {len(talks)} conversations")
    print("| | plays | mean s to first token | least | most | p95 | loads |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(row("real stack", real))
    print(row("simulator", virtual))
    ratio = mean_s(virtual) / mean_s(real)
    print(f"simulator / real stack: {ratio:.3f}")
    return 0 if abs(ratio - 1) <= WITHIN else 1


if __name__ == "__main__":
    raise SystemExit(main())
