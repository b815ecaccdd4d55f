"""How a job finds a board, and what the two say of it until it is over."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rkllama_protocol.messages.base import DigestText, Message, Part, Token
from rkllama_protocol.messages.models import ChatMessage, ResolvedModel
from rkllama_protocol.subjects import JobClass


class Sampling(Part):
    """How tokens are chosen; Ollama's names and defaults (contract 1.8)."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    """Drawn by the gateway when the client gave none, so that an attempt can be repeated."""


class Resume(Part):
    """What earlier attempts of a job made; the next one goes on behind it, and says none of it again."""

    ids: tuple[int, ...] = ()
    """Every generated id, also where its text was held back."""
    prompt_hash: str = ""
    """Of the prompt's ids: another board has to make the same."""
    vectors: int = 0
    """How many of `inputs` have their vector."""


class Job(Message):
    """One request as the gateway holds it, frozen: every attempt gets the same."""

    job_id: Token
    model: ResolvedModel
    kind: Literal["chat", "completion", "embed", "load"]
    """`chat` renders `messages` with the model's template, `completion` takes `prompt` as it is."""
    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    prompt: str = ""
    suffix: str = ""
    """With a `completion`: what is to stand after the answer; the model fills the middle."""
    context: tuple[int, ...] = ()
    """Ids of an earlier prompt and its answer, which stand before this one."""
    template: str = ""
    """A Jinja chat template for this job alone; with a `suffix` it gets `prompt` and `suffix`."""
    render_only: bool = False
    """Answer with the prompt's text and its number of tokens, and run nothing.

    Without `truncate` it may be longer than the context.
    """
    inputs: tuple[str, ...] = ()
    """Texts to embed; each vector is a chunk of its own, in their order."""
    most_input_tokens: int | None = None
    """A longer text to embed does not fit, whatever context there is; None: what the context takes."""
    think: bool | str | None = None
    format: Literal["json"] | dict[str, Any] | None = None
    """What the content has to be: any JSON object, or what this JSON Schema describes."""
    forced_tools: tuple[str, ...] = ()
    """Names of tools: the answer has to be a call of one of them."""
    top_logprobs: int | None = None
    """How many likely tokens to tell at each place; 0 tells only the chosen one, None nothing."""
    sampling: Sampling = Sampling()
    asked_options: tuple[str, ...] = ()
    """Names of the options that the client or the model set: of these it is said which are ignored."""
    num_predict: int = -1
    """Most tokens to make; -1 means until the end of the context."""
    num_ctx: int | None = None
    """Context length in tokens; None takes what is loaded, or the default."""
    stop: tuple[str, ...] = ()
    truncate: bool = True
    """Drop the oldest messages when the prompt does not fit."""
    shift: bool = True
    """Cut a prompt in its middle that does not fit even then."""
    num_keep: int = 4
    """Tokens at the begin of a prompt that is cut, which stay; below zero as many as can."""
    keep_alive_s: float | None = None
    """How long the model stays after the run; negative is for ever, None the worker's default."""
    now: str
    """RFC 3339, UTC; what a template that prints the date prints in every attempt."""
    resume: Resume | None = None
    """None in the first attempt, and where nothing had been made."""

    @property
    def generates(self) -> bool:
        """Whether its answer is made token by token."""
        return self.kind in ("chat", "completion") and not self.render_only


class Link(Part):
    """A prefix of a conversation's messages, which ends with one that is not the assistant's."""

    hash: str
    tokens: int
    """Estimated: of the prefix, and of the assistant's message behind it, if there is one."""


class Ticket(Message):
    """The small message of an offer: what a board must know to price the job."""

    job_id: Token
    attempt: int
    job_class: JobClass
    model: DigestText
    model_format: str
    weights_bytes: int
    blobs: dict[DigestText, int] = Field(default_factory=dict)
    """The model's largest files, digest to bytes: what a board without them has to fetch."""
    num_ctx: int | None = None
    age_s: float
    """Since the gateway accepted the job."""
    order: int
    """Counts up in each gateway: among jobs of equal cost the lower one came first."""
    prompt_tokens: int
    """Estimated."""
    chain: tuple[Link, ...] = ()
    """The conversation that the prompt continues, shortest prefix first."""
    num_predict: int = -1
    """Most tokens to make; -1 means until the end of the context, 0 that the job is answered without any."""
    gateway_id: Token


class Taken(Message):
    """This attempt, and every earlier one, is no longer offered."""

    job_id: Token
    attempt: int


class Claim(Message):
    """A board asks for a job."""

    job_id: Token
    attempt: int
    worker_id: Token


class Grant(Message):
    """The answer to a claim: the body, or word that it is too large for one message, or neither."""

    granted: bool
    body: Job | None = None
    body_bytes: int = 0
    """Size of the body that is to be read in pieces with the verb `body`; 0 when it is here."""


class BodyRequest(Message):
    """Give me the granted job's body from this byte on; the answer is raw bytes."""

    job_id: Token
    attempt: int
    worker_id: Token
    offset: int


class Lease(Message):
    """The board still runs the job, and has sent chunks up to `last_seq` (-1: none yet)."""

    job_id: Token
    attempt: int
    worker_id: Token
    last_seq: int


class LeaseReply(Message):
    """Whether the gateway still wants the job from this attempt."""

    wanted: bool


class Finished(Message):
    """The board is done with the attempt; `last_seq` is its last chunk, as a rule the terminal one."""

    job_id: Token
    attempt: int
    worker_id: Token
    last_seq: int
    reason: Literal["ended", "released"] = "ended"
    """`released`: the answer is not at its end, another board is to go on with it."""


class FinishedReply(Message):
    """Which chunks the gateway lacks: from `replay_from` on, or none."""

    replay_from: int | None = None


class Cancel(Message):
    """Stop this attempt; the client is gone."""

    job_id: Token
    attempt: int


class Replay(Message):
    """Publish the chunks of this attempt again, from `from_seq` on."""

    job_id: Token
    attempt: int
    from_seq: int


class Keep(Message):
    """Let a resident model's keep-alive begin again; `found` in the answer says whether it is resident."""

    model: DigestText
    keep_alive_s: float | None
    """None leaves it as it was."""


class Unload(Message):
    """Unload a model as soon as it is idle."""

    model: DigestText


class Found(Message):
    """Whether the model was resident."""

    found: bool


class DrainRequest(Message):
    """Bring what you run to its end, or hand it over, and stop."""


class StatusRequest(Message):
    """How are you, this instant? The answer is a `WorkerBeat`."""
