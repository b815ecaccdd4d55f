"""Every message on the bus but the chunk, as frozen pydantic models.

Three families, by who speaks:

    store      ResolveRequest -> ResolvedModel ...    what a name means
    jobs       Ticket, Claim -> Grant, Lease ...      how a job finds a board
    beats      WorkerBeat, StoreBeat, GatewayBeat     how everybody is

Durations are seconds (`_s`) or nanoseconds (`_ns`), sizes are bytes, times that cross machines are
RFC 3339 in UTC and are only ever shown, never compared with a local clock.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rkllama_protocol import VERSION
from rkllama_protocol.names import Digest, token
from rkllama_protocol.subjects import JobClass, Role


class Message(BaseModel):
    """Anything encoded for the bus. Unknown fields are ignored in the field, refused in tests."""

    model_config = ConfigDict(frozen=True)

    v: int = VERSION


class Part(BaseModel):
    """A piece of a message; it carries no version of its own."""

    model_config = ConfigDict(frozen=True)


Token = Annotated[str, AfterValidator(token)]
"""An id that can stand in a subject."""

DigestText = Annotated[str, AfterValidator(lambda text: str(Digest.parse(text)))]
"""`sha256:<hex>`, checked."""


# --------------------------------------------------------------------------- models


WEIGHTS_TYPE = "application/vnd.ollama.image.model"
ADAPTER_TYPE = "application/vnd.ollama.image.adapter"
TEMPLATE_TYPE = "application/vnd.ollama.image.template"
"""Media types of the layers that a worker tells apart (contract 7)."""


class Descriptor(Part):
    """One layer of a manifest."""

    media_type: str
    digest: DigestText
    size: int = Field(ge=0)
    name: str = ""
    """The file's name as it came, such as `tokenizer.json`; empty for layers that are no file."""


class ChatMessage(Part):
    """One message of a conversation, in the shape chat templates expect."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    """Base64, standard alphabet."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class ModelDetails(Part):
    """What `tags` and `show` print about a model; what is not known is empty, never guessed."""

    parent_model: str = ""
    format: str = ""
    """`gguf` or `rkllm`; it chooses the runtime."""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int | None = None
    embedding_length: int | None = None


class ResolvedModel(Message):
    """A name, and everything a job on it depends on."""

    name: str
    """Display form, with the spelling the store keeps."""
    full_name: str
    digest: DigestText
    """Of the manifest."""
    size: int
    modified_at: str
    """RFC 3339 with the store's local offset, as Ollama shows it."""
    details: ModelDetails
    capabilities: tuple[str, ...] = ()
    layers: tuple[Descriptor, ...] = ()
    system: str = ""
    template: str = ""
    """A Jinja chat template that replaces the one among the model's files."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()
    license: tuple[str, ...] = ()


class ResolveRequest(Message):
    """What does this name mean?"""

    model: str


class TagsRequest(Message):
    """Which models are there?"""


class TagsReply(Message):
    """Every model, newest first, without what only a job needs: one message has to hold them all."""

    models: tuple[ResolvedModel, ...] = ()


class ShowRequest(Message):
    """Everything about one model."""

    model: str
    verbose: bool = False


class ShowReply(Message):
    """A resolved model and the facts read from its files."""

    model: ResolvedModel
    model_info: dict[str, Any] = Field(default_factory=dict)
    tensors: tuple[dict[str, Any], ...] = ()


class CopyRequest(Message):
    """Give a model a second name."""

    source: str
    destination: str


class DeleteRequest(Message):
    """Take a name away, and the blobs nobody else needs."""

    model: str


class CreateRequest(Message):
    """Make a model from another one, or from uploaded files. Progress goes to `stream_id`."""

    stream_id: Token
    model: str
    base: str = ""
    """Ollama's `from`."""
    files: dict[str, str] = Field(default_factory=dict)
    """File name to digest, as the client sent it."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """LoRA adapters, file name to digest; at most one."""
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()
    quantize: str = ""
    """The quantisation that the weights shall get."""


class PullRequest(Message):
    """Bring a model in. Progress goes to `stream_id`."""

    stream_id: Token
    model: str


class VerifyRequest(Message):
    """Read a model's blobs, or with an empty name every model's, and compare them with their digests.

    Progress goes to `stream_id`: a record for each blob, and an error that names what is damaged.
    """

    stream_id: Token
    model: str = ""


class StreamCancel(Message):
    """Nobody listens to this stream of progress any more."""

    stream_id: Token


class Accepted(Message):
    """The request was understood; what it asks for is done, or goes on elsewhere."""


class Fault(Part):
    """An error as it crosses the wire."""

    code: str
    message: str


class Progress(Message):
    """One record of a pull or create; one with neither status nor error only says "still here"."""

    seq: int
    status: str = ""
    digest: str = ""
    total: int | None = None
    completed: int | None = None
    error: Fault | None = None
    done: bool = False


class ModelChanged(Message):
    """A name was created, replaced or deleted."""

    name: str
    full_name: str


# --------------------------------------------------------------------------- jobs


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


class Job(Message):
    """One request as the gateway holds it, frozen: every attempt gets the same."""

    job_id: Token
    model: ResolvedModel
    kind: Literal["chat", "completion", "embed", "load"]
    """`chat` renders `messages` with the model's template, `completion` takes `prompt` as it is."""
    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    prompt: str = ""
    inputs: tuple[str, ...] = ()
    """Texts to embed; each vector is a chunk of its own, in their order."""
    think: bool | str | None = None
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
    keep_alive_s: float | None = None
    """How long the model stays after the run; negative is for ever, None the worker's default."""
    now: str
    """RFC 3339, UTC; what a template that prints the date prints in every attempt."""


