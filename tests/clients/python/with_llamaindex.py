"""A streamed tool call and its answer by LlamaIndex's class for Ollama."""

import json
import os

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def main() -> None:
    tool = FunctionTool.from_defaults(fn=add)
    llm = Ollama(
        model="able",
        base_url=os.environ["RKLLAMA_URL"],
        request_timeout=60,
        context_window=2048,
        thinking=False,
    )
    messages = [ChatMessage(role=MessageRole.USER, content="What is three and five?")]
    parts = list(llm.stream_chat_with_tools([tool], chat_history=messages))
    selected = llm.get_tool_calls_from_response(parts[-1])
    messages.append(parts[-1].message)
    for call in selected:
        messages.append(
            ChatMessage(
                role=MessageRole.TOOL,
                content=str(tool(**call.tool_kwargs)),
                additional_kwargs={"tool_call_id": call.tool_id, "tool_name": call.tool_name},
            )
        )
    calls = [[call.tool_name, call.tool_kwargs] for call in selected]
    texts = [part.delta or "" for part in llm.stream_chat_with_tools([tool], chat_history=messages)]
    print(json.dumps({"parts": len(parts), "calls": calls, "texts": texts}))


main()
