"""What a job costs a board, in seconds until its first token.

    cost = what is left of the running job
         + fetch seconds of what the board lacks, and load seconds, if the model is not resident
         + load seconds of what has to be evicted for it: whoever wants that next pays them
         + prefill seconds of what it does not hold of the prompt

It is infinite where the board cannot run the job at all, and then there is a reason in words.
Figures a board has not learned yet are guessed from the size of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import orjson
from rkllama_protocol.messages import (
    ADAPTER_TYPE,
    WEIGHTS_TYPE,
    Descriptor,
    Job,
    ResidentModel,
    ResolvedModel,
    RunningJob,
    Speed,
    Ticket,
    WorkerBeat,
)

from rkllama_policy.context import context_fits
from rkllama_policy.conversation import (
    estimated_tokens,
    held_tokens,
    longest_held,
    message_bytes,
    tools_bytes,
)
from rkllama_policy.eviction import to_evict

LOAD_BYTES_PER_S = 250e6
"""A 4 GB model loads in 16 s from eMMC (rkllm-abi/semantics.md, section 1)."""
LOAD_FLOOR_S = 0.3
FETCH_BYTES_PER_S = 30e6
"""What an SD card of UHS speed class 3 writes at least; gigabit Ethernet brings four times as much."""
LARGE_BYTES = 2**20
"""Blobs below this cost nothing worth counting to fetch."""
MOST_BLOBS = 8
"""Of a model, the largest ones, that a ticket names."""
PREFILL_S_PER_TOKEN_PER_BYTE = 4.5e-12
"""Qwen3-1.7B, 1.7 GB of weights, prefills a token in 6-10 ms (field/frontier.md, finding 4)."""
DECODE_S_PER_TOKEN_PER_BYTE = 4.0e-11
"""Qwen2.5-1.5B, 1.6 GB, decodes 16.7 tokens a second (rkllm-abi/benchmark.csv)."""
RESTORE_S = 0.3
"""Assumed: llama.cpp took 6-13 ms for 480 tokens of a small model, and nobody has measured RKLLM."""
TOKENS_PER_ANSWER = 200.0
OVERDUE = 0.25
"""Of the usual answer, what one that is longer than that is taken to go on for, however long it is by then."""
MEMORY_FACTOR = 1.25
"""A loaded model needs its weights, a KV cache and the runtime's own buffers."""


def weights_bytes(model: ResolvedModel) -> int:
    """Size of the files that are loaded into memory."""
    return sum(layer.size for layer in model.layers if layer.media_type == WEIGHTS_TYPE)


def files_of(model: ResolvedModel) -> list[Descriptor]:
    """The layers that a board has to have as files to load the model."""
    return [layer for layer in model.layers if layer.name or layer.media_type == ADAPTER_TYPE]


def large_blobs(model: ResolvedModel) -> dict[str, int]:
    """Digest to bytes of the files that are worth counting when they have to be fetched."""
    large = {layer.digest: layer.size for layer in files_of(model) if layer.size >= LARGE_BYTES}
    return dict(sorted(large.items(), key=lambda row: -row[1])[:MOST_BLOBS])


def prompt_tokens(job: Job) -> int:
    """An estimate of the prompt's length, for those who have no tokenizer."""
    texts = (job.prompt, job.suffix, *job.inputs)
    size = sum(len(text.encode()) for text in texts) + tools_bytes(job)
    size += sum(map(message_bytes, job.messages))
    if isinstance(job.format, dict):
        # Where no grammar can hold a model to it, it is asked for in words.
        size += len(orjson.dumps(job.format))
    made = len(job.resume.ids) if job.resume else 0
    return estimated_tokens(size) + len(job.context) + made


def refusal(ticket: Ticket, board: WorkerBeat) -> str:
    """Why `board` can never run the job as it is now; empty if it can."""
    if board.draining:
        return "is draining"
    if not board.ready:
        return "is not ready"
    if ticket.model_format not in board.runtimes:
        return f"has no runtime for {ticket.model_format} models"
    if board.memory_bytes and memory_bytes(ticket.weights_bytes) > board.memory_bytes:
        return "has too little memory for the model"
    if reason := board.failed.get(ticket.model):
        return f"failed to load the model: {reason}"
    return ""


def memory_bytes(weights_bytes: int) -> int:
    """What a model of this size is expected to use, loaded."""
    return round(weights_bytes * MEMORY_FACTOR)


def speed_of(board: WorkerBeat, model: str) -> Speed:
    """What `board` has learned of `model`; empty fields where nothing."""
    for speed in board.speeds:
        if speed.model == model:
            return speed
    return Speed(model=model)


def load_s(speed: Speed, weights_bytes: int) -> float:
    """Seconds to load a model, learned or guessed."""
    if speed.load_s is not None:
        return speed.load_s
    return LOAD_FLOOR_S + weights_bytes / LOAD_BYTES_PER_S


def missing_bytes(ticket: Ticket, board: WorkerBeat) -> int:
    """What `board` has to fetch before it can load the job's model; parts of files count as here."""
    if board.shares_store:
        return 0
    return sum(max(0, size - board.blobs.get(key, 0)) for key, size in ticket.blobs.items())


def fetch_s(bytes_per_s: float | None, size_bytes: int) -> float:
    """Seconds to fetch so much from the store, at the board's learned rate or a guessed one."""
    return size_bytes / (bytes_per_s or FETCH_BYTES_PER_S)


def prefill_s(speed: Speed, weights_bytes: int, tokens: int) -> float:
    """Seconds to read a prompt, learned or guessed."""
    per_token = speed.prefill_s_per_token
    if per_token is None:
        per_token = weights_bytes * PREFILL_S_PER_TOKEN_PER_BYTE
    return per_token * tokens


