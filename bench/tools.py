"""What ten tools that are not called cost a conversation, by the same one without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import ollama

from bench.boards import chat, question
from bench.client import Asked, Connection
from bench.figures import Figure

TOKENS = 400
COUNT = 10
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>"
    "<tool_call></tool_call><|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def tools() -> list[dict[str, Any]]:
    """As a client defines them."""
    parameters = {
        "type": "object",
        "properties": {"what": {"type": "string"}, "times": {"type": "integer"}},
        "required": ["what"],
    }
    return [
        {
            "type": "function",
            "function": {
                "name": f"tool_{number}",
                "description": "Looks something up.",
                "parameters": parameters,
            },
        }
        for number in range(COUNT)
    ]


def measure(url: str, family: str, rounds: int) -> Iterator[Figure]:
    """With and without them in turn, on the model `fast`, so that both see the same machine."""
    with ollama.Client(host=url, trust_env=False) as client:
        client.create("tools", from_="fast", template=TEMPLATE)
    without, with_them = asyncio.run(_in_turn(url, rounds))

    def shares(value: Callable[[Asked], float]) -> tuple[float, ...]:
        return tuple(value(b) / value(a) for a, b in zip(without, with_them, strict=True))

    yield Figure(
        family=family,
        name="ten tools: first token",
        unit="ratio",
        values=shares(lambda a: a.first_s),
    )
    yield Figure(
        family=family,
        name="ten tools: tokens/s",
        unit="ratio",
        values=shares(lambda a: TOKENS / a.whole_s),
        better="more",
    )


async def _in_turn(url: str, rounds: int) -> tuple[list[Asked], list[Asked]]:
    connection = await Connection.open(url)
    runs: tuple[list[Asked], list[Asked]] = ([], [])
    for number in range(-1, rounds):
        body = chat("tools", question(number), TOKENS)
        for taken, asked in zip(runs, (body, body | {"tools": tools()}), strict=True):
            answer = await connection.ask("/api/chat", asked)
            if number >= 0:
                taken.append(answer)
    connection.close()
    return runs
