"""Rules of the gateway, each broken on purpose; a row of the table must notice.

A mutation names a file of the package, a text that stands in it once, what stands there instead, and
the rows that state the rule: beginnings of their ids. A text that is not there, or stands there
twice, is an error, so that the list follows the code.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "services" / "gateway" / "rkllama_gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One rule, broken."""

    rule: str
    file: str
    old: str
    new: str
    rows: tuple[str, ...]
    """Beginnings of ids of rows."""


class StaleMutationError(Exception):
    """The code no longer has what the mutation changes, or has it twice."""


def apply(mutation: Mutation, folder: Path) -> Path:
    """A copy of the package in `folder` with the rule broken; what to put on the path.

    Raises:
        StaleMutationError: The text to change does not stand there just once.
    """
    path = PACKAGE / mutation.file
    text = path.read_text() if path.exists() else ""
    if (count := text.count(mutation.old)) != 1:
        raise StaleMutationError(
            f"{mutation.file} has {mutation.old!r} {count} times: say in mutations.py where the rule "
            f"{mutation.rule!r} is now; that text stands in {_places(mutation.old) or 'no file'}"
        )
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / mutation.file).write_text(text.replace(mutation.old, mutation.new))
    return folder


def _places(text: str) -> str:
    found = (path for path in sorted(PACKAGE.rglob("*.py")) if text in path.read_text())
    return ", ".join(str(path.relative_to(PACKAGE)) for path in found)


def mutation(rule: str, file: str, old: str, new: str, *rows: str) -> Mutation:
    """A mutation; `rows` are the beginnings of ids."""
    return Mutation(rule=rule, file=file, old=old, new=new, rows=rows)


_OLLAMA = "dialects/ollama"

EDGE = (
    mutation("methods in their order", "dialects/routes.py", '_READ = ("HEAD", "GET")', '_READ = ("GET", "HEAD")', "1.1 POST /"),
    mutation("GET moves for good", "dialects/routes.py", '301 if method == "GET" else 307', "307", "1.1 a slash"),
    mutation("POST keeps its body", "dialects/routes.py", '301 if method == "GET" else 307', "301", "1.1 a slash"),
    mutation("paths are cleaned", "dialects/routes.py", "if (clean := _clean(path)) != path:", "if (clean := path) != path:", "1.1 GET //api/tags", "1.1 POST //api/chat"),
    mutation("what only reads is shown where to go", "app.py", 'if method not in {"GET", "HEAD"}:', "if method:", "1.1 a slash too many, GET"),
    mutation("OPTIONS at a name is answered", "app.py", "answer = _bare(request, 204)", "answer = _bare(request, 405)", "1.11 OPTIONS at"),
    mutation("whoever is refused is told the methods", "app.py", "told = methods and request.method not in methods", "told = False", "1.11 a refused origin"),
    mutation("blobs cannot be read", "dialects/routes.py", '("HEAD", "POST")', '("HEAD", "GET", "POST")', "1.1 GET of a blob"),
    mutation("the text of 404", "dialects/routes.py", '"404 page not found"', '"Not Found"', "1.1 GET /nothing"),
    mutation("the text of 405", "dialects/routes.py", '"405 method not allowed"', '"Method Not Allowed"', "1.1 GET /api/chat"),
    mutation("other hosts are refused", "app.py", "elif self._check_host and not hosts.host_allowed(", "elif False and hosts.host_allowed(", "1.11 not host"),
    mutation("app:// may ask", "dialects/hosts.py", '"app://*",', "", "1.11 from app"),
    mutation("any port of localhost may ask", "dialects/hosts.py", 'for port in ("", ":*")', 'for port in ("",)', "1.11 from http"),
    mutation("others may not ask", "dialects/hosts.py", "return OriginVerdict(status=403)", "return OriginVerdict()", "1.11 not from"),
    mutation("a wildcard ends where it ends", "dialects/hosts.py", "return origin == pattern", "return origin.startswith(pattern)", "1.11 not from"),
    mutation("the server's own origin", "dialects/hosts.py", 'origin in (f"http://{host}", f"https://{host}")', 'origin == f"http://{host}"', "1.11 the server's own"),
    mutation("a preflight's age", "dialects/hosts.py", '"43200"', '"600"', "1.11 a preflight"),
    mutation("a preflight is answered", "dialects/hosts.py", 'if method != "OPTIONS":', "if method:", "1.11 a preflight"),
    mutation("answers vary by origin", "dialects/hosts.py", '_VARY = (("Vary", "Origin"),)', "_VARY = ()", "1.11 from"),
    mutation("private addresses are hosts", "dialects/hosts.py", "return private or address", "return address", "1.11 host"),
    mutation("names of a local network are hosts", "dialects/hosts.py", 'or name.endswith(_LOCAL_SUFFIXES)', "", "1.11 host"),
    mutation("streams are JSON lines", "connection.py", '"application/x-ndjson"', '"application/json"', "1.3 a stream"),
    mutation("an error instead of a stream has no charset", "connection.py", 'JSON_IN_STREAM = "application/json"', "JSON_IN_STREAM = JSON", "1.5 a runner"),
)  # fmt: skip

