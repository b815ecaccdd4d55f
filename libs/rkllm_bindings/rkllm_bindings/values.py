"""What goes into a model and comes out of it, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Mode(IntEnum):
    """What a run computes (rkllm.h: RKLLMInferMode)."""

    GENERATE = 0
    HIDDEN_STATES = 1
    """The last hidden layer of the prompt's tokens; nothing is generated."""
    LOGITS = 2
    """Logits of the prompt tokens that the run computed. From 1.2.0. Whether generation goes on
    afterwards is not documented: set max_new_tokens, or abort."""


class State(IntEnum):
    """What a step reports (rkllm.h: LLMCallState; the hidden-layer state of 1.1 is NORMAL here)."""

    NORMAL = 0
    WAITING = 1
    """The decoded bytes are no whole UTF-8 character yet; they come with a later step."""
    FINISH = 2
    """The end of the input. Not the end of the run, which is the return of `Model.run`; an aborted
    run may come without it."""
    ERROR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. Defaults are the manual's (1.3.0). There is no seed in any release."""

    top_k: int = 40
    top_p: float = 0.9
    temperature: float = 0.8
    """0 takes the likeliest token; set `top_k` 1 and `repeat_penalty` 1.0 too (rknn-llm#443)."""
    repeat_penalty: float = 1.1
    frequency_penalty: float = 0.0
    """-2 to 2."""
    presence_penalty: float = 0.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTags:
    """The text around and for an image's embeddings, as the model was trained with."""

    start: str = ""
    end: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a model is loaded with. All of it reaches the library, whose defaults are not used."""

    path: Path
    max_context_len: int = 4096
    """Tokens. More than the model's max_context_limit (logged at init, fixed by its conversion)
    fails. A prompt may have 4 fewer (seen with 1.1; rkllama#25)."""
    max_new_tokens: int = -1
    """Tokens of each run; -1: until EOS. A full context does not stop a run: the library drops a
    block behind `n_keep` and goes on, so cap what you ask for."""
    sampling: Sampling = field(default_factory=Sampling)
    """Before 1.3.0 the only place for sampling values."""
    n_keep: int = -1
    """Tokens at the start that survive a full context. Not in abi-1.1."""
    skip_special_token: bool = True
    """Leave the text of special tokens out."""
    ignore_eos_token: bool = False
    """From 1.3.0."""
    base_domain_id: int = 0
    """The first of the 16 IOMMU domains, of 4 GiB each and shared by all processes, that the
    weights go to (rknn-llm#437)."""
    embed_flash: bool = True
    """Read word embeddings from storage, which saves RAM. Not in abi-1.1."""
    enabled_cpus_mask: int = 0xF0
    """CPUs to use, one bit each; the vendor takes 4 to 7 on RK3588 and RK3576, 0 to 3 (0x0F)
    elsewhere. Their number is sent with it. Not in abi-1.1."""
    use_cross_attn: bool = False
    """From 1.2.1; custom models only."""
    image_tags: ImageTags = field(default_factory=ImageTags)
    """Sent at init until 1.2.3, with each multimodal run from 1.3.0."""
    video_tags: ImageTags = field(default_factory=ImageTags)
    """From 1.3.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A prompt that the library wraps in its own chat template, and tokenises."""

    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token ids; no template is applied.

    What a server should send: the whole list each time, of which the library reuses the common
    prefix (rknn-llm#432).
    """

    ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """float32 [n_tokens][n_embd], row by row, in any contiguous buffer."""

    data: ReadableBuffer
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """float32 [count * n_tokens][n_embd] for the `<image>` marks of a prompt, in order."""

    data: ReadableBuffer
    n_tokens: int
    """Rows of one image."""
    count: int = 1
    """More than one from 1.2.1b1."""
    width: int = 0
    """Pixels that the encoder saw; not sent before 1.2.1b1."""
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """float32 [count * n_frames * n_frame_tokens][n_embd] for the `<video>` marks. From 1.3.0."""

    data: ReadableBuffer
    n_frame_tokens: int
    n_frames: int
    count: int = 1
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Multimodal:
    """A prompt with `<image>` (from 1.3.0 also `<video>`) marks.

    The library's template is applied: blank it with `Model.set_chat_template` to send your own.
    """

    prompt: str
    images: Images | None = None
    videos: Videos | None = None


Input = Text | Tokens | Embeddings | Multimodal


@dataclass(frozen=True, slots=True, kw_only=True)
class Perf:
    """The library's own measurements of a run (from 1.2.1), in FINISH."""

    prefill_ms: float
    prefill_tokens: int
    """Tokens that were computed: of a prompt with a reused prefix, the rest (rknn-llm#399)."""
    generate_ms: float
    generate_tokens: int
    memory_mb: float
    """Peak resident memory of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One callback. Everything is a copy: it may be kept."""

    state: State
    token_id: int
    """Means nothing but in NORMAL and WAITING steps of a generating run."""
    text: bytes | None
    """Bytes of UTF-8, normally whole characters. None where the library gives none or where it must
    not be read: WAITING may have it or not, FINISH and ERROR never do."""
    perf: Perf | None = None
    hidden: memoryview[float] | None = None
    """float32, shape (tokens computed, embd_size); `numpy.asarray` takes it as it is."""
    logits: memoryview[float] | None = None
    """float32, shape (tokens computed, vocab_size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    status: int
    """What rkllm_run returned; other than 0 only if the run was aborted."""
    finished: bool
    """A FINISH step came."""
    aborted: bool
    """`Model.abort` was called during the run. It may have been too late to matter."""
    perf: Perf | None
    """From 1.2.1, and if a FINISH step came."""
