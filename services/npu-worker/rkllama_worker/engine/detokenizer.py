"""Token ids to text, as they come, with nothing emitted that a later id could change.

    ids       … | shown before | not shown yet |      only the last shown piece and what follows it
                ^ window       ^ shown               is decoded, so an id costs the same wherever it is

The pieces, joined, are what the tokenizer makes of all ids at once with special tokens left out, but
for those that the output parser has to see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tokenizers import Tokenizer

_INCOMPLETE = "\ufffd"
_BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))


class Detokenizer:
    """The text of one answer. The same ids give the same pieces, however they were grouped."""

    def __init__(
        self, tokenizer: Tokenizer, special: Mapping[int, str], *, seen: Collection[str] = ()
    ) -> None:
        """`special` are the tokenizer's; those whose text is among `seen` come out all the same."""
        self._tokenizer = tokenizer
        self._special = special
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

    def feed(self, tokens: Iterable[int]) -> str:
        """The text that `tokens` complete; nothing of a character that is not whole."""
        text = ""
        plain: list[int] = []
        for token in tokens:
            # What decoding passes over must not part a run of bytes either.
            if token in self._special or self._tokenizer.id_to_token(token) is None:
                if token in self._seen:
                    text += self._feed(plain) + self._mark(token)
                    plain = []
            else:
                plain.append(token)
        return text + self._feed(plain)

    def _feed(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        self._ids += tokens
        # Decoders with byte fallback read a run of byte tokens as a whole, and as one U+FFFD a byte if
        # it is not valid: what a run means is known when it is over.
        if self._tokenizer.id_to_token(tokens[-1]) not in _BYTE_TOKENS:
            text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
            if not text.endswith(_INCOMPLETE):
                return self._show(text)
        if len(tokens) == 1:
            return ""
        # How far it is whole shows one by one.
        del self._ids[-len(tokens) :]
        return "".join(self._feed([token]) for token in tokens)

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
