"""What the tokens of one run may be, by a grammar: asked before each is chosen, told after.

    logits --allowed--> candidates --sampler--> token --accept--> next state

The grammar is compiled against the model's own vocabulary (llguidance), once a run, in milliseconds.
"""

from __future__ import annotations

import json
import re
from functools import cached_property

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from rkllama_protocol.errors import InvalidJobError, RuntimeFailedError, UnsupportedError

from rkllama_worker.engine.model_files import ModelFiles

_REASON = re.compile(r"(?:at [\d():]+ )?(?:failed to compile JSON schema: )?(.*?)(?: \d+ \| .*)?")
"""A reason, between its place in the grammar and the grammar's text, which no client has seen."""
_LIMITS = LLParserLimits(verbose_errors=False)


class Vocabulary:
    """The bytes of each token; read when they are first asked for, which takes a second if it is large."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self.size = files.tokenizer.get_vocab_size(with_added_tokens=True)
        """Ids are below it."""
        ends = sorted(token for token in files.eos_ids if token < self.size)
        added = files.tokenizer.get_added_tokens_decoder()
        specials = (token for token, entry in sorted(added.items()) if entry.special)
        self._ends = ends or [next(specials, self.size - 1)]
        self.no_end = None if ends else self._ends[0]
        """Where no EOS is known, an id in its place, which must never come."""

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The same in llguidance's view.

        Raises:
            UnsupportedError: It knows no such tokenizer.
        """
        try:
            return LLTokenizer(self._files.tokenizer.to_str(), eos_token=self._ends)
        except ValueError as error:
            raise UnsupportedError(
                f"formats and logprobs are not to be had with this model's tokenizer: {error}"
            ) from error

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for, byte for byte; empty for an id without a token."""
        if not 0 <= token < self.size:
            return b""
        return self.tokenizer.decode_bytes([token])

    def literally(self, text: str) -> str:
        """A text as a grammar has to write it: by its id, if it is one special token."""
        if not text:
            return ""
        token = self._files.tokenizer.token_to_id(text)
        if token is not None and self.tokenizer.is_special_token(token):
            return f"<[{token}]>"
        return json.dumps(text, ensure_ascii=False)


class GrammarConstraint:
    """One run's way through a grammar; without a known EOS it ends only where nothing may follow."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        """Compile the grammar.

        Raises:
            InvalidJobError: It has what llguidance cannot do; the text says what.
        """
        self._vocabulary_size, self._no_end = vocabulary.size, vocabulary.no_end
        self._matcher = LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=_LIMITS)
        if not self._matcher.is_error():
            # Some grammars compile and have no answer, as a schema does that refers to itself alone.
            self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise InvalidJobError(f"no answer can be held to the schema: {self._reason()}")

    @property
    def complete(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._matcher.is_stopped()

    @property
    def satisfied(self) -> bool:
        """Whether the answer may end here."""
        return self._matcher.is_accepting()

    def allowed(self) -> npt.NDArray[np.intp]:
        """The ids that may come next, ascending; EOS ids are among them where the answer may end.

        Raises:
            RuntimeFailedError: The grammar became too complex, or has no way on.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(mask, count=self._vocabulary_size, bitorder="little")
        if self._no_end is not None:
            bits[self._no_end] = 0
        ids = np.flatnonzero(bits)
        if self._matcher.is_error() or not ids.size:
            raise RuntimeFailedError(f"the grammar has no next token: {self._reason()}")
        return ids

    def forced(self) -> list[int]:
        """Ids that have to follow, one by one; often none."""
        return list(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> None:
        """`token` was chosen.

        Raises:
            RuntimeFailedError: It was not allowed.
        """
        if not self._matcher.consume_token(token):
            raise RuntimeFailedError(f"the grammar refuses its own token: {self._reason()}")

    def _reason(self) -> str:
        text = " ".join(self._matcher.get_error().removesuffix("<non-verbose/>").split())
        found = _REASON.fullmatch(text)
        return (found and found[1]) or "it does not say why"
