"""A job to the token ids of its prompt: template, tokenising, truncation.

chat        messages -> template -> text -> ids      oldest messages dropped until it fits
completion  prompt ----------------> text -> ids      refused if it does not fit
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from rkllama_protocol.errors import InvalidJobError, PromptTooLongError
from rkllama_protocol.messages import ChatMessage, Job

from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.template import ChatTemplate

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
"""Ollama's sentence, which clients look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the runtime gets, and the text and template it came from."""

    ids: tuple[int, ...]
    text: str
    template: str = ""

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the ids, each as 4 bytes, little-endian."""
        packed = struct.pack(f"<{len(self.ids)}I", *self.ids)
        return hashlib.sha256(packed).hexdigest()[:16]


class PromptBuilder:
    """Builds the prompts of one model."""

    def __init__(self, files: ModelFiles, *, context_length: int) -> None:
        self._files = files
        self._most_tokens = context_length - 1
        """At least one token has to be left for the answer."""
        self._templates: dict[str, ChatTemplate] = {}

    def build(self, job: Job) -> Prompt:
        """The prompt of a `chat` or `completion`.

        Raises:
            InvalidJobError: The model has no template, or it refuses the messages, or nothing is asked.
            InvalidModelError: The template is no Jinja.
            PromptTooLongError: It does not fit, after truncation if the job allows that.
        """
        prompt = self._chat(job) if job.kind == "chat" else self._completion(job)
        if not prompt.ids:
            raise InvalidJobError("the prompt is empty")
        return prompt

    def embed(self, text: str, *, truncate: bool) -> tuple[int, ...]:
        """The ids of a text to embed, with the special tokens that the tokenizer adds.

        Raises:
            PromptTooLongError: It does not fit, and may not be cut.
            InvalidJobError: Nothing of it is left.
        """
        tokenizer = self._files.tokenizer
        ids = tokenizer.encode(text).ids
        if len(ids) > self._most_tokens:
            if not truncate:
                raise PromptTooLongError("the input length exceeds the context length")
            if self._most_tokens <= tokenizer.num_special_tokens_to_add(is_pair=False):
                raise InvalidJobError("input after truncation exceeds maximum context length")
            # It keeps the special tokens, of which last-token pooling reads the last.
            tokenizer.enable_truncation(max_length=self._most_tokens)
            ids = tokenizer.encode(text).ids
            tokenizer.no_truncation()
        if not ids:
            raise InvalidJobError("the input has no tokens")
        return tuple(ids)

    def _completion(self, job: Job) -> Prompt:
        ids = self._encode(job.prompt, add_special_tokens=True)
        if len(ids) > self._most_tokens:
            raise PromptTooLongError(TOO_LONG)
        return Prompt(ids=ids, text=job.prompt)

    def _chat(self, job: Job) -> Prompt:
        prompt = self._render(job, job.messages)
        if len(prompt.ids) <= self._most_tokens:
            return prompt
        if not job.truncate:
            raise PromptTooLongError(TOO_LONG)
        return self._truncated(job)

    def _truncated(self, job: Job) -> Prompt:
        """The prompt of as many of the newest messages as fit; system messages and the last one stay.

        A template may refuse a conversation that begins with, say, an answer: then one more goes.
        """
        last = len(job.messages) - 1

        @cache
        def cut(first: int) -> Prompt:
            for begin in range(first, last):
                try:
                    return self._render(job, _newest(job.messages, begin))
                except InvalidJobError:
                    continue
            return self._render(job, _newest(job.messages, last))

        low, high = min(1, last), last
        while low < high:
            middle = (low + high) // 2
            if len(cut(middle).ids) <= self._most_tokens:
                high = middle
            else:
                low = middle + 1
        if len(cut(low).ids) > self._most_tokens:
            raise PromptTooLongError(TOO_LONG)
        return cut(low)

    def _render(self, job: Job, messages: Sequence[ChatMessage]) -> Prompt:
        template = self._template(job)
        text = template.render(
            [_shape(message) for message in messages],
            tools=job.tools,
            now=job.now,
            variables={**self._files.named_tokens, **_thinking(job)},
        )
        return Prompt(
            ids=self._encode(text, add_special_tokens=False), text=text, template=template.source
        )

    def _template(self, job: Job) -> ChatTemplate:
        sources = self._files.templates
        name = "tool_use" if job.tools and "tool_use" in sources else "default"
        if name not in sources:
            _refuse_without_template()
        if name not in self._templates:
            self._templates[name] = ChatTemplate(sources[name])
        return self._templates[name]

    def _encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        ids = self._files.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        bos = self._files.bos_id
        if bos is None:
            return tuple(ids)
        # Templates write the BOS themselves, or leave it to the tokenizer; both at once is one too many.
        while ids[:1] == [bos]:
            del ids[0]
        return (bos, *ids)


def _refuse_without_template() -> NoReturn:
    raise InvalidJobError(
        "the model has no chat template; give it one, or send the prompt raw to /api/generate"
    )


def _newest(messages: Sequence[ChatMessage], begin: int) -> list[ChatMessage]:
    return [m for i, m in enumerate(messages) if i >= begin or m.role == "system"]


def _thinking(job: Job) -> dict[str, object]:
    """What templates of thinking models ask for; left out if the job does not say."""
    match job.think:
        case None:
            return {}
        case str(effort):
            return {"enable_thinking": True, "thinking": True, "reasoning_effort": effort}
        case think:
            return {"enable_thinking": think, "thinking": think}


def _shape(message: ChatMessage) -> dict[str, Any]:
    """A message as Hugging Face templates read it; fields that are empty are left out."""
    shaped: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        images = [{"type": "image"} for _ in message.images]
        shaped["content"] = [*images, {"type": "text", "text": message.content}]
    if message.thinking:
        shaped["reasoning_content"] = message.thinking
    if message.tool_calls:
        shaped["tool_calls"] = [{"type": "function", **call} for call in message.tool_calls]
    if message.tool_name:
        shaped["name"] = message.tool_name
    if message.tool_call_id:
        shaped["tool_call_id"] = message.tool_call_id
    return shaped
