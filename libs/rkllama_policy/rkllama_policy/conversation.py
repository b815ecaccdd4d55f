"""Which conversation a prompt belongs to: a hash for each prefix of its messages.

    system  user  assistant  user  assistant  user
       h1    h2                h3               h4      a link ends with each message of somebody else

A board that has answered holds the prompt and its answer, and says the hashes of that prompt. A later
prompt whose links begin with the same hashes finds there what these links cover, and the assistant's
message behind the last of them. Hashes are salted with the client's key: two keys share nothing, and
nobody learns from a beat what others asked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from hashlib import blake2b

import orjson
from rkllama_protocol.messages import ChatMessage, Job, Link, Ticket

BYTES_PER_TOKEN = 4
"""Of text in UTF-8, for those who have no tokenizer; a vocabulary has room for fewer of the letters that
take two or three bytes than for those that take one."""

FIRST_LINKS = 2
"""The system's message, and the question that a conversation begins with."""
MOST_LINKS = 16
HASH_BYTES = 8


def estimated_tokens(size_bytes: int) -> int:
    """How many tokens so much text has."""
    return math.ceil(size_bytes / BYTES_PER_TOKEN)


def tools_bytes(job: Job) -> int:
    """Of the tools, which a template prints as JSON before all messages."""
    return len(orjson.dumps(job.tools)) if job.tools else 0


def message_bytes(message: ChatMessage) -> int:
    """Of what a template may print of a message, its calls as JSON among it; images are none of it."""
    calls = len(orjson.dumps(message.tool_calls)) if message.tool_calls else 0
    return len(message.content.encode()) + len(message.thinking.encode()) + calls


def chain(job: Job, *, salt: str) -> tuple[Link, ...]:
    """The links of a job's prompt, first to last; of a long conversation the first and the last ones.

    Only what a chat template renders counts, and what every turn of a conversation has alike. `salt`
    is whose conversation it is.
    """
    if job.kind != "chat":
        return ()
    root = [salt, job.model.digest, job.template, job.tools]
    state = blake2b(orjson.dumps(root), digest_size=HASH_BYTES)
    links: list[Link] = []
    size = tools_bytes(job)
    for message in job.messages:
        state.update(orjson.dumps(message.model_dump(exclude_defaults=True)))
        size += message_bytes(message)
        tokens = estimated_tokens(size)
        if message.role == "assistant":
            if links:
                links[-1] = links[-1].model_copy(update={"tokens": tokens})
            continue
        links.append(Link(hash=state.hexdigest(), tokens=tokens))
    return _bounded(links)


def _bounded(links: Sequence[Link]) -> tuple[Link, ...]:
    if len(links) <= MOST_LINKS:
        return tuple(links)
    return (*links[:FIRST_LINKS], *links[FIRST_LINKS - MOST_LINKS :])


def longest_held(ticket: Ticket, hashes: Collection[str]) -> Link | None:
    """The longest prefix of the job's prompt that is among `hashes`."""
    return next((link for link in reversed(ticket.chain) if link.hash in hashes), None)


def held_tokens(ticket: Ticket, hashes: Collection[str]) -> int:
    """How much of the job's prompt is held by who names `hashes`, estimated; never its last token."""
    link = longest_held(ticket, hashes)
    return max(0, min(link.tokens if link else 0, ticket.prompt_tokens - 1))
