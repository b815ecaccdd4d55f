r"""Writes model files for the emulator, and says beforehand what such a model will answer.

The file is text: `rkllm-emulator 1` on the first line, then `key = value` lines, `#` for comments.
Each field of `ModelScript` is a key. Text values may use \n \r \t \s (space) \\ \xHH. `when =
NEEDLE` holds for the `reply` and `reply_tokens` lines below it (`when = *` ends that); `special =
ID TEXT` may be repeated.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

MAGIC = "rkllm-emulator 1"

_MASK = 2**64 - 1
_FNV_BASIS = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_END_SALT = 0x7FFFFFFF
_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A fixed answer."""

    text: str | None = None
    """Tokenised with the model's own tokens. `{prompt_hash}` becomes 8 hex digits that depend on
    every id of the prompt."""
    tokens: Sequence[int] | None = None
    """Ids, instead of text."""
    when: str | None = None
    """For prompts that contain this text. Of several, the one whose text stands last wins; None is
    for prompts without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScript:
    """What an emulated model is. Without replies it *continues*: see `continuation`."""

    # The model file.
    context_limit: int = 16384
    """Most tokens of max_context_len; more fails at init, as with a real file."""
    npu_cores: int = 3
    platform: str = "RK3588"
    """What the emulated board is."""
    target_platform: str = "RK3588"
    """What the model was converted for; another than `platform` fails at init."""
    toolkit_version: str | None = None
    """In the init log; None: the runtime's own."""
    driver_version: str = "0.9.8"
    model_dtype: str = "W8A8"
    log: bool = True
    """Lines on stdout, as the vendor's library prints them."""
    load_ms: float = 0
    memory_mb: float = 512
    """In perf."""

    # Vocabulary. Ids 0 to 255 are the bytes, unless `vocabulary` lists the bytes of each id.
    vocabulary: Sequence[bytes] | None = None
    special: Mapping[int, str] = field(default_factory=dict)
    """Tokens with a text that `skip_special_token` leaves out."""
    vocab_size: int = 0
    """Refuse ids from here on; 0: any id goes."""
    embd_size: int = 64
    """Width of embeddings and hidden states."""
    eos: Sequence[int] = (256,)
    """The first is the one it says."""
    show_eos: bool = False
    """Give the EOS token to the callback before the run ends."""
    ignore_eos: bool = False
    """The runtime does not know its EOS: it comes as a token, and generation goes on (#534)."""
    utf8: Literal["joined", "split"] = "joined"
    """Unfinished characters: WAITING until they are whole, or out as they come."""

    # Speed, in tokens a second; 0 never waits. `clock` 20 makes all of it 20 times faster.
    prefill_tokens_per_s: float = 0
    decode_tokens_per_s: float = 0
    clock: float = 1

    # What it says.
    replies: Sequence[Reply] = ()
    resume_replies: bool = False
    """A prompt that ends with the beginning of its reply gets the rest."""
    alphabet: str = "etaoin srhldcu etaoin .,"
    """Characters of a continuation; one that stands twice comes twice as often."""
    alphabet_ids: Sequence[int] = ()
    """Ids of a continuation, instead of `alphabet`; needed with a `vocabulary`."""
    seed: int = 0
    eos_every: int = 0
    """A continuation ends at one position in so many."""
    answer_tokens: int = 0
    """A continuation ends after so many tokens, counted from the last `answer_mark` in the ids, or
    from the end of the prompt."""
    answer_mark: int = -1
    template_system: str = ""
    """The chat template that text and multimodal prompts are wrapped in."""
    template_prefix: str = ""
    template_postfix: str = ""

    # Bad days.
    init_fault: Literal["none", "fail", "late_crash", "segfault"] = "none"
    """-1; 0 and a crash in the first run (1.1, #156); a crash at once (#522)."""
    fault: Literal["none", "abort", "segfault", "exit", "hang", "error"] = "none"
    """What befalls a run: the process dies in one of three ways, or it hangs for good and heeds no
    abort, or it reports ERROR and -1."""
    fault_after: int = 0
    """Tokens that come before; 0: in prefill."""
    fault_on_run: int = 0
    """Only this run of a handle, from 1; 0: every run."""
    fault_when: str | None = None
    """Only prompts that contain this text."""
    fault_once: Path | None = None
    """Only if this file does not exist yet; it is made then. For processes that start again."""
    destroy_fault: Literal["none", "abort", "segfault", "exit", "hang"] = "none"
    abort_in_prefill: Literal["late", "prompt"] = "late"
    """Late: an abort does not cut prefill short (#400)."""
    abort_after_tokens: int = 0
    """Tokens that still come after an abort."""
    finish_after_abort: bool = True
    """Whether an aborted run ends with FINISH; not known of the vendor's library."""
    abort_status: int = 0
    """What an aborted rkllm_run returns."""

    # The context.
    prefix_reuse: bool | None = None
    """Prefill computes and counts only what is new. None: as the family does (not 1.1)."""
    prompt_cache_works: bool = True
    """Whether prompts can be saved to files and loaded again; RWKV models support neither."""
    restore_ms: float = 0
    """What loading such a file takes."""
    reserved_positions: int = 4
    """A prompt may have so many fewer tokens than max_context_len (rkllama#25)."""
    context_full: Literal["shift", "stop"] = "shift"
    """Shift: drop a block behind n_keep and go on, as the vendor's library does."""
    logits_continue: bool = False
    """Generate after logits were given; not known of the vendor's library."""
    foreign_thread: bool = False
    """Callbacks come on a thread of the library's own."""

    # What tests look at.
    trace: Path | None = None
    """JSON lines of what crossed the border are appended here; read them with `read_trace`."""
    board: Path | str | None = None
    """A lock file that models of one board share: overlapping runs of processes are traced. Given as
    text it may be relative to the process's own folder."""

    def write(self, path: Path) -> Path:
        """Write the model file, and its vocabulary beside it."""
        vocabulary = None
        if self.vocabulary is not None:
            vocabulary = path.with_name(path.name + ".vocabulary")
            lines = [_escaped(token) for token in self.vocabulary]
            vocabulary.write_text("\n".join(lines) + "\n")
        path.write_text("\n".join([MAGIC, *self._lines(vocabulary), ""]), encoding="utf-8")
        return path

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, as the emulator makes them: the longest token first."""
        data = text.encode()
        table = sorted(self._texts().items(), key=lambda item: (-len(item[1]), item[0]))
        ids: list[int] = []
        at = 0
        while at < len(data):
            for token, spelt in table:
                if spelt and data.startswith(spelt, at):
                    ids.append(token)
                    at += len(spelt)
                    break
            else:
                at += 1
        return ids

    def text(self, ids: Sequence[int]) -> bytes:
        """Bytes of ids, special tokens left out."""
        texts = self._texts()
        return b"".join(texts.get(token, b"") for token in ids if token not in self.special)

    def next_id(self, ids: Sequence[int], *, prompt_count: int | None = None) -> int:
        """The id that a continuation puts behind `ids`: a pure function of them.

        With h = FNV-1a (64 bit, basis XOR seed) over the four little-endian bytes of each id, and
        pick(h, n) = ((h ^ h >> 32) & 0xffffffff) % n: an EOS, if it is time; else the alphabet's
        character pick(h, its length), byte by byte: inside a character, only those that begin
        alike.

        Args:
            ids: Prompt and answer so far.
            prompt_count: How many are prompt; None: all but what follows `answer_mark`.
        """
        prompt = len(ids) if prompt_count is None else prompt_count
        hashed = self._hash(ids)
        tail = b"" if self.vocabulary is not None else _unfinished(ids)
        if not tail and self._ends(ids, hashed, prompt):
            return self.eos[0]
        if self.alphabet_ids:
            return self.alphabet_ids[_pick(hashed, len(self.alphabet_ids))]
        if self.vocabulary is not None:
            return _pick(hashed, len(self._texts()))
        characters = [character.encode() for character in self.alphabet]
        fitting = [one for one in characters if one.startswith(tail) and len(one) > len(tail)]
        if not fitting:
            fitting, tail = characters, b""
        return fitting[_pick(hashed, len(fitting))][len(tail)]

    def continuation(self, ids: Sequence[int], limit: int) -> list[int]:
        """At most `limit` ids that follow the prompt `ids`, up to an EOS, which is left out."""
        so_far = list(ids)
        while len(so_far) < len(ids) + limit:
            token = self.next_id(so_far, prompt_count=len(ids))
            if token in self.eos:
                break
            so_far.append(token)
        return so_far[len(ids) :]

    def hidden_row(self, ids: Sequence[int]) -> list[float]:
        """The hidden state at the last of `ids`: `embd_size` values in [-1, 1]."""
        hashed = self._hash(ids)
        return [(_pick(_step(hashed, j), 2001) - 1000) / 1000 for j in range(self.embd_size)]

    def logits_row(self, ids: Sequence[int], vocab_size: int) -> list[float]:
        """The logits behind `ids`: 10 for what `next_id` says, else in [-4, 4]."""
        hashed = self._hash(ids)
        row = [(_pick(_step(hashed, v), 8001) - 4000) / 1000 for v in range(vocab_size)]
        chosen = self.next_id(ids)
        if chosen < vocab_size:
            row[chosen] = 10.0
        return row

    def _texts(self) -> dict[int, bytes]:
        listed = (
            [bytes([byte]) for byte in range(_BYTES)]
            if self.vocabulary is None
            else list(self.vocabulary)
        )
        return {**dict(enumerate(listed)), **{i: t.encode() for i, t in self.special.items()}}

    def _hash(self, ids: Sequence[int]) -> int:
        hashed = _FNV_BASIS ^ self.seed
        for token in ids:
            hashed = _step(hashed, token)
        return hashed

    def _ends(self, ids: Sequence[int], hashed: int, prompt_count: int) -> bool:
        if not self.eos:
            return False
        if self.answer_tokens > 0:
            begin = prompt_count
            if self.answer_mark >= 0 and self.answer_mark in ids:
                begin = len(ids) - list(ids)[::-1].index(self.answer_mark)
            if len(ids) - begin >= self.answer_tokens:
                return True
        return (
            self.eos_every > 0
            and len(ids) > prompt_count
            and _pick(_step(hashed, _END_SALT), self.eos_every) == 0
        )

    def _lines(self, vocabulary: Path | None) -> Iterator[str]:
        # The vocabulary replaces the byte tokens, so it comes before anything that is tokenised.
        if vocabulary is not None:
            yield f"vocabulary = {_escaped(bytes(vocabulary.absolute()))}"
        for token, text in self.special.items():
            yield f"special = {token} {_escaped(text.encode())}"
        apart = {"vocabulary", "special", "replies"} | (
            set() if self.alphabet_ids else {"alphabet_ids"}
        )
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name not in apart and value is not None:
                yield f"{item.name} = {_value(value)}"
        for reply in self.replies:
            yield f"when = {'*' if reply.when is None else _escaped(reply.when.encode())}"
            if reply.tokens is not None:
                yield f"reply_tokens = {_value(reply.tokens)}"
            else:
                yield f"reply = {_escaped((reply.text or '').encode())}"


def read_trace(path: Path) -> list[dict[str, Any]]:
    """What crossed the border, in order; empty if nothing has.

    Events: `init` (param), `run` (ids, input, mode, overlap, sampling, ...), `run_end` (status,
    finished, aborted, reused, prefilled, released, generated), `abort`, `destroy`, and one for
    each other function. All have `event`, `pid` and `handle`; what a family lacks is left out.
    """
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return [json.loads(line) for line in text.splitlines() if line]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str):
        return _escaped(value.encode())
    if isinstance(value, Path):
        return _escaped(bytes(value.absolute()))
    if isinstance(value, Sequence):
        return " ".join(map(str, value))
    return str(value)


def _escaped(text: bytes) -> str:
    named = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x20: " ", 0x5C: "\\\\"}
    out = [named.get(b, chr(b) if 0x21 <= b < 0x7F else f"\\x{b:02x}") for b in text]
    # The reader trims a value.
    for end in (0, -1):
        if out and out[end] == " ":
            out[end] = "\\s"
    return "".join(out)


def _step(hashed: int, token: int) -> int:
    for byte in (token & 0xFFFFFFFF).to_bytes(4, "little"):
        hashed = ((hashed ^ byte) * _FNV_PRIME) & _MASK
    return hashed


def _pick(hashed: int, n: int) -> int:
    return ((hashed ^ (hashed >> 32)) & 0xFFFFFFFF) % n


def _unfinished(ids: Sequence[int]) -> bytes:
    """The bytes at the end that begin a UTF-8 character without ending it."""
    tail: list[int] = []
    for token in reversed(ids[-3:]):
        if not 0 <= token < _BYTES:
            return b""
        tail.insert(0, token)
        if token & 0xC0 != 0x80:
            width = 4 if token >= 0xF0 else 3 if token >= 0xE0 else 2 if token >= 0xC0 else 1
            return bytes(tail) if width > len(tail) else b""
    return b""