BODIES = (
    mutation("an empty body", "dialects/gojson.py", '"missing request body"', '"EOF"', "1.2 /api/chat: no body"),
    mutation("what follows is ignored", "dialects/gojson.py", 'if text[0] in "{[":\n            return _DECODER.raw_decode(text)[0]', 'if text[0] in "{[":\n            return _DECODER.decode(text)', "1.2 text after", "1.2 a second"),
    mutation("case does not matter", "dialects/gokinds.py", 'return name.lower().replace("\\u017f", "s")', "return name", "1.2 names in"),
    mutation("null is absent", "dialects/gokinds.py", "if member is None:", "if member is Kind:", "1.2 null"),
    mutation("a wrong type is named by its place", "dialects/gokinds.py", "Go struct field {self.struct}.", "Go struct field ", "1.2 /api/chat:"),
    mutation("unknown fields are ignored", "dialects/gokinds.py", "if kind is None:\n                continue", 'if kind is None:\n                raise RefusalError("json: unknown field")', "1.2 unknown"),
    mutation("HTML is escaped", "dialects/gotext.py", "if _TO_ESCAPE.search(data):", "if not data:", "1.3 HTML"),
    mutation("arguments are an object", f"{_OLLAMA}/bodies.py", "if isinstance(value, dict):\n        return value", "if value:\n        return value", "1.2 arguments"),
    mutation("where base64 ends", f"{_OLLAMA}/bodies.py", "input byte {at}", "input byte 0", "1.2 an image"),
    mutation("think is one of these", f"{_OLLAMA}/bodies.py", "if isinstance(value, str) and value not in", "if isinstance(value, int) and value not in", "1.5 /api/chat: think"),
    mutation("keep_alive is no bool", "dialects/goduration.py", "case bool():", "case bytes():", "1.7 /api/chat: True"),
    mutation("below zero is for ever", "dialects/goduration.py", "FOREVER_S = -1.0", "FOREVER_S = 60.0", "1.7 -1", "1.7 '-1m'"),
    mutation("a minute", "dialects/goduration.py", '"m": 60_000_000_000', '"m": 60_000_000', "1.7 '1h30m'", "1.7 '+2m'"),
    mutation("a unit is needed", "dialects/goduration.py", "if not unit:\n            raise", "if not step:\n            raise", "1.7 /api/chat: '5'"),
    mutation("times of answers are UTC", "dialects/gotime.py", "{_fraction(rest)}Z", "{_fraction(rest)}+00:00", "2.8 an answer"),
    mutation("for ever is 292 years", "dialects/gotime.py", "FOREVER_NS = 2**63 - 1", "FOREVER_NS = 2**60", "1.7 -1"),
)  # fmt: skip