class Ticket(Message):
    """The small message of an offer: what a board must know to price the job."""

    job_id: Token
    attempt: int
    job_class: JobClass
    model: DigestText
    model_format: str
    weights_bytes: int
    num_ctx: int | None = None
    age_s: float
    """Since the gateway accepted the job."""
    order: int
    """Counts up in each gateway: among jobs of equal cost the lower one came first."""
    prompt_tokens: int
    """Estimated."""
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
    """The board is done with the attempt; `last_seq` is its terminal chunk."""

    job_id: Token
    attempt: int
    worker_id: Token
    last_seq: int


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
    """Give a resident model a new keep-alive; `found` in the answer says whether it is resident."""

    model: DigestText
    keep_alive_s: float | None


class Unload(Message):
    """Unload a model as soon as it is idle."""

    model: DigestText


class Found(Message):
    """Whether the model was resident."""

    found: bool


class StatusRequest(Message):
    """How are you, this instant? The answer is a `WorkerBeat`."""


# --------------------------------------------------------------------------- beats


class ResidentModel(Part):
    """A model that a board holds, or is loading."""

    digest: DigestText
    name: str
    full_name: str
    details: ModelDetails
    size: int
    """Bytes in use, all memory."""
    size_vram: int
    """Bytes of it that the accelerator uses."""
    context_length: int
    state: Literal["loading", "ready", "unloading"]
    expires_in_s: float | None
    """None: never."""
    runs: int = 0
    """Jobs running on it now."""


class RunningJob(Part):
    """What a board runs now."""

    job_id: Token
    model: DigestText
    left_s: float
    """Predicted seconds until the board is free."""


class Speed(Part):
    """What a board has learned of a model; seconds."""

    model: DigestText
    load_s: float | None = None
    prefill_s_per_token: float | None = None
    decode_s_per_token: float | None = None
    tokens_per_answer: float | None = None


class WorkerBeat(Message):
    """A worker's word about itself, once a second and on every change."""

    worker_id: Token
    ready: bool
    draining: bool = False
    runtimes: tuple[str, ...] = ()
    """Model formats it can run: `gguf`, `rkllm`."""
    platform: str = ""
    memory_bytes: int = 0
    """What it may use for models."""
    models: tuple[ResidentModel, ...] = ()
    running: RunningJob | None = None
    speeds: tuple[Speed, ...] = ()
    failed: dict[str, str] = Field(default_factory=dict)
    """Manifest digest to the sentence why it did not load here."""
    http_url: str = ""


class StoreBeat(Message):
    """The store's word about itself."""

    store_id: Token
    ready: bool
    http_url: str
    """Where blobs are read and written."""


class GatewayBeat(Message):
    """A gateway's word about itself."""

    gateway_id: Token
    ready: bool
    waiting: int
    running: int


Beat = WorkerBeat | StoreBeat | GatewayBeat

BEAT_BY_ROLE: dict[Role, type[WorkerBeat] | type[StoreBeat] | type[GatewayBeat]] = {
    "worker": WorkerBeat,
    "store": StoreBeat,
    "gateway": GatewayBeat,
}