def decode_s(speed: Speed, weights_bytes: int, tokens: float) -> float:
    """Seconds to make `tokens` tokens, learned or guessed."""
    per_token = speed.decode_s_per_token
    if per_token is None:
        per_token = weights_bytes * DECODE_S_PER_TOKEN_PER_BYTE
    return per_token * tokens


def answer_tokens(speed: Speed, num_predict: int) -> float:
    """How long an answer is expected to be, in tokens; `num_predict` < 0 means no limit."""
    expected = TOKENS_PER_ANSWER if speed.tokens_per_answer is None else speed.tokens_per_answer
    return expected if num_predict < 0 else min(expected, float(num_predict))


def overdue_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds that an answer is taken to go on for once it is longer than usual; 0 if it may not be longer."""
    speed = speed_of(board, ticket.model)
    usual = answer_tokens(speed, -1)
    more = math.inf if ticket.num_predict < 0 else max(0.0, ticket.num_predict - usual)
    return decode_s(speed, ticket.weights_bytes, min(OVERDUE * usual, more))


def loading_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds to load the job's model; 0 if it is loaded as the job needs it."""
    resident = _resident(ticket, board)
    if resident is not None and context_fits(ticket.num_ctx, resident):
        return 0.0
    return load_s(speed_of(board, ticket.model), ticket.weights_bytes)


def ready_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds until the job's model can be run, from when the board is free: to fetch and to load."""
    fetch = 0.0
    if _resident(ticket, board) is None:
        fetch = fetch_s(board.fetch_bytes_per_s, missing_bytes(ticket, board))
    return fetch + loading_s(ticket, board)


def evicted_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds of the loads that this one forces on others, when the board is free.

    What is resident was asked for within its keep-alive, so it counts as if it were sure to be asked for
    again (ADR 14).
    """
    if not board.models or _resident(ticket, board) is not None:
        return 0.0
    evicted = to_evict(
        board.models,
        need_bytes=memory_bytes(ticket.weights_bytes),
        limit_bytes=board.memory_bytes or math.inf,
        max_models=board.max_models,
        later=True,
    )
    return sum(_reload_s(model, board) for model in board.models if model.digest in (evicted or ()))


def _reload_s(model: ResidentModel, board: WorkerBeat) -> float:
    """Seconds to load a resident model once more, learned or guessed from what it uses."""
    return load_s(speed_of(board, model.digest), round(model.size / MEMORY_FACTOR))


def unread_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds to read what the board does not hold of the prompt."""
    resident = _resident(ticket, board)
    held = 0
    if resident is not None and context_fits(ticket.num_ctx, resident):
        held = held_tokens(ticket, resident.holds)
    speed = speed_of(board, ticket.model)
    if restorable(ticket, speed, held=held, saved=board.saved):
        saved = held_tokens(ticket, board.saved)
        rest = prefill_s(speed, ticket.weights_bytes, ticket.prompt_tokens - saved)
        return restore_s(speed) + rest
    return prefill_s(speed, ticket.weights_bytes, ticket.prompt_tokens - held)


def restore_s(speed: Speed) -> float:
    """Seconds to put a saved conversation back into its context, learned or guessed."""
    return RESTORE_S if speed.restore_s is None else speed.restore_s


def restorable(ticket: Ticket, speed: Speed, *, held: int, saved: Collection[str]) -> str:
    """Which saved conversation to take up, where `held` tokens of the prompt are held; empty: none.

    The longest one, if to restore it takes less than to read what it has more.
    """
    link = longest_held(ticket, saved) if saved else None
    if link is None:
        return ""
    more = held_tokens(ticket, saved) - held
    return link.hash if prefill_s(speed, ticket.weights_bytes, more) > restore_s(speed) else ""


def worth_saving(ticket: Ticket, speed: Speed) -> bool:
    """Whether the conversation would be taken up from a file, were it gone from its context."""
    return bool(ticket.chain) and (
        prefill_s(speed, ticket.weights_bytes, ticket.prompt_tokens) > restore_s(speed)
    )


def _resident(ticket: Ticket, board: WorkerBeat) -> ResidentModel | None:
    return next((model for model in board.models if model.digest == ticket.model), None)


def left_s(board: WorkerBeat, age_s: float = 0.0) -> float:
    """Predicted seconds until `board` is free, so long after it said what `board` says."""
    return 0.0 if board.running is None else rest_s(board.running, age_s)


def rest_s(running: RunningJob, age_s: float) -> float:
    """Predicted seconds of a run, so long after this was said of it."""
    return max(running.overdue_s, running.left_s - age_s)


def aged(board: WorkerBeat, age_s: float) -> WorkerBeat:
    """What `board` would say by now, so long after it said this."""
    if board.running is None:
        return board
    running = board.running.model_copy(update={"left_s": left_s(board, age_s)})
    return board.model_copy(update={"running": running})


def startup_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds to the job's first token from when `board` is free; infinite if it cannot run it."""
    if refusal(ticket, board):
        return math.inf
    return ready_s(ticket, board) + evicted_s(ticket, board) + unread_s(ticket, board)


def cost_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds until the job's first token on `board`; infinite if it cannot run it."""
    return left_s(board) + startup_s(ticket, board)


def run_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds that the job keeps `board` to its last token, once the model's files are there."""
    speed = speed_of(board, ticket.model)
    tokens = answer_tokens(speed, ticket.num_predict)
    decode = decode_s(speed, ticket.weights_bytes, tokens)
    return loading_s(ticket, board) + unread_s(ticket, board) + decode
