"""A streamed tool call and its answer by LiteLLM; `ollama_chat` or `openai` names the dialect."""

import json
import os
import sys

import litellm

URL = os.environ["RKLLAMA_URL"]
WHERE = {"ollama_chat": {"api_base": URL}, "openai": {"api_base": f"{URL}/v1", "api_key": "unused"}}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}]


def ask(messages: list) -> list:
    # Their switch for Ollama's `think` is named for its values.
    thinking = {"think": False} if sys.argv[1] == "ollama_chat" else {"reasoning_effort": "none"}
    return list(
        litellm.completion(
            model=f"{sys.argv[1]}/able",
            messages=messages,
            tools=TOOLS,
            stream=True,
            allowed_openai_params=list(thinking),
            **thinking,
            **WHERE[sys.argv[1]],
        )
    )


def main() -> None:
    messages = [{"role": "user", "content": "What is three and five?"}]
    parts = ask(messages)
    message = litellm.stream_chunk_builder(parts, messages=messages).choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    calls = []
    for call in message.tool_calls:
        arguments = json.loads(call.function.arguments)
        calls.append([call.function.name, arguments])
        content = str(arguments["a"] + arguments["b"])
        messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    texts = [part.choices[0].delta.content or "" for part in ask(messages)]
    print(json.dumps({"parts": len(parts), "calls": calls, "texts": texts}))


main()
