"""What a job costs a board, in seconds until its first token.

    cost = what is left of the running job
         + load seconds, if the model is not resident
         + prefill seconds of the prompt

It is infinite where the board cannot run the job at all, and then there is a reason in words.
Figures a board has not learned yet are guessed from the size of the weights.
"""

from __future__ import annotations

import math

from rkllama_protocol.messages import (
    WEIGHTS_TYPE,
    Job,
    ResolvedModel,
    Speed,
    Ticket,
    WorkerBeat,
)

LOAD_BYTES_PER_S = 250e6
"""A 4 GB model loads in 16 s from eMMC (rkllm-abi/semantics.md, section 1)."""
LOAD_FLOOR_S = 0.3
PREFILL_S_PER_TOKEN_PER_BYTE = 4.5e-12
"""Qwen3-1.7B, 1.7 GB of weights, prefills a token in 6-10 ms (field/frontier.md, finding 4)."""
DECODE_S_PER_TOKEN_PER_BYTE = 4.0e-11
"""Qwen2.5-1.5B, 1.6 GB, decodes 16.7 tokens a second (rkllm-abi/benchmark.csv)."""
TOKENS_PER_ANSWER = 200.0
MEMORY_FACTOR = 1.25
"""A loaded model needs its weights, a KV cache and the runtime's own buffers."""


CHARS_PER_TOKEN = 4


def weights_bytes(model: ResolvedModel) -> int:
    """Size of the files that are loaded into memory."""
    return sum(layer.size for layer in model.layers if layer.media_type == WEIGHTS_TYPE)


def prompt_tokens(job: Job) -> int:
    """An estimate of the prompt's length, for those who have no tokenizer."""
    chars = len(job.prompt) + sum(len(message.content) for message in job.messages)
    chars += sum(len(text) for text in job.inputs)
    return math.ceil(chars / CHARS_PER_TOKEN)


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
    return next((speed for speed in board.speeds if speed.model == model), Speed(model=model))


def load_s(speed: Speed, weights_bytes: int) -> float:
    """Seconds to load a model, learned or guessed."""
    if speed.load_s is not None:
        return speed.load_s
    return LOAD_FLOOR_S + weights_bytes / LOAD_BYTES_PER_S


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


def cost_s(ticket: Ticket, board: WorkerBeat) -> float:
    """Seconds until the job's first token on `board`; infinite if it cannot run it."""
    if refusal(ticket, board):
        return math.inf
    speed = speed_of(board, ticket.model)
    cost = board.running.left_s if board.running else 0.0
    resident = next((m for m in board.models if m.digest == ticket.model), None)
    fits = resident is not None and (
        ticket.num_ctx is None or ticket.num_ctx == resident.context_length
    )
    if not fits:
        cost += load_s(speed, ticket.weights_bytes)
    return cost + prefill_s(speed, ticket.weights_bytes, ticket.prompt_tokens)
