"""What an engine asks of a runtime: token ids in, token ids out, on the thread that calls.

    open      load the model; blocks for as long as that takes
    generate  one run; blocks until the runtime is idle again, whatever ended the run
    save      leave what the last run computed in a file
    restore   and take it up again from there
    abort     from any other thread: end the run under way soon
    close     give the memory back; the object is not used after

A runtime never sees text: templates, tokenising, EOS ids, stop strings and the bound on new tokens are
the engine's. It keeps what it has computed of a prompt and reuses the longest prefix it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from rkllama_protocol.messages import Sampling


class Likely(NamedTuple):
    """A token, and the natural logarithm of how likely the model held it to be."""

    token: int
    logprob: float


class Logprobs(NamedTuple):
    """Of one place: the token that was chosen, and the likeliest ones, best first."""

    chosen: Likely
    top: tuple[Likely, ...]


class Emit(Protocol):
    """Takes the next ids, in order; False asks the runtime to end the run: ids after that are ignored.

    It may be called on any thread, but never after `generate` has returned.
    """

    def __call__(self, ids: Sequence[int], logprobs: Sequence[Logprobs] = (), /) -> bool:
        """`logprobs` has one for each id, if the request asks for them."""
        ...


class Constraint(Protocol):
    """What a run may say: asked before each token, told after it."""

    @property
    def complete(self) -> bool:
        """Whether nothing may follow but the end."""
        ...

    def allowed(self) -> npt.NDArray[np.intp]:
        """The ids that may come next, EOS ids among them where the answer may end; never none."""
        ...

    def forced(self) -> list[int]:
        """Ids that have to follow, one by one; often none."""
        ...

    def accept(self, token: int) -> None:
        """`token` was chosen."""
        ...


PoolingKind = Literal["last", "mean", "cls"]
"""How the rows of a text become its vector: its last one, the mean of all, or its first one."""

RuntimeFinish = Literal["stop", "length", "aborted"]
"""`stop`: the runtime knows an end-of-sequence id and met it; `aborted`: it was told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What a run is asked for, besides its prompt."""

    sampling: Sampling
    max_tokens: int
    """At least 1, and at most what is left of the context after the prompt."""
    constraint: Constraint | None = None
    """Only for a runtime that `shows_logits`; the run ends with `stop` where it is complete."""
    top_logprobs: int | None = None
    """How many likely tokens to tell at each place; None is no logprobs. Only with `shows_logits`."""
    save_to: Path | None = None
    """Where `save` is going to be asked to leave what this run computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """How a run went."""

    reused_tokens: int
    """Of the prompt, not computed again; 0 if the runtime does not tell."""
    finish: RuntimeFinish
    prefill_ns: int | None = None
    """The runtime's own measurement; without one the engine's clock is used."""
    decode_ns: int | None = None
    """The same."""
    text: bytes | None = None
    """What the runtime itself says the ids mean, where it says so: a check of the tokenizer."""


class Runtime(Protocol):
    """One loaded model."""

    @property
    def context_length(self) -> int:
        """Tokens of the context."""
        ...

    @property
    def context_limit(self) -> int | None:
        """Tokens that the file was made for, where that is known only from loading it; else None."""
        ...

    @property
    def usable_tokens(self) -> int:
        """The same without what the runtime keeps for itself."""
        ...

    @property
    def embeddable_tokens(self) -> int:
        """Most tokens that a text to embed may have."""
        ...

    @property
    def accelerator_bytes(self) -> int:
        """Memory in use that belongs to the accelerator; 0 on a CPU."""
        ...

    @property
    def shows_logits(self) -> bool:
        """Whether its runs can be constrained, and tell logprobs."""
        ...

    @property
    def pooling(self) -> PoolingKind:
        """What is done with rows where no file of the model says it."""
        ...

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """Run `prompt`, 1 to `context_length - 1` ids, and emit every generated id.

        Raises:
            RuntimeFailedError: The runtime returned a status, or the constraint has no way on; it may
                be used again.
        """
        ...

    @property
    def saves_as(self) -> str:
        """What reads the files of `save` beside this build; empty if it saves none."""
        ...

    def save(self, path: Path) -> bool | None:
        """Leave what the last run computed in the file it was promised; whether it is there.

        None: a run like that leaves nothing, though others would.
        """
        ...

    def restore(self, path: Path) -> bool:
        """Hold what the file of a `save` holds, in place of what is held; whether that could be done."""
        ...

    def ignored(self, request: GenerateRequest) -> frozenset[str]:
        """Names of the sampling options that this run would not get."""
        ...

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> npt.NDArray[np.float32]:
        """Hidden states of the last layer: float32, a row for each id of `prompt`, or only the last.

        Raises:
            UnsupportedError: This runtime does not give them.
            RuntimeFailedError: The runtime returned a status, or was aborted; it may be used again.
        """
        ...

    def abort(self) -> None:
        """End the run under way. Harmless when idle; lost if `generate` has not begun: send it again."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
