"""Asking for a format in words, where the runtime has no grammar.

The words stand at the end of the last user message: every template has that role, what stands before is
still the prefix that the runtime holds, and a small model heeds best what it read last.
"""

from __future__ import annotations

from rkllama_protocol.messages import ChatMessage, Job

from rkllama_worker.engine.requirement import Requirement


def asking(job: Job, requirement: Requirement) -> Job:
    """The job with the requirement put in words. A prompt that is sent as it is stays so."""
    if job.kind != "chat":
        return job
    messages = list(job.messages)
    last = max((n for n, one in enumerate(messages) if one.role == "user"), default=None)
    if last is None:
        messages.append(ChatMessage(role="user", content=requirement.instruction))
    else:
        content = "\n\n".join(filter(None, (messages[last].content, requirement.instruction)))
        messages[last] = messages[last].model_copy(update={"content": content})
    return job.model_copy(update={"messages": tuple(messages)})


def asking_again(job: Job, requirement: Requirement, *, answer: str, problem: str) -> Job:
    """A job that was asked, with the answer it got and what is wrong with that.

    Nothing of the conversation is dropped for it: an answer to half of the question is no mend.
    """
    if job.kind != "chat":
        return job
    words = f"That is not what I asked for: {problem}. {requirement.instruction}"
    more = (ChatMessage(role="assistant", content=answer), ChatMessage(role="user", content=words))
    return job.model_copy(update={"messages": (*job.messages, *more), "truncate": False})