REQUESTS = (
    mutation(":local is dropped", "dialects/targets.py", 'if suffix in ("local", "cloud"):', 'if suffix in ("cloud",):', "1.6 'plain:"),
    mutation("the cloud is refused", "dialects/targets.py", "raise DialectError(403, remote)", "raise DialectError(404, remote)", "2.20"),
    mutation("local and cloud at once", "dialects/targets.py", "if source and _split_source(base)[1]:", "if not source:", "1.5 /api/chat: local"),
    mutation("top_logprobs is bounded below", "dialects/rules.py", "if not 0 <= count <=", "if not -9 <= count <=", "1.5 /api/chat: top"),
    mutation("top_logprobs is bounded above", "dialects/rules.py", "MOST_TOP_LOGPROBS = 20", "MOST_TOP_LOGPROBS = 50", "1.5 /api/chat: top"),
    mutation("answers are streamed", f"{_OLLAMA}/requests.py", 'fields.get("stream", True)', 'fields.get("stream", False)', "2.8 a stream"),
    mutation("roles are lower-cased", f"{_OLLAMA}/requests.py", '.lower(),\n        content=', ',\n        content=', "2.8 roles"),
    mutation("an empty text is nothing to embed", f"{_OLLAMA}/requests.py", 'case None | "":', "case None:", "2.10 an empty text"),
    mutation("texts to embed are texts", f"{_OLLAMA}/requests.py", "case list() if all(isinstance(item, str) for item in value):", "case list():", "2.10 input"),
    mutation("truncating is asked for", f"{_OLLAMA}/requests.py", 'fields.get("truncate", True)', "True", "2.9 not truncated", "2.10 too long"),
    mutation("unloading needs no model loaded (chat)", f"{_OLLAMA}/jobs.py", "if not request.messages and common.keep_alive_s == 0:", "if not request:", "1.7 chat: 0"),
    mutation("unloading comes before capabilities", f"{_OLLAMA}/jobs.py", "if not request.prompt and common.keep_alive_s == 0:", "if not request:", "1.7 generate: 0", "1.5 unload"),
    mutation("raw takes no system", f"{_OLLAMA}/jobs.py", "request.raw and (request.template or request.system or request.context)", "request.raw and request.template", "1.5 raw with"),
    mutation("tools need a model with tools", f"{_OLLAMA}/jobs.py", 'rules.need(model, "tools")', "pass", "1.5 tools"),
    mutation("images need a model with eyes", f"{_OLLAMA}/jobs.py", "if request.image_count:", "if not request:", "8 images"),
    mutation("suffixes need a model that inserts", f"{_OLLAMA}/jobs.py", 'rules.need(model, "insert")', "pass", "1.5 suffix"),
    mutation("the full name in a refusal", "dialects/rules.py", "{model.full_name} does not support", "{model.name} does not support", "1.5 tools", "1.5 suffix"),
    mutation("the typed name in a refusal", "dialects/rules.py", "{quote(typed)} does not support thinking", "{quote(model.name)} does not support thinking", "1.5 /api/chat: P", "1.5 /api/chat: p"),
    mutation("a client's system message replaces", "dialects/rules.py", 'messages[0].role != "system"', "messages", "2.8 a system message of"),
    mutation("a request's system comes first", f"{_OLLAMA}/jobs.py", "request.system or model.system", "model.system or request.system", "2.7 a system replaces"),
    mutation("embedded messages come first", "dialects/rules.py", "model.messages + messages", "messages + model.messages", "2.8 the model's SYSTEM and"),
    mutation("a context leaves embedded messages out", f"{_OLLAMA}/jobs.py", "() if request.context else model.messages", "model.messages", "2.7 context leaves"),
    mutation("a wrong format is told", f"{_OLLAMA}/jobs.py", "500, f'invalid format", "400, f'invalid format", "1.5 /api/chat: a format"),
    mutation("the request's options come first", "dialects/options.py", "_typed(model.parameters) | _typed(requested)", "_typed(requested) | _typed(model.parameters)", "1.8 the request", "1.8 stop is replaced"),
    mutation("the status of a wrong option", "dialects/options.py", 'raise DialectError(500, f"option {quote(name)} must be of type float32")', 'raise DialectError(400, f"option {quote(name)} must be of type float32")', "1.5 /api/chat: an option", "1.8 top_p"),
    mutation("null is no option", "dialects/options.py", "if name in KINDS and value is not None", "if name in KINDS", "1.8 null is"),
    mutation("fractions are dropped", "dialects/options.py", "isinstance(value, bool) or not isinstance(value, int | float):\n        raise DialectError(500, f\"option {quote(name)} must be of type integer\")", "not isinstance(value, int):\n        raise DialectError(500, f\"option {quote(name)} must be of type integer\")", "1.8 fractions"),
    mutation("stop is a list", "dialects/options.py", "if not isinstance(value, list | tuple):", "if not value:", "1.8 stop"),
)  # fmt: skip

