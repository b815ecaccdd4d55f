"""The scripted models that every row may use, and never changes.

plain     says what a word in the prompt makes it say, else "Hello."
tools     the same with tools; answers some words with calls
thinker   thinks in tags
fim       has fill-in-the-middle tokens
emb       makes vectors of 8 values, and no text
short     has a context of 96 tokens
slow      does not come to an end; twenty tokens a second
broken    dies four tokens into an answer to BREAK, and before the first token of one to STOP
refusing  does not load
voiced    `plain` with SYSTEM, PARAMETERs, MESSAGEs, LICENSE and a template of its own
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from rkllm_bindings.emulator import ModelScript, Reply, byte_level_tokenizer

from tests.integration.conformance import wire
from tests.integration.conformance.table import post

EOS = 257
SPECIAL = {256: "<|im_start|>", EOS: "<|im_end|>"}
FIM = {258: "<|fim_prefix|>", 259: "<|fim_suffix|>", 260: "<|fim_middle|>"}

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TOOLS = """\
{%- if tools %}<|im_start|>system
You may call these functions:
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
For each call, answer with a JSON object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.content %}{{ m.content }}{% endif %}
{%- for call in m.tool_calls or [] %}

<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
OWN_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
"""Of `voiced`."""

SENTENCE = "It rains in Málaga \N{THUNDER CLOUD AND RAIN}, they say."
LONG = "one two three four five six seven eight nine ten"
MARKUP = "<b>bold</b> & more"

_SAYS = [
    Reply(text="Hello."),
    Reply(text=SENTENCE, when="forecast"),
    Reply(text=LONG, when="count"),
    Reply(text=MARKUP, when="markup"),
    Reply(text="Arr.", when="PIRATE"),
    Reply(text="Yes, my lord.", when="BUTLER"),
    Reply(text="I remember.", when="REMEMBER"),
    Reply(text="alpha STOP beta END gamma", when="stops"),
]


def _tool_call(name: str, **arguments: object) -> str:
    made = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{made}\n</tool_call>"


_CALLS = [
    *_SAYS,
    Reply(text=_tool_call("get_weather", city="Paris"), when="in Paris"),
    Reply(
        text=_tool_call("get_weather", city="Paris")
        + "\n"
        + _tool_call("get_weather", city="Rome"),
        when="in both",
    ),
    Reply(text="Let me look. " + _tool_call("get_weather", city="Oslo"), when="in Oslo"),
    Reply(text='<tool_call>\n{"name": "no such thing', when="half a call"),
    Reply(text='{"a": [1, 2]} is JSON.', when="some JSON"),
    Reply(text=_tool_call("get_weather", city="Bonn", days=3, deep={"a": [1]}), when="in Bonn"),
    Reply(text="It is 22 degrees.", when="22 degrees"),
]

THOUGHT = "Let me think. 1 < 2."
_THINKS = [
    Reply(text=f"<think>\n{THOUGHT}\n</think>\n\nThe answer is 4."),
    Reply(text="No thought at all.", when="at once"),
    Reply(text="<think>\n\n</think>\n\nNothing to think about.", when="nothing"),
]

_BASE = ModelScript(
    special=SPECIAL,
    eos=(EOS,),
    replies=_SAYS,
    embd_size=8,
    prefill_tokens_per_s=200_000,
    decode_tokens_per_s=20_000,
    memory_mb=16,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Files of one model, made from a script."""

    script: ModelScript = _BASE
    template: str = CHAT
    config: dict[str, object] = field(default_factory=dict)
    pools: bool = False

    def files(self, folder: Path) -> dict[str, bytes]:
        """The files by their names; `folder` is for their making."""
        folder.mkdir(parents=True, exist_ok=True)
        named = {"eos_token": SPECIAL[EOS], "chat_template": self.template}
        if self.pools:
            del named["chat_template"]
        config = {
            "model_type": "llama",
            "max_position_embeddings": 8192,
            "hidden_size": self.script.embd_size,
        }
        found = {
            "model.rkllm": self.script.write(folder / "model.rkllm").read_bytes(),
            "tokenizer.json": json.dumps(byte_level_tokenizer(self.script.special)).encode(),
            "tokenizer_config.json": json.dumps(named).encode(),
            "config.json": json.dumps(config | self.config).encode(),
        }
        if self.pools:
            found["1_Pooling/config.json"] = b'{"pooling_mode_lasttoken": true}'
        return found


MODELS = {
    "plain": Model(),
    "tools": Model(script=replace(_BASE, replies=_CALLS), template=TOOLS),
    "thinker": Model(
        script=replace(_BASE, replies=_THINKS), template=THINKING, config={"model_type": "qwen3"}
    ),
    "fim": Model(
        script=replace(
            _BASE,
            special=SPECIAL | FIM,
            replies=[*_SAYS, Reply(text="    return a + b", when="def add")],
        )
    ),
    "emb": Model(script=_BASE, pools=True),
    "short": Model(script=replace(_BASE, context_limit=96), config={"max_position_embeddings": 96}),
    "slow": Model(script=replace(_BASE, replies=(), answer_tokens=100_000, decode_tokens_per_s=20)),
    "broken": Model(
        script=replace(
            _BASE,
            replies=(),
            answer_tokens=8,
            # What is made in the last instant dies with the engine: the first of four tokens is told in any case.
            decode_tokens_per_s=20,
            fault="abort",
            fault_after=4,
            fault_when="BREAK",
        )
    ),
    "refusing": Model(script=replace(_BASE, init_fault="fail")),
}

VOICED = {
    "model": "voiced",
    "from": "plain",
    "system": "You are a PIRATE.",
    "template": OWN_TEMPLATE,
    "license": ["First licence.", "Second licence."],
    "parameters": {"num_predict": 3, "temperature": 0.5, "stop": ["<|a|>", "END"]},
    "messages": [
        {"role": "user", "content": "Ahoy?"},
        {"role": "assistant", "content": 'Ahoy, "friend".'},
    ],
}


def create_all(url: str, folder: Path) -> None:
    """Create the models over HTTP, as a person would."""
    for name, model in MODELS.items():
        create(url, name, model.files(folder / name))
    _done(url, "/api/create", {**VOICED, "stream": False})


def create(url: str, name: str, files: dict[str, bytes]) -> None:
    """Create one model of files."""
    digests = {title: upload(url, data) for title, data in files.items()}
    _done(url, "/api/create", {"model": name, "files": digests, "stream": False})


def upload(url: str, data: bytes) -> str:
    """Put a blob on the server; its digest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    came = wire.ask(url, wire.Sent(method="POST", target=f"/api/blobs/{digest}", body=data))
    assert came.status in (200, 201), came.body.decode()
    return digest


def _done(url: str, path: str, body: object) -> None:
    request = post(path, body)
    came = wire.ask(url, wire.Sent(method="POST", target=path, body=request.body))
    assert came.status == 200, came.body.decode()
    assert b'"success"' in came.body, came.body.decode()
