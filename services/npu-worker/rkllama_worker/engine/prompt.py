"""A job to the token ids of its prompt: template, tokenising, truncation.

    chat        messages -> template -> text -> ids      oldest messages dropped until it fits
    completion  prompt ----------------> text -> ids
    infill      prompt, suffix --------> text -> ids      by a template, or by the tokenizer's own tokens

The ids of an earlier answer, a job's `context`, stand before those. What does not fit even then is cut in
its middle, or refused (contract 2.8, 2.9). Messages of one role that follow each other become one, as
Ollama's own templates have it: many Hugging Face templates refuse a conversation that does not alternate.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NoReturn

from rkllama_modelfile import fills_in, infill_of
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    PromptTooLongError,
    UnsupportedError,
)
from rkllama_protocol.messages import ChatMessage, Job
from rkllama_protocol.templates import thinking_tags

from rkllama_worker.engine.history import CallShape, call_shape, shaped, thinking_variables
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.template import ChatTemplate

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
"""Ollama's sentence, which clients look for."""
IMAGE_TOKENS = 768
"""What an image is taken for when messages are dropped (contract 2.8)."""
LEAST_LEFT_TOKENS = 4
CHARS_PER_TOKEN = 32
"""A text with more characters for each token of the context is first looked at without its middle: the
tokenizer takes some 400 bytes a token, and cannot be interrupted."""
_PARAGRAPH = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the runtime gets, and the text and template it came from."""

    ids: tuple[int, ...]
    text: str
    template: str = ""
    images: int = 0
    """How many images belong to it."""
    ends: frozenset[int] = frozenset()
    """Ids that end the answer beside the model's own."""

    @property
    def tokens(self) -> int:
        """How much of a context it takes."""
        return len(self.ids) + IMAGE_TOKENS * self.images

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
        self._most_chars = CHARS_PER_TOKEN * context_length
        self._templates: dict[str, ChatTemplate] = {}
        self._call_shapes: dict[str, CallShape] = {}
        """What each of them needs of messages with calls."""
        added = files.tokenizer.get_added_tokens_decoder().values()
        self._infill = infill_of({token.content for token in added})

    def build(self, job: Job) -> Prompt:
        """The prompt of a `chat` or `completion`.

        Raises:
            InvalidJobError: The model has no template, or it refuses the messages, or nothing is asked.
            InvalidModelError: The template is no Jinja.
            UnsupportedError: There is a suffix, and the model has no tokens for that.
            PromptTooLongError: It does not fit, after truncation if the job allows that.
        """
        self._check_context(job)
        if job.kind == "chat":
            prompt = self._chat(job)
        elif job.suffix:
            prompt = self._filling(job)
        else:
            prompt = self._plain(job, job.prompt)
        if not prompt.ids:
            raise InvalidJobError("the prompt is empty")
        return self._cut(job, prompt)

    def embed(self, text: str, *, most_tokens: int, truncate: bool) -> tuple[int, ...]:
        """The ids of a text to embed, with the special tokens of the tokenizer and the model's BOS.

        Raises:
            PromptTooLongError: It has more than `most_tokens`, and may not be cut.
            InvalidJobError: Nothing of it is left.
        """
        tokenizer, bos = self._files.tokenizer, self._files.bos_id
        ids = tokenizer.encode(text[: self._most_chars]).ids
        if len(text) > self._most_chars and len(ids) <= most_tokens:
            ids = tokenizer.encode(text).ids
        begin = () if bos is None or ids[:1] == [bos] else (bos,)
        if len(begin) + len(ids) > most_tokens:
            if not truncate:
                raise PromptTooLongError("the input length exceeds the context length")
            most = most_tokens - len(begin)
            if most <= tokenizer.num_special_tokens_to_add(is_pair=False):
                raise InvalidJobError("input after truncation exceeds maximum context length")
            # It keeps the special tokens, of which last-token pooling reads the last.
            tokenizer.enable_truncation(max_length=most)
            ids = tokenizer.encode(text[: self._most_chars]).ids
            tokenizer.no_truncation()
        if not begin and not ids:
            raise InvalidJobError("the input has no tokens")
        return (*begin, *ids)

    def _plain(self, job: Job, text: str) -> Prompt:
        ids = self._encode(job, text, add_special_tokens=True)
        return self._after_context(job, Prompt(ids=ids, text=text))

    def _filling(self, job: Job) -> Prompt:
        if job.template or fills_in(self._files.templates.get("default", "")):
            asked = ChatMessage(role="user", content=job.prompt)
            return self._render(job, self._template(job), [asked])
        if self._infill is None:
            raise UnsupportedError("the model has no tokens to fill in the middle of a text")
        prompt = self._plain(job, self._infill.text(job.prompt, job.suffix))
        ends = (self._files.tokenizer.token_to_id(token) for token in self._infill.ends)
        return replace(prompt, ends=frozenset(end for end in ends if end is not None))

    def _chat(self, job: Job) -> Prompt:
        template = self._template(job)
        prompt = self._render(job, template, job.messages)
        if prompt.tokens <= self._most_tokens or not job.truncate:
            return prompt
        return self._truncated(job, template)

    def _truncated(self, job: Job, template: ChatTemplate) -> Prompt:
        """The prompt of as many of the newest messages as fit; system messages and the last one stay.

        A template may refuse a conversation that begins with, say, an answer: then one more goes.
        """
        last = len(job.messages) - 1

        @cache
        def cut(first: int) -> Prompt:
            for begin in range(first, last):
                try:
                    return self._render(job, template, _newest(job.messages, begin))
                except InvalidJobError:
                    continue
            return self._render(job, template, _newest(job.messages, last))

        low, high = min(1, last), last
        while low < high:
            middle = (low + high) // 2
            if cut(middle).tokens <= self._most_tokens:
                high = middle
            else:
                low = middle + 1
        return cut(low)

    def _cut(self, job: Job, prompt: Prompt) -> Prompt:
        """The prompt without a part of its middle, if it has to be cut and may be (contract 2.9).

        One that is only to be looked at or counted may be longer than the context.
        """
        if prompt.tokens <= self._most_tokens or (job.render_only and not job.truncate):
            return prompt
        if prompt.images or not (job.truncate and job.shift):
            raise PromptTooLongError(TOO_LONG)
        with_bos = prompt.ids[0] == self._files.bos_id
        keep = job.num_keep + with_bos if job.num_keep >= 0 else len(prompt.ids)
        return replace(prompt, ids=without_middle(prompt.ids, most=self._most_tokens, keep=keep))

    def _render(self, job: Job, template: ChatTemplate, messages: Sequence[ChatMessage]) -> Prompt:
        filling = {"prompt": job.prompt, "suffix": job.suffix} if job.suffix else {}
        tags = thinking_tags(template.source)
        thinking = thinking_variables(job, template.source, tags)
        render = partial(
            template.render,
            tools=job.tools,
            now=job.now,
            variables={**self._files.named_tokens, **thinking, **filling},
        )
        shape = CallShape()
        if any(message.tool_calls for message in messages):
            shape = self._call_shapes.get(template.source) or call_shape(render)
            if not job.template:
                self._call_shapes[template.source] = shape
        text = render(shaped(merged(messages), shape, tags))
        prompt = Prompt(
            ids=self._encode(job, text, add_special_tokens=False),
            text=text,
            template=template.source,
            images=sum(len(message.images) for message in messages),
        )
        return self._after_context(job, prompt)

    def _after_context(self, job: Job, prompt: Prompt) -> Prompt:
        """The prompt behind the ids of an earlier one and its answer, exactly as they were."""
        if not job.context:
            return prompt
        ids = prompt.ids[1:] if prompt.ids[:1] == (self._files.bos_id,) else prompt.ids
        before = self._files.tokenizer.decode(job.context, skip_special_tokens=False)
        return replace(prompt, ids=(*job.context, *ids), text=before + prompt.text)

    def _check_context(self, job: Job) -> None:
        for token in set(job.context):
            if not 0 <= token < 2**32 or self._files.tokenizer.id_to_token(token) is None:
                raise InvalidJobError(f"the context has a token that the model has not: {token}")

    def _template(self, job: Job) -> ChatTemplate:
        if job.template:
            try:
                return ChatTemplate(job.template)
            except InvalidModelError as error:
                raise InvalidModelError(f"template: {error.message}") from error
        sources = self._files.templates
        name = "tool_use" if job.tools and "tool_use" in sources else "default"
        if name not in sources:
            _refuse_without_template()
        if name not in self._templates:
            self._templates[name] = ChatTemplate(sources[name])
        return self._templates[name]

    def _encode(self, job: Job, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """The ids of a text; of one far too long those of its ends, which are more than fit.

        What is missing is from the middle, where such a prompt is cut. A prompt that is only counted is
        counted whole.
        """
        counted = job.render_only and not job.truncate
        if len(text) > self._most_chars and not counted:
            half = self._most_chars // 2
            ids = self._ids(text[:half] + text[-half:], add_special_tokens=add_special_tokens)
            if len(ids) > self._most_tokens:
                return ids
        return self._ids(text, add_special_tokens=add_special_tokens)

    def _ids(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
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


def without_middle(ids: Sequence[int], *, most: int, keep: int) -> tuple[int, ...]:
    """The first `keep` ids and the last ones, at most `most` together.

    Half of the room beside `keep` goes at a time, as in llama.cpp's server (server-context.cpp), so that
    the next, longer prompt of a conversation is cut at the same place and found computed.
    """
    keep = max(0, min(keep, most + 1 - LEAST_LEFT_TOKENS))
    block = max(1, (most + 1 - keep) // 2)
    dropped = (len(ids) - keep - block) // block * block
    return (*ids[:keep], *ids[keep + dropped :])


def merged(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Neighbours of one role as one message, but for what belongs to tools (contract 2.8)."""
    out: list[ChatMessage] = []
    for message in messages:
        if out and _alike(out[-1], message):
            out[-1] = _joined(out[-1], message)
        else:
            out.append(message)
    return out


def _alike(one: ChatMessage, other: ChatMessage) -> bool:
    calls = one.tool_calls or other.tool_calls or "tool" in (one.role, other.role)
    return one.role == other.role and not calls


def _joined(one: ChatMessage, other: ChatMessage) -> ChatMessage:
    return one.model_copy(
        update={
            "content": _PARAGRAPH.join(filter(None, (one.content, other.content))),
            "thinking": _PARAGRAPH.join(filter(None, (one.thinking, other.thinking))),
            "images": one.images + other.images,
        }
    )


def _newest(messages: Sequence[ChatMessage], begin: int) -> list[ChatMessage]:
    return [m for i, m in enumerate(messages) if i >= begin or m.role == "system"]
