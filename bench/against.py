"""`make against`: the simulator held against the real stack, on one trace of conversations.

Broker, store, gateway, four workers and their engines are real; the boards are emulated, with the vendor's
speeds, twenty times faster. Every board learns every model first; the simulator is then given what the
boards learned, as the policy itself is, and plays conversations in virtual time. When each question came
is the trace: the stack gets it at the same moment, or when it has answered the one before. Nothing is
subtracted from either side: the stack's own milliseconds count twentyfold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from time import monotonic

import httpx2
import ollama
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Speed, StatusRequest, WorkerBeat
from rkllama_protocol.subjects import Subjects, WorkerVerb
from rkllm_bindings.emulator import ModelScript, byte_level_tokenizer

from bench.simulator.board import Equipment
from bench.simulator.policies import Claims
from bench.simulator.running import Outcome, Served, play
from bench.simulator.speeds import Speeds
from bench.simulator.traffic import MEAN_ANSWER, MODELS, Conversation, Model, conversations
from tests.broker import TESTER
from tests.emulated import EOS, SPECIAL, emulated
from tests.stack import Stack, wait_until

BOARDS = 4
REQUESTS = 200
LOAD = 0.6
CLOCK = 20.0
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
    http: httpx2.AsyncClient, url: str, asked: Sequence[Served], name: str, begun: float
) -> list[float]:
    """One conversation as its client sees it; virtual seconds to the first token of each turn."""
    messages: list[dict[str, str]] = []
    waited: list[float] = []
    for one in asked:
        await asyncio.sleep(max(0.0, begun + one.asked_s / CLOCK - monotonic()))
        # The template adds two tokens a turn, and a conversation's name is the first of its tokens.
        question = one.turn.question
        content = words(question - 2) if messages else name + words(question - 3)
        messages.append({"role": "user", "content": content})
        first_s = await ask(http, url, one.conversation.model, messages, one.turn.answer)
        waited.append(CLOCK * first_s)
    return waited


async def warm(http: httpx2.AsyncClient, stack: Stack) -> None:
    """Let every board run every model, and unload it again."""
    for model in MODELS:
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
        return [
            await bus.ask(
                subjects.worker(f"worker-{number + 1}", WorkerVerb.STATUS),
                StatusRequest(),
                WorkerBeat,
                timeout_s=5,
            )
            for number in range(BOARDS)
        ]


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


def simulated(talks: Sequence[Conversation], models: Sequence[Model]) -> Outcome:
    """The conversations in virtual time, on boards that know these models."""
    by_digest = {model.digest: model for model in models}
    played = [replace(talk, model=by_digest[talk.model.digest]) for talk in talks]
    equipment = Equipment(most_models=MOST_MODELS)
    return play(played, Claims, boards=BOARDS, equipment=equipment, models=models, bounded=True)


async def run(stack: Stack, talks: Sequence[Conversation]) -> tuple[list[float], Outcome]:
    """Virtual seconds to each first token on the real stack, and the simulator's outcome."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as http:
        await warm(http, stack)
        outcome = simulated(talks, list(as_learned(await learned(stack))))
        asked: dict[str, list[Served]] = {}
        for one in sorted(outcome.served, key=lambda one: one.asked_s):
            asked.setdefault(one.conversation.name, []).append(one)
        begun = monotonic()
        told = await asyncio.gather(
            *(
                converse(http, stack.url, turns, name, begun)
                for turns, name in zip(asked.values(), NAMES, strict=False)
            )
        )
    return [one for waited in told for one in waited], outcome


def loads(stack: Stack) -> int:
    logs = [stack.log(f"worker-{number + 1}").read_text() for number in range(BOARDS)]
    return sum(log.count('"event":"model loaded"') for log in logs) - BOARDS * len(MODELS)


def row(name: str, seconds: Sequence[float], loads: int) -> str:
    ordered = sorted(seconds)
    late = ordered[int(0.95 * len(ordered))]
    mean = statistics.fmean(ordered)
    return f"| {name} | {len(ordered)} | {mean:.2f} | {late:.2f} | {loads} |"


def main() -> int:
    """Run both, and print both."""
    parser = argparse.ArgumentParser(prog="python -m bench.against")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--load", type=float, default=LOAD)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    talks = trace(requests=chosen.requests, load=chosen.load, seed=chosen.seed)
    with tempfile.TemporaryDirectory(prefix="against-") as name:
        folder = Path(name)
        env = {"RKLLAMA_WORKER_MAX_MODELS": str(MOST_MODELS)}
        with emulated(folder, "abi-1.3.0", workers=BOARDS, **env) as stack:
            with ollama.Client(host=stack.url, trust_env=False) as client:
                for model in MODELS:
                    create(client, model, folder / "models of the trace" / model.name)
            real, outcome = asyncio.run(run(stack, talks))
            swaps = loads(stack)
    virtual = [one.ttft_s for one in outcome.served]
    ratio = statistics.fmean(virtual) / statistics.fmean(real)
    print(
        f"seed {chosen.seed}, load {chosen.load:g}, {BOARDS} boards, clock {CLOCK:g} times faster"
    )
    print("| | requests | mean s to first token | p95 | loads |\n| --- | --- | --- | --- | --- |")
    print(row("real stack", real, swaps))
    print(row("simulator", virtual, outcome.loads))
    print(f"simulator / real stack: {ratio:.3f}")
    return 0 if abs(ratio - 1) <= WITHIN else 1


if __name__ == "__main__":
    raise SystemExit(main())
