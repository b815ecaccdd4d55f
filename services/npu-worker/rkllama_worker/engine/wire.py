"""What a worker and its engine process say to each other, over one socket pair.

    frame := length (u32, big-endian) | kind (u8) | run (u32) | payload (length bytes)

Down go `LOAD` once, then `RUN`, with a `SAVING` before it where contexts are saved, `ABORT` and, for
each chunk, `MORE`; up come `READY` or `FAILED`, then for each run its
chunks in order and one `ENDED`, which says that the runtime has been joined and the next run may
start. `run` is a number the worker counts up, so that an abort never hits the run after the one it
meant; it is 0 for frames that belong to no run. A chunk's payload is what the gateway gets, byte for
byte: the worker passes it on unread.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from pydantic import BaseModel, ConfigDict
from rkllama_protocol.messages import Sampling

_HEAD = struct.Struct("!IBI")
HEAD_BYTES = _HEAD.size
MAX_PAYLOAD_BYTES = 256 * 2**20


class Kind(IntEnum):
    """What a frame is."""

    LOAD = 1
    """Down: `LoadSpec`."""
    RUN = 2
    """Down: a `Job`."""
    ABORT = 3
    """Down: empty. Harmless when the run is over, or not begun: then it never begins."""
    READY = 4
    """Up: `EngineReady`."""
    FAILED = 5
    """Up: `Fault`; the model could not be loaded and the process ends."""
    CHUNK = 6
    """Up: an encoded `Chunk`, of which others follow."""
    ENDED = 7
    """Up: `RunEnded`."""
    LAST_CHUNK = 8
    """Up: the encoded terminal `Chunk`; only ENDED follows."""
    MORE = 9
    """Down: empty; the chunk that came has been passed on. Until then its run gathers what it makes."""
    SAVING = 10
    """Down: `Saving`, for the run of that number, which follows."""


class EngineMessage(BaseModel):
    """A payload between worker and engine: the same build on both sides, so it carries no version."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RkllmSpec(EngineMessage):
    """How the vendor's library is to load the model."""

    library: str
    """Path of `librkllmrt.so`."""
    abi: str = ""
    """Overrides what the library is identified as."""
    base_domain_id: int = 0
    """First IOMMU domain of the weights; domains are shared by all processes of the board."""
    cpu_mask: int
    """CPUs the library may use, one bit each."""
    constrained: bool = False
    """Drive constrained runs, and those that tell logprobs, step by step through the logits: an experiment."""
    saves: bool = False
    """Save prompts to files and load them again, where the release can: nobody has measured it on a board."""


class Saving(EngineMessage):
    """What a run is to take up from a file, and to leave in one."""

    restore: str = ""
    """Path of a context that holds the begin of the prompt; empty: what is held is better."""
    save_to: str = ""
    """Path to leave the context at, which appears there whole or not at all; empty: nowhere."""


class LoadSpec(EngineMessage):
    """The one model of this engine's life."""

    name: str
    """For logs."""
    model_format: str
    """`gguf` or `rkllm`: it chooses the runtime."""
    weights: str
    """Path of the weights' blob."""
    files: dict[str, str]
    """The model's small files, by the name they came with: `tokenizer.json` to a blob's path."""
    pools: bool = False
    """It makes vectors and no text."""
    adapters: tuple[str, ...] = ()
    """Paths of the LoRA adapters that every run uses."""
    template: str = ""
    """A Jinja chat template that replaces the one among the files."""
    num_ctx: int | None = None
    """Context length in tokens; None is the default, both at most what the model was trained for."""
    sampling: Sampling = Sampling()
    """Of the job that loads it: some runtimes keep that for all runs."""
    rkllm: RkllmSpec | None = None
    """Given for models of format `rkllm`."""


class EngineReady(EngineMessage):
    """The model is loaded."""

    load_ns: int
    context_length: int
    """Tokens."""
    context_limit: int | None = None
    """Tokens that the file was made for, where only loading it tells."""
    memory_bytes: int
    """What the process uses with the model loaded."""
    accelerator_bytes: int
    """The part of it that the accelerator uses; 0 on a CPU."""
    saves_as: str = ""
    """What reads the contexts it saves; empty if it saves none."""


class RunEnded(EngineMessage):
    """The run is over and joined."""

    last_seq: int
    """Of its terminal chunk; -1 if it was aborted before one."""
    aborted: bool = False
    prompt_tokens: int = 0
    """Of the whole prompt, reused ones included."""
    reused_tokens: int = 0
    generated_tokens: int = 0
    prefill_ns: int = 0
    decode_ns: int = 0
    restored: bool | None = None
    """Whether the context that was named could be restored; None if none was."""
    restore_ns: int = 0
    saved_bytes: int = 0
    """Size of the file that was left where it was to be; 0 if none was."""
    save_refused: bool = False
    """The runtime left none where it should have."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, whole."""

    kind: Kind
    run: int
    payload: bytes


class BrokenStreamError(Exception):
    """The other end sent what is no frame."""


def pack(kind: Kind, run: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return _HEAD.pack(len(payload), kind, run) + payload


def unpack_head(head: bytes) -> tuple[int, Kind, int]:
    """Payload length, kind and run of a frame's first `HEAD_BYTES` bytes.

    Raises:
        BrokenStreamError: They are no head of a frame.
    """
    length, kind, run = _HEAD.unpack(head)
    if length > MAX_PAYLOAD_BYTES:
        raise BrokenStreamError(f"a frame of {length} bytes")
    try:
        return length, Kind(kind), run
    except ValueError as error:
        raise BrokenStreamError(f"a frame of kind {kind}") from error
