"""`/api/create` (contract 2.14)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import ABSENT, Ends, Match, Partial, both, one_of
from tests.integration.conformance.models import OWN_TEMPLATE
from tests.integration.conformance.shapes import (
    ANY_OBJECT,
    DONE,
    SUCCESS,
    answered,
    chat,
    denied,
    failed,
    refused,
    streamed,
)
from tests.integration.conformance.table import Expected, Request, Row, Step, post, row, then, whole

NOWHERE = "sha256:" + "0" * 64
LAYER = {"status": Match("(using existing|creating new) layer sha256:[0-9a-f]{64}")}
WRITING = {"status": "writing manifest"}
STREAM = streamed(Ends((LAYER, WRITING, SUCCESS), before=LAYER))
"""The records of a model that is made from another."""


def makes(**recipe: Any) -> Request:
    """A create, streamed."""
    return post("/api/create", {"model": "~own~", **recipe})


def made(**recipe: Any) -> Request:
    """A create from `plain`, whole."""
    return whole("/api/create", **{"model": "~own~", "from": "plain", **recipe})


def broken(text: str | Match) -> Expected:
    """A stream that ends with an error."""
    return streamed(Ends(({"error": text},), before=Partial({"status": Match(".+")})))


def shows(**expected: Any) -> Step:
    """What is shown then."""
    return then(post("/api/show", {"model": "~own~"}), answered(Partial(expected)))


def speaks(prompt: str, says: str) -> Step:
    """What the model says then."""
    messages = [{"role": "user", "content": prompt}]
    return then(whole("/api/chat", model="~own~", messages=messages), chat("~own~", says))


WHOLE = DONE
EXISTS = shows(details=ANY_OBJECT)
GONE = then(post("/api/show", {"model": "~own~"}), refused(404, "model '~own~:latest' not found"))
INVALID = refused(400, "invalid model name")
NO_DIGEST = refused(400, "invalid digest format")
NOT_RELATIVE = refused(400, "file path must be relative")

ROWS: tuple[Row, ...] = (
    row("2.14", "from another model", makes(**{"from": "plain"}), STREAM, after=(EXISTS,)),
    row("2.14", "from another model, whole", made(), WHOLE, after=(EXISTS, speaks("hi", "Hello."))),
    row("2.14", "the old name of the name", post("/api/create", {"name": "~own~", "from": "plain"}), STREAM,
        after=(EXISTS,)),
    row("2.14", "over what there was", made(system="PIRATE"), WHOLE, before=(made(system="BUTLER"),),
        after=(shows(system="PIRATE"),)),
    row("2.14", "over what there was, in capitals", whole("/api/create", model="~OWN~", **{
        "from": "plain", "system": "PIRATE"}), WHOLE, before=(made(),), after=(shows(system="PIRATE"),)),
    *(
        row("2.14", f"the name {name!r}", post("/api/create", {**more, "from": "plain"}), INVALID)
        for name, more in ((None, {}), ("", {"model": ""}), ("a b", {"model": "a b"}), ("x:", {"model": "x:"}))
    ),
    row("2.14", "from nothing", makes(), refused(400, "neither 'from' or 'files' was specified"), after=(GONE,)),
    row("2.14", "from nothing, whole", whole("/api/create", model="~own~", system="x"),
        refused(400, "neither 'from' or 'files' was specified")),
    row("2.14", "an empty digest", makes(files={"model.gguf": ""}), NO_DIGEST),
    row("2.14", "an empty digest of an adapter", makes(**{"from": "plain", "adapters": {"a.gguf": ""}}), NO_DIGEST),
    *(
        row("2.14", f"the path {path!r}", makes(files={path: NOWHERE}), NOT_RELATIVE)
        for path in ("/etc/passwd", "../x.gguf", "a/../../x.gguf")
    ),
    row("2.14", "no files", makes(files={}), denied(400, "unknown type")),
    row("2.14", "files of no known type", makes(files={"readme.txt": NOWHERE}), denied(400, "unknown type")),
    row("2.14", "a digest that is none", makes(files={"m.gguf": "sha256:abc"}), broken("invalid digest format")),
    row("2.14", "a digest that is none is told after parsing", makes(files={"m.gguf": "nonsense"}), streamed(
        [{"status": "parsing GGUF"}, {"error": "invalid digest format"}])),
    row("2.14", "a digest that is not there", makes(files={"m.gguf": NOWHERE}),
        broken(Match("open .*: no such file or directory")), after=(GONE,)),
    row("2.14", "a template that is none", makes(**{"from": "plain", "template": "{{ if }"}),
        denied(400, Match("template error: template: :1: .*")), after=(GONE,)),
    row("2.14", "a template that is none, in Jinja", makes(**{"from": "plain", "template": "{% for %}"}),
        denied(400, Match("template error: template: :1: .*"))),
    row("2.14", "two adapters", makes(**{"from": "plain", "adapters": {"a.rkllm": NOWHERE, "b.rkllm": NOWHERE}}),
        refused(400, "only one adapter is currently supported")),
    row("2.14", "quantized already", made(quantize="Q4_K_M"),
        failed(500, "quantization is only supported for F16, BF16 and F32 models"), after=(GONE,)),
    row("2.14", "quantized already, streaming", makes(**{"from": "plain", "quantize": "Q4_K_M"}),
        failed(500, "quantization is only supported for F16, BF16 and F32 models"), after=(GONE,)),
    row("2.14", "the old name of quantize", made(quantization="q4_K_M"),
        failed(500, "quantization is only supported for F16, BF16 and F32 models")),
    row("2.14", "an unknown quantization", makes(**{"from": "plain", "quantize": "BOGUS"}), failed(
        500, "unsupported quantization type BOGUS - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0")),
    row("2.14", "from what is nowhere", makes(**{"from": "nope"}), streamed([
        {"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]), after=(GONE,)),
    row("2.14", "from what is nowhere, whole", made(**{"from": "nope"}),
        failed(500, "pull model manifest: file does not exist")),
    row("2.14", "from a name in capitals", made(**{"from": "PLAIN:Latest"}), WHOLE, after=(EXISTS,)),
    row("2.14", "a system", made(system="PIRATE"), WHOLE, after=(shows(system="PIRATE"), speaks("hi", "Arr."))),
    row("2.14", "an empty system leaves what there was", made(**{"from": "voiced", "system": ""}), WHOLE,
        after=(shows(system="You are a PIRATE."),)),
    row("2.14", "a template", made(template=OWN_TEMPLATE), WHOLE, after=(shows(template=OWN_TEMPLATE),)),
    row("2.14", "an empty template leaves what there was", made(**{"from": "voiced", "template": ""}), WHOLE,
        after=(shows(template=OWN_TEMPLATE),)),
    row("2.14", "parameters", made(parameters={"num_predict": 2}), WHOLE, after=(then(
        whole("/api/chat", model="~own~", messages=[{"role": "user", "content": "count"}]),
        chat("~own~", "on", reason="length")),)),
    row("2.14", "parameters are merged", made(**{"from": "voiced", "parameters": {"num_predict": 9}}), WHOLE, after=(
        shows(parameters=both(Match(r"(.*\n)?num_predict +9(\n.*)?"), Match(r"(.*\n)?temperature +0\.5(\n.*)?"))),)),
    row("2.14", "lists among them are replaced", made(**{"from": "voiced", "parameters": {"stop": ["Q"]}}), WHOLE,
        after=(shows(parameters=both(Match(r'(.*\n)?stop +"Q"(\n.*)?'), Match(r"((?!END).)*"))),)),
    row("2.14", "unknown parameters are kept", made(parameters={"warp": 9}), WHOLE,
        after=(shows(parameters=Match("warp {27}9")),)),
    row("2.14", "messages replace", made(**{"from": "voiced", "messages": [{"role": "user", "content": "REMEMBER"}]}),
        WHOLE, after=(shows(messages=[{"role": "user", "content": "REMEMBER"}]),)),
    row("2.14", "no messages leave what there was", made(**{"from": "voiced", "messages": []}), WHOLE,
        after=(shows(messages=[Partial({"role": "user"}), Partial({"role": "assistant"})]),)),
    row("2.14", "messages are heard", made(messages=[{"role": "user", "content": "REMEMBER"}]), WHOLE,
        after=(speaks("hi", "I remember."),)),
    row("2.14", "a licence", made(license="Mine."), WHOLE, after=(shows(license="Mine."),)),
    row("2.14", "licences", made(license=["One.", "Two."]), WHOLE, after=(shows(license="One.\nTwo."),)),
    *(
        row("2.14", f"a licence that is {what}", makes(**{"from": "plain", "license": value}),
            denied(500, f"json: cannot unmarshal {kind}"), after=(GONE,))
        for what, value, kind in (
            ("a number", 1, "number into Go value of type []string"),
            ("an object", {"a": "b"}, "object into Go value of type []string"),
            ("true", True, "bool into Go value of type []string"),
            ("a list with a number", ["x", 1], "number into Go value of type string"),
            ("a list in a list", [["x"]], "array into Go value of type string"),
        )
    ),
    row("2.14", "licences are added", made(**{"from": "voiced", "license": "Third."}), WHOLE,
        after=(shows(license="First licence.\nSecond licence.\nThird."),)),
    row("2.14", "the parent", made(), WHOLE, after=(shows(details=Partial({
        "parent_model": one_of("plain", "plain:latest")})),)),
    row("2.14", "nothing said of a parent without one", post("/api/show", {"model": "plain"}), answered(
        Partial({"details": Partial({"parent_model": ""}), "error": ABSENT}))),
    row("2.14", "a modelfile is no field", makes(modelfile="FROM plain"),
        refused(400, "neither 'from' or 'files' was specified")),
)  # fmt: skip
