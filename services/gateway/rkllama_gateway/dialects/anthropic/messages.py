"""Turns of content blocks as the messages of a chat (contract 4).

    text           joined, as Ollama does           tool_use      a call of the message
    image          base64 only                      tool_result   a `tool` message of its own
    document       plain text only                  thinking      the message's thinking
    server_tool_use, web_search_tool_result         of an earlier model's search: as the two above
    redacted_thinking                               left out: nobody here can read it

The results in a user's turn stand before its text, which is the next thing the user says. A block of any
other type is refused: an answer that silently misses half of the question is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rkllama_protocol.messages import ChatMessage

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gobase64 import illegal_byte
from rkllama_gateway.dialects.gotext import quote

ROLES = ("user", "assistant", "system")

Block = Mapping[str, Any]


def system(said: str | Sequence[Block]) -> tuple[ChatMessage, ...]:
    """The system prompt, which comes as a text or as blocks; none where it is empty.

    Raises:
        DialectError: A block is no text.
    """
    text = said if isinstance(said, str) else "".join(map(_system_text, said))
    return (ChatMessage(role="system", content=text),) if text else ()


def conversation(turns: Iterable[Mapping[str, Any]]) -> tuple[ChatMessage, ...]:
    """The messages of all turns.

    Raises:
        DialectError: A turn has an unknown role, or a block that is wrong; or nothing is said at all.
    """
    messages = tuple(message for turn in turns for message in _messages(turn))
    if not messages:
        raise DialectError(400, "messages must have non-empty content")
    return messages


def _system_text(block: Block) -> str:
    if block.get("type") != "text":
        raise _unsupported(block, "system")
    text: str = block.get("text", "")
    return text


@dataclass(slots=True)
class _Turn:
    """What the blocks of one turn come to."""

    text: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[ChatMessage] = field(default_factory=list)

    def take(self, block: Block) -> None:
        match block.get("type", ""):
            case "text":
                self.text.append(block.get("text", ""))
            case "image":
                self.images.append(_image(block.get("source")))
            case "document":
                self.text.append(_document(block))
            case "tool_use":
                self.calls.append(_call(block, len(self.calls)))
            case "server_tool_use":
                self.calls.append(_called(block, len(self.calls)))
            case "tool_result":
                text, images = _result(block.get("content"))
                self.results.append(_answered(block, text, images))
            case "web_search_tool_result":
                self.results.append(_answered(block, _found(block.get("content"))))
            case "thinking":
                self.thinking.append(block.get("thinking", ""))
            case "redacted_thinking":
                pass
            case _:
                raise _unsupported(block, "messages")

    def message(self, role: str) -> tuple[ChatMessage, ...]:
        """The turn without its results; none if nothing is left of it."""
        said = ChatMessage(
            role=role,
            content="".join(self.text),
            thinking="".join(self.thinking),
            images=tuple(self.images),
            tool_calls=tuple(self.calls),
        )
        empty = not (said.content or said.thinking or said.images or said.tool_calls)
        return () if empty else (said,)


def _messages(turn: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    role = turn.get("role", "").lower()
    if role not in ROLES:
        allowed = ", ".join(map(quote, ROLES))
        raise DialectError(400, f"messages: unexpected role {quote(role)}; allowed are {allowed}")
    content = turn.get("content", "")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    taken = _Turn()
    for block in content:
        taken.take(block)
    said = taken.message(role)
    return (*taken.results, *said) if role == "user" else (*said, *taken.results)


def _call(block: Block, index: int) -> dict[str, Any]:
    for name in ("id", "name"):
        if not block.get(name):
            raise DialectError(400, f"tool_use block missing required '{name}' field")
    return _called(block, index)


def _called(block: Block, index: int) -> dict[str, Any]:
    function = {
        "index": index,
        "name": block.get("name", ""),
        "arguments": block.get("input") or {},
    }
    return {"id": block.get("id", ""), "function": function}


def _answered(block: Block, text: str, images: tuple[str, ...] = ()) -> ChatMessage:
    called: str = block.get("tool_use_id", "")
    return ChatMessage(role="tool", content=text, images=images, tool_call_id=called)


def _result(content: Any) -> tuple[str, tuple[str, ...]]:
    """Text and images that a tool gave."""
    match content:
        case None:
            return "", ()
        case str():
            return content, ()
        case list():
            texts: list[str] = []
            images: list[str] = []
            for block in content:
                match block:
                    case {"type": "text", "text": str(text)}:
                        texts.append(text)
                    case {"type": "image"}:
                        images.append(_image(block.get("source")))
                    case {"type": "document"}:
                        texts.append(_document(block))
                    case _:
                        raise _unsupported(block, "tool_result")
            return "".join(texts), tuple(images)
        case _:
            raise DialectError(400, "tool_result block's 'content' must be a string or an array")


def _found(content: Any) -> str:
    """What a search on somebody else's server came to, in Ollama's form."""
    match content:
        case str():
            return content
        case list():
            pages = (page for page in content if isinstance(page, dict))
            return "".join(f"- {page.get('title', '')}: {page.get('url', '')}\n" for page in pages)
        case {"error_code": str(code)} if code:
            return f"web_search_tool_result_error: {code}"
        case _:
            return "web_search_tool_result_error"


def _image(source: Any) -> str:
    """The image's bytes, base64 on one line."""
    match source:
        case {"type": "base64"}:
            pass
        case {"type": str(kind)}:
            raise DialectError(
                400, f"invalid image source type: {kind}. Only base64 images are supported."
            )
        case _:
            raise DialectError(400, "invalid image source")
    data = source.get("data") or ""
    if not isinstance(data, str):
        raise DialectError(400, "invalid image source")
    if (at := illegal_byte(data)) is not None:
        raise DialectError(
            400, f"invalid base64 image data: illegal base64 data at input byte {at}"
        )
    return data.replace("\n", "").replace("\r", "")


def _document(block: Block) -> str:
    """The text of a document, under its title."""
    match block.get("source"):
        case {"type": "text", "data": str(text)}:
            title = block.get("title")
            return f"{title}\n\n{text}" if isinstance(title, str) and title else text
        case {"type": str(kind)}:
            raise DialectError(
                400,
                f"invalid document source type: {kind}. Only plain text documents are supported.",
            )
        case _:
            raise DialectError(400, "invalid document source")


def _unsupported(block: Any, place: str) -> DialectError:
    kind = block.get("type") if isinstance(block, Mapping) else None
    shown = quote(kind if isinstance(kind, str) else "")
    return DialectError(400, f"{place}: unsupported content block type {shown}")
