"""A streamed tool call and its answer by LangChain; `ollama` or `openai` names the package."""

import json
import os
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

URL = os.environ["RKLLAMA_URL"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def model() -> ChatOllama | ChatOpenAI:
    if sys.argv[1] == "ollama":
        return ChatOllama(model="able", base_url=URL, reasoning=False)
    return ChatOpenAI(model="able", base_url=f"{URL}/v1", api_key="unused", reasoning_effort="none")


def main() -> None:
    bound = model().bind_tools([add])
    messages = [HumanMessage("What is three and five?")]
    whole = None
    parts = 0
    for chunk in bound.stream(messages):
        parts += 1
        whole = chunk if whole is None else whole + chunk
    messages.append(whole)
    for call in whole.tool_calls:
        messages.append(ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"]))
    calls = [[call["name"], call["args"]] for call in whole.tool_calls]
    texts = [chunk.content for chunk in bound.stream(messages)]
    print(json.dumps({"parts": parts, "calls": calls, "texts": texts}))


main()
