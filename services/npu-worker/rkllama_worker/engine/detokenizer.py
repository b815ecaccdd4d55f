"""Token ids to text, an id at a time, with nothing emitted that a later id could change.

    ids       … | shown before | not shown yet |      only the last shown piece and what follows it
                ^ window       ^ shown               is decoded, so an id costs the same wherever it is

The pieces, joined, are what the tokenizer makes of all ids at once with special tokens left out, but
for those that the output parser has to see.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from tokenizers import Tokenizer

_INCOMPLETE = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class Detokenizer:
    """The text of one answer. The same ids give the same pieces, however they were grouped."""

    def __init__(self, tokenizer: Tokenizer, *, seen: Collection[str] = ()) -> None:
        """`seen` are texts that come out also where they are special tokens."""
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        special = {token: entry.content for token, entry in added.items() if entry.special}
        self._special = frozenset(special)
        self._seen = {token: text for token, text in special.items() if text in seen}
        self._ids: list[int] = []
        """From the window's begin on."""
        self._shown_ids = 0
        """How many of them have been shown."""
        self._shown = ""
        """What those decode to."""

    @property
    def seen(self) -> frozenset[str]:
        """The special tokens that come out."""
        return frozenset(self._seen.values())

    def feed(self, token: int) -> str:
        """The text that `token` completes; empty while a character is not whole."""
        word = self._tokenizer.id_to_token(token)
        # What decoding passes over must not part a run of bytes either.
        if word is None or token in self._special:
            return self._mark(token) if token in self._seen else ""
        self._ids.append(token)
        # Decoders with byte fallback read a run of byte tokens as a whole, and as one U+FFFD a byte if
        # it is not valid: what a run means is known when it is over.
        if _BYTE_TOKEN.fullmatch(word):
            return ""
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if text.endswith(_INCOMPLETE):
            return ""
        return self._show(text)

    def flush(self) -> str:
        """The text still held back, with U+FFFD for what will never be whole."""
        return self._show(self._tokenizer.decode(self._ids, skip_special_tokens=True))

    def _mark(self, token: int) -> str:
        """A special token that comes out: what is around it is decoded apart."""
        before = self.flush()
        self._ids.clear()
        self._shown_ids, self._shown = 0, ""
        return before + self._seen[token]

    def _show(self, text: str) -> str:
        piece = text[len(self._shown) :]
        if not piece:
            # The window keeps a piece that can be seen: decoders strip the first space of a text, and
            # would strip it of a later word if only tokens without text stood before that.
            return ""
        del self._ids[: self._shown_ids]
        self._shown_ids = len(self._ids)
        self._shown = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return piece
