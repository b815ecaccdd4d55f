"""`/api/generate`: loads, raw prompts, context, suffix, overrides, and figures (contract 1.9, 2.7)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import (
    ABSENT,
    INT,
    NS,
    UTC,
    Each,
    Match,
    Partial,
    both,
)
from tests.integration.conformance.models import LONG, MODELS, SENTENCE, THOUGHT
from tests.integration.conformance.rows.chat import PIRATE, WORDS, ours, prompt, rendered
from tests.integration.conformance.shapes import (
    answered,
    chat_stream,
    generate_stream,
    generated,
    loaded,
    refused,
)
from tests.integration.conformance.table import Row, post, row, whole

SCRIPT = MODELS["plain"].script
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
HI_IDS = SCRIPT.tokenize(PROMPT.format("hi"))
HELLO_IDS = SCRIPT.tokenize("Hello.")
HI = {"model": "plain", "prompt": "hi"}


def writes(text: str = "hi", *, model: str = "plain", **more: Any) -> Any:
    """A generate without a stream."""
    return whole("/api/generate", model=model, prompt=text, **more)


def renders(text: str = "hi", *, model: str = "plain", **more: Any) -> Any:
    """What the prompt would be."""
    return writes(text, model=model, _debug_render_only=True, **more)


def figures(**wanted: Any) -> Any:
    """A final record with these."""
    return answered(Partial({"done": True, **wanted}))


ROWS: tuple[Row, ...] = (
    row("2.7", "an answer", writes(), generated("plain", "Hello.")),
    row("2.7", "a stream", post("/api/generate", HI), generate_stream("plain", "Hello.")),
    row("2.7", "a long stream", post("/api/generate", HI | {"prompt": "count", "stream": True}),
        generate_stream("plain", LONG)),
    row("2.7", "a stream that is not cut in a character", post("/api/generate", HI | {"prompt": "forecast"}),
        generate_stream("plain", SENTENCE)),
    *(
        row("2.7", f"{what} loads", post("/api/generate", {"model": "plain", **more}),
            loaded("generate", "plain"))
        for what, more in (
            ("nothing", {}), ("an empty prompt", {"prompt": ""}),
            ("an empty prompt, streaming,", {"prompt": "", "stream": True}),
            ("a system alone", {"system": "x"}),
        )
    ),
    # ---------------------------------------------------------------- figures
    row("1.9", "tokens are counted", writes(), figures(
        prompt_eval_count=len(HI_IDS), eval_count=len(HELLO_IDS))),
    row("1.9", "tokens that were there already are counted too", writes(),
        figures(prompt_eval_count=len(HI_IDS)), before=(writes(), writes())),
    row("1.9", "tokens of a stream are counted", post("/api/generate", HI),
        generate_stream("plain", "Hello.", last=Partial({
            "prompt_eval_count": len(HI_IDS), "eval_count": len(HELLO_IDS)}))),
    row("1.9", "a model that is loaded has a load_duration", writes(), figures(load_duration=NS), before=(writes(),)),
    row("1.9", "load_duration is part of the whole", writes(), figures(
        load_duration=NS, total_duration=NS, eval_duration=NS, prompt_eval_duration=NS)),
    row("1.9", "the end at a limit", writes("count", options={"num_predict": 2}),
        generated("plain", "on", reason="length")),
    row("1.9", "the end at a limit of a stream", post(
        "/api/generate", HI | {"prompt": "count", "options": {"num_predict": 2}}),
        generate_stream("plain", "on", reason="length")),
    row("1.9", "records come as the tokens do", post("/api/chat", {
        "model": "slow", "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": 4}}),
        chat_stream("slow", Match(".{4}"), reason="length", pieces=2)),
    row("1.9", "chat has no context", whole(
        "/api/chat", model="plain", messages=[{"role": "user", "content": "hi"}]), figures(context=ABSENT)),
    # ---------------------------------------------------------------- context, raw
    row("2.7", "context is prompt and answer", writes(), figures(context=HI_IDS + HELLO_IDS)),
    row("2.7", "context of a stream", post("/api/generate", HI),
        generate_stream("plain", "Hello.", last=Partial({"context": HI_IDS + HELLO_IDS}))),
    row("2.7", "context goes before the prompt", writes(context=SCRIPT.tokenize("forecast ")),
        generated("plain", SENTENCE)),
    row("2.7", "context in the prompt", renders("go on", context=SCRIPT.tokenize("EARLIER ")),
        prompt(both(Match("EARLIER .*"), Match(r".*go on.*")))),
    row("2.7", "context comes back longer", writes("go on", context=SCRIPT.tokenize("forecast ")),
        figures(context=both(Each(INT, least=60), Each(INT)))),
    row("2.7", "context leaves out the model's MESSAGEs", renders(
        model="voiced", context=SCRIPT.tokenize("EARLIER ")),
        prompt(both(Match("EARLIER .*"), Match(r"((?!Ahoy).)*")))),
    row("2.7", "an empty context is none", writes(context=[]), generated("plain", "Hello.")),
    row("2.7", "raw has no template", writes("forecast", raw=True), generated("plain", SENTENCE, context=ABSENT)
        ),
    row("2.7", "raw is just the prompt", writes("forecast", raw=True), figures(
        prompt_eval_count=len("forecast"), context=ABSENT)),
    row("2.7", "raw renders as it is", renders("a <b> {{ c }}", raw=True), prompt("a <b> {{ c }}")),
    row("2.7", "raw is cut at a stop", writes("stops", raw=True, options={"stop": [" STOP"]}),
        figures(response="alpha")),
    # ---------------------------------------------------------------- prompts
    row("2.7", "the render", renders(), answered({
        "model": "plain", "created_at": UTC, "response": "", "done": False,
        "_debug_info": {"rendered_template": PROMPT.format("hi")}})),
    row("2.7", "the render, streaming", post("/api/generate", HI | {"_debug_render_only": True}), answered(
        Partial({"_debug_info": {"rendered_template": PROMPT.format("hi")}}))),
    row("2.7", "a system", renders(system="S"), rendered(("system", "S"), ("user", "hi"))),
    row("2.7", "a system is heard", writes(system="PIRATE"), generated("plain", "Arr.")),
    row("2.7", "the model's SYSTEM and MESSAGEs", renders(model="voiced"),
        ours(("system", PIRATE), ("user", "Ahoy?"), ("assistant", 'Ahoy, "friend".'), ("user", "hi"))),
    row("2.7", "a system replaces the SYSTEM, not the MESSAGEs", renders(model="voiced", system="BUTLER"),
        ours(("system", "BUTLER"), ("user", "Ahoy?"), ("assistant", 'Ahoy, "friend".'), ("user", "hi"))),
    row("2.7", "a template of Go", renders(template="<{{ .System }}> {{ .Prompt }} =>", system="S"),
        prompt("<S> hi =>")),
    row("2.7", "a template of Jinja", renders(
        template="{% for m in messages %}({{ m.role }}: {{ m.content }}){% endfor %}"), prompt("(user: hi)")),
    row("2.7", "a template is used", writes("hi", template="forecast {{ .Prompt }}"),
        generated("plain", SENTENCE)),
    # ---------------------------------------------------------------- suffix
    row("2.7", "what is between", writes("def add(a, b):", model="fim", suffix="print(add(1, 2))"),
        generated("fim", "    return a + b")),
    row("2.7", "prefix and suffix between the model's tokens", renders("def add", model="fim", suffix="END"),
        prompt("<|fim_prefix|>def add<|fim_suffix|>END<|fim_middle|>")),
    row("2.7", "an empty suffix is none", renders("def add", model="fim", suffix=""),
        rendered(("user", "def add"))),
    # ---------------------------------------------------------------- thinking
    row("2.7", "thinking", writes("2+2", model="thinker"),
        generated("thinker", "The answer is 4.", thinking=THOUGHT)),
    row("2.7", "thinking in a stream", post("/api/generate", {"model": "thinker", "prompt": "2+2"}),
        generate_stream("thinker", "The answer is 4.", thinking=THOUGHT)),
    row("2.7", "no thinking", writes("2+2", model="thinker", think=False),
        generated("thinker", f"<think>\n{THOUGHT}\n</think>\n\nThe answer is 4.")),
    # ---------------------------------------------------------------- too long
    row("2.9", "a prompt that is too long and must not be shifted", writes(
        WORDS, model="short", shift=False), refused(400, Match("the prompt is longer than the context.*"))),
    row("2.9", "a prompt that is too long and must not be truncated", writes(
        WORDS, model="short", truncate=False), refused(400, Match(".*longer than the context.*"))),
    row("2.9", "a prompt that is too long is cut in its middle", writes(
        WORDS, model="short", options={"num_predict": 4}), figures(eval_count=INT)),
    # ---------------------------------------------------------------- leaving
    row("1.10", "a client that leaves frees the board", writes(), generated("plain", "Hello."),
        left=(post("/api/generate", {"model": "slow", "prompt": "x"}),)),
    row("1.10", "a client that leaves leaves the model", post("/api/generate", {"model": "slow"}),
        loaded("generate", "slow"), left=(post("/api/chat", {
            "model": "slow", "messages": [{"role": "user", "content": "x"}]}),)),
)  # fmt: skip
