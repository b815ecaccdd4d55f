"""Options: types, precedence, and what can be seen of them (contract 1.8)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import Match, Partial, has
from tests.integration.conformance.models import LONG
from tests.integration.conformance.rows.errors import asking
from tests.integration.conformance.shapes import answered, chat, generated, loaded, refused
from tests.integration.conformance.table import Row, get, row, then, whole

STOPS = [{"role": "user", "content": "stops"}]
INTEGERS = (
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_keep",
    "seed", "num_predict", "top_k", "repeat_last_n",
)  # fmt: skip
FLOATS = (
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty",
    "frequency_penalty",
)  # fmt: skip
FORMER = (
    "mirostat", "mirostat_eta", "tfs_z", "numa", "low_vram", "f16_kv", "vocab_only", "use_mlock",
    "penalize_newline", "logits_all",
)  # fmt: skip


def chatting(content: str, options: Any, model: str = "plain") -> Any:
    """A chat with options."""
    messages = [{"role": "user", "content": content}]
    return whole("/api/chat", model=model, messages=messages, options=options)


def wrong(name: str, kind: str) -> Any:
    """An option of the wrong type."""
    return refused(500, Match(f'option "{name}" must be of {kind}'))


HELLO = chat("plain", "Hello.")

ROWS: tuple[Row, ...] = (
    *(
        row("1.8", f"{name} is a number", chatting("hi", {name: "x"}), wrong(name, "type .*"))
        for name in INTEGERS
    ),
    *(
        row("1.8", f"{name} is a float", chatting("hi", {name: True}), wrong(name, "type float32"))
        for name in FLOATS
    ),
    row("1.8", "use_mmap is a bool", chatting("hi", {"use_mmap": 1}), wrong("use_mmap", "type .*")),
    row("1.8", "stop is no text", chatting("hi", {"stop": "x"}), wrong("stop", "type array")),
    row(
        "1.8",
        "stop is a list of texts",
        chatting("hi", {"stop": ["x", 1]}),
        wrong("stop", "an array of strings"),
    ),
    row("1.8", "unknown options are ignored", chatting("hi", {"nope": [1]}), HELLO),
    row("1.8", "former options are unknown", chatting("hi", dict.fromkeys(FORMER, "x")), HELLO),
    row("1.8", "null is unset", chatting("hi", dict.fromkeys((*INTEGERS, "stop"))), HELLO),
    row(
        "1.8",
        "all that there are",
        chatting(
            "hi",
            {
                "num_ctx": 4096,
                "num_batch": 512,
                "num_gpu": -1,
                "num_thread": 0,
                "num_keep": 4,
                "seed": 1,
                "num_predict": -1,
                "top_k": 40,
                "top_p": 0.9,
                "min_p": 0,
                "typical_p": 1,
                "repeat_last_n": 64,
                "temperature": 0.8,
                "repeat_penalty": 1,
                "presence_penalty": 0,
                "frequency_penalty": 0.0,
                "stop": [],
                "use_mmap": True,
                "main_gpu": 0,
            },
        ),
        HELLO,
    ),
    row(
        "1.8",
        "integers for floats",
        chatting("hi", {"temperature": 0, "top_p": 1, "min_p": 0}),
        HELLO,
    ),
    row(
        "1.8",
        "num_predict",
        chatting("count", {"num_predict": 7}),
        chat("plain", LONG[:7], reason="length"),
    ),
    row(
        "1.8",
        "fractions of integers are dropped",
        chatting("count", {"num_predict": 3.9}),
        chat("plain", LONG[:3], reason="length"),
    ),
    row(
        "1.8",
        "num_predict below zero is no limit",
        chatting("count", {"num_predict": -1}),
        chat("plain", LONG),
    ),
    row(
        "1.8",
        "num_predict counts tokens",
        chatting("count", {"num_predict": 5}),
        answered(Partial({"eval_count": 5, "done_reason": "length"})),
    ),
    row(
        "1.8",
        "an answer that just fits has come to its end, or to its length",
        chatting("hi", {"num_predict": 7}),
        HELLO,
    ),
    row("1.8", "stop", chatting("stops", {"stop": ["STOP"]}), chat("plain", "alpha ")),
    row(
        "1.8",
        "the first stop that comes",
        chatting("stops", {"stop": ["gamma", "END"]}),
        chat("plain", "alpha STOP beta "),
    ),
    row(
        "1.8",
        "stop in generate",
        whole(
            "/api/generate", **asking("/api/generate", prompt="stops", options={"stop": ["beta"]})
        ),
        generated("plain", "alpha STOP "),
    ),
    row(
        "1.8",
        "no stop",
        chatting("stops", {"stop": []}),
        chat("plain", "alpha STOP beta END gamma"),
    ),
    # `voiced` has num_predict 3, and stops at <|a|> and END.
    row(
        "1.8",
        "the model's own option",
        chatting("stops", {}, "voiced"),
        chat("voiced", "alp", reason="length"),
    ),
    row(
        "1.8",
        "the request comes before the model",
        chatting("stops", {"num_predict": 100}, "voiced"),
        chat("voiced", "alpha STOP beta "),
    ),
    row(
        "1.8",
        "stop is replaced, not merged",
        chatting("stops", {"num_predict": 100, "stop": ["STOP"]}, "voiced"),
        chat("voiced", "alpha "),
    ),
    row(
        "1.8",
        "stop is replaced by what never comes",
        chatting("stops", {"num_predict": 100, "stop": ["zzz"]}, "voiced"),
        chat("voiced", "alpha STOP beta END gamma"),
    ),
    row(
        "1.8",
        "null leaves the model's own",
        chatting("stops", {"num_predict": None, "stop": None}, "voiced"),
        chat("voiced", "alp", reason="length"),
    ),
    *(
        row(
            "1.8",
            name,
            whole("/api/generate", model="~own~", options={"num_ctx": asked}),
            loaded("generate", "~own~"),
            before=(whole("/api/create", model="~own~", **{"from": "plain", "system": "~own~"}),),
            after=(
                then(
                    get("/api/ps"),
                    answered(
                        {"models": has(Partial({"name": "~own~:latest", "context_length": given}))}
                    ),
                ),
            ),
        )
        for name, asked, given in (
            ("num_ctx", 2048, 2048),
            ("num_ctx is at most what the model was trained for", 100_000, 8192),
        )
    ),
    row(
        "1.8",
        "another num_ctx loads anew",
        whole("/api/generate", model="~own~", options={"num_ctx": 1024}),
        loaded("generate", "~own~"),
        before=(
            whole("/api/create", model="~own~", **{"from": "plain", "system": "~own~"}),
            whole("/api/generate", model="~own~", options={"num_ctx": 2048}),
        ),
        after=(
            then(
                get("/api/ps"),
                answered(
                    {"models": has(Partial({"name": "~own~:latest", "context_length": 1024}))}
                ),
            ),
        ),
    ),
)
