"""Every message on the bus but the chunk, as frozen pydantic models.

Three families, by who speaks:

    store      ResolveRequest -> ResolvedModel ...    what a name means
    jobs       Ticket, Claim -> Grant, Lease ...      how a job finds a board
    beats      WorkerBeat, StoreBeat, GatewayBeat     how everybody is

Durations are seconds (`_s`) or nanoseconds (`_ns`), sizes are bytes, times that cross machines are
RFC 3339 in UTC and are only ever shown, never compared with a local clock.
"""

from rkllama_protocol.messages.base import (
    DigestText,
    Message,
    Part,
    Token,
)
from rkllama_protocol.messages.beats import (
    BEAT_BY_ROLE,
    Beat,
    GatewayBeat,
    ResidentModel,
    RunningJob,
    Speed,
    StoreBeat,
    WorkerBeat,
)
from rkllama_protocol.messages.jobs import (
    BodyRequest,
    Cancel,
    Claim,
    Finished,
    FinishedReply,
    Found,
    Grant,
    Job,
    Keep,
    Lease,
    LeaseReply,
    Replay,
    Sampling,
    StatusRequest,
    Taken,
    Ticket,
    Unload,
)
from rkllama_protocol.messages.models import (
    ADAPTER_TYPE,
    TEMPLATE_TYPE,
    WEIGHTS_TYPE,
    ChatMessage,
    Descriptor,
    ModelDetails,
    ResolvedModel,
)
from rkllama_protocol.messages.store import (
    Accepted,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Fault,
    ModelChanged,
    Progress,
    PullRequest,
    ResolveRequest,
    ShowReply,
    ShowRequest,
    StreamCancel,
    TagsReply,
    TagsRequest,
    VerifyRequest,
)

__all__ = [
    "ADAPTER_TYPE",
    "BEAT_BY_ROLE",
    "TEMPLATE_TYPE",
    "WEIGHTS_TYPE",
    "Accepted",
    "Beat",
    "BodyRequest",
    "Cancel",
    "ChatMessage",
    "Claim",
    "CopyRequest",
    "CreateRequest",
    "DeleteRequest",
    "Descriptor",
    "DigestText",
    "Fault",
    "Finished",
    "FinishedReply",
    "Found",
    "GatewayBeat",
    "Grant",
    "Job",
    "Keep",
    "Lease",
    "LeaseReply",
    "Message",
    "ModelChanged",
    "ModelDetails",
    "Part",
    "Progress",
    "PullRequest",
    "Replay",
    "ResidentModel",
    "ResolveRequest",
    "ResolvedModel",
    "RunningJob",
    "Sampling",
    "ShowReply",
    "ShowRequest",
    "Speed",
    "StatusRequest",
    "StoreBeat",
    "StreamCancel",
    "TagsReply",
    "TagsRequest",
    "Taken",
    "Ticket",
    "Token",
    "Unload",
    "VerifyRequest",
    "WorkerBeat",
]