ANSWERS = (
    mutation("a warm model has a load_duration", f"{_OLLAMA}/answers.py", '"load_duration": max(self._ready_ns, 1)', '"load_duration": 0', "1.9 a model that"),
    mutation("durations are integers", f"{_OLLAMA}/answers.py", '"total_duration": elapsed_ns', '"total_duration": elapsed_ns / 1e9', "2.8 an answer"),
    mutation("every token counts", f"{_OLLAMA}/answers.py", "self._eval_count += len(chunk.ids)", "self._eval_count += 1", "1.9 tokens"),
    mutation("raw has no context", f"{_OLLAMA}/answers.py", "if last and last.context and self._with_context:", "if last and last.context:", "2.7 raw"),
    mutation("answers repeat the name", "ollama_routes.py", "answers.generate_answer(asked.model,", "answers.generate_answer(asked.name.display,", "1.6 answers"),
    mutation("loads are one object", "ollama_routes.py", "record=None if shown else record", "record=record", "1.7 five"),
    mutation("a digest without its algorithm", f"{_OLLAMA}/listings.py", '"size": model.size,\n        "digest": Digest.parse(model.digest).hex', '"size": model.size,\n        "digest": model.digest', "2.4 every"),
    mutation("the template of a model's files is shown", f"{_OLLAMA}/show.py", "model.template or reply.template", "model.template", "2.6 the template in"),
    mutation("a licence is a text", f"{_OLLAMA}/admin.py", "if not isinstance(item, str | None):", "if item == 0:", "2.14 a licence that is a list"),
    mutation("no model hears", "dialects/openai/transcriptions.py", "does not support audio", "does not hear", "3.6 speech for plain"),
    mutation("lengths only in tags", f"{_OLLAMA}/show.py", "lengths=False", "lengths=True", "2.6 details"),
    mutation("what stays longest comes first", f"{_OLLAMA}/listings.py", "-row[0], row[1][0].name", "row[0], row[1][0].name", "2.5 what stays"),
    mutation("there is no cloud", f"{_OLLAMA}/listings.py", '"disabled": True', '"disabled": False', "2.3"),
    mutation("parameters stand in columns", f"{_OLLAMA}/show.py", "_NAME_WIDTH = 30", "_NAME_WIDTH = 20", "2.6 the parameters"),
    mutation("texts are quoted in parameters", f"{_OLLAMA}/show.py", "return quote(value) if isinstance(value, str) else _plain(value)", "return _plain(value)", "2.6 the parameters"),
    mutation("Copilot gets the name", f"{_OLLAMA}/show.py", "if user_agent.startswith(COPILOT):", "if not user_agent:", "2.6 for"),
    mutation("a system is laid over", f"{_OLLAMA}/show.py", "if request.system:", "if not request:", "2.6 another system"),
    mutation("licences are joined", f"{_OLLAMA}/show.py", '"\\n".join(model.license)', '" ".join(model.license)', "2.6 the license"),
    mutation("values of lines are quoted", f"{_OLLAMA}/show.py", """f'\"\"\"{text}\"\"\"' if""", """f"'{text}'" if""", "2.6 a value of two lines with a quote"),
    mutation("embed advises to pull", f"{_OLLAMA}/failures.py", "not found, try pulling it first", "not found", "1.5 embed: unknown"),
    mutation("the status of a pull", "dialects/failing.py", '"upstream": 500', '"upstream": 502', "2.12 what is nowhere, without"),
    mutation("copy quotes twice", f"{_OLLAMA}/failures.py", 'return DialectError(404, f"model {quote(model)} not found")', "return DialectError(404, f\"model '{model}' not found\")", "2.15 a source that is not"),
    mutation("show's name is normalised", "ollama_routes.py", "Endpoint.SHOW, model=asked.name.display", "Endpoint.SHOW, model=asked.model", "2.6 an unknown model"),
    mutation("the old name of the name", f"{_OLLAMA}/admin.py", 'fields.get("model") or fields.get("name", "")', 'fields.get("model", "")', "2.6 the old", "2.16 the old", "2.12 the old"),
    mutation("files stay inside", f"{_OLLAMA}/admin.py", '_OUTSIDE = {"", ".", ".."}', '_OUTSIDE = {"."}', "2.14 the path"),
    mutation("one adapter", f"{_OLLAMA}/admin.py", "if len(adapters) > 1:", "if len(adapters) > 9:", "2.14 two adapters"),
    mutation("fewer dimensions", "dialects/vectors.py", "if 0 < dimensions < len(vector)", "if 0 < dimensions < 1", "2.10 fewer"),
    mutation("vectors have length 1", f"{_OLLAMA}/vectors.py", "self._vectors.append(float32s(normalised(vector, dimensions=self._dimensions)))", "self._vectors.append(float32s(vector))", "2.10 a text"),
    mutation("the older vectors have not", f"{_OLLAMA}/vectors.py", "self._vectors.append(float64s(vector))", "self._vectors.append(float64s(normalised(vector)))", "2.11 a prompt"),
    mutation("the shape of a digest", "blob_routes.py", '"invalid digest format"', '"bad digest"', "2.17 an upload to"),
    mutation("a pull that is whole", f"{_OLLAMA}/progress.py", """WHOLE = b'{"status":"success"}'""", """WHOLE = b'{"status":"done"}'""", "2.14 from another model, whole"),
)  # fmt: skip

MUTATIONS: tuple[Mutation, ...] = (*EDGE, *BODIES, *REQUESTS, *ANSWERS)
