"""Embedding models on the CPU: the hidden states of llama.cpp's last layer, a row for each token.

    encoder             BERT and its like; no memory: the whole text at once, attention in both directions
    decoder, causal     batch after batch; the rows of all, or of the last token alone
    decoder, other      with a memory, and yet the whole text at once

llama.cpp pools nothing here: how rows become a vector is the model's own affair (`pooling.py`), and the
same for every runtime. It reserves room for the logits of every row, though encoders have none: 4 bytes x
vocabulary x tokens, 62 MB for 512 tokens of BERT's. That is taken while loading, so that it counts as the
model's memory, and a text that is longer than all before cannot fail for want of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rkllama_protocol.errors import RuntimeFailedError, UnsupportedError

from rkllama_worker.engine.runtime import _llama_h as h
from rkllama_worker.engine.runtime.base import Emit, GenerateRequest, PoolingKind, RunStats
from rkllama_worker.engine.runtime.llama_model import BATCH_TOKENS, LlamaModel, take_reason
from rkllama_worker.engine.runtime.logits import Floats

_KINDS: dict[str, PoolingKind] = {"1": "mean", "2": "cls", "3": "last"}
"""llama.h, enum llama_pooling_type."""
_RANK = "4"
_PROBE_TOKENS = 32


class LlamaCppEmbedder:
    """A GGUF model in memory that makes vectors and no text."""

    def __init__(
        self, weights: Path, *, num_ctx: int | None, adapters: Sequence[Path] = ()
    ) -> None:
        """Load the model for texts of `num_ctx` tokens, or 4096, at most what it was trained for.

        Raises:
            InvalidModelError: A file is missing, damaged, or of a kind llama.cpp does not know; or an
                adapter is another model's.
            UnsupportedError: It ranks pairs of texts, or has an encoder and a decoder.
            RuntimeFailedError: The library is missing or unknown, or there is no memory.
        """
        self._model = LlamaModel(weights)
        self._library = self._model.library
        said = self._model.said("{arch}.pooling_type")
        if said == _RANK:
            raise UnsupportedError("the model ranks pairs of texts and makes no embeddings")
        self._context_length = self._model.context_length(num_ctx)
        self._width: int = self._library.llama_model_n_embd_out(self._model.handle)
        encodes, whole = self._probe()
        self._encodes = encodes
        self._batch_tokens = (
            self._context_length if whole else min(BATCH_TOKENS, self._context_length)
        )
        self._pooling = _KINDS.get(said, "mean" if encodes else "last")
        self._context = self._open(self._context_length, self._batch_tokens)
        self._model.adapt(self._context, adapters)
        self._memory = self._library.llama_get_memory(self._context)
        self._reserve()
        # The first run reads every weight from the disk: that belongs to the load.
        self.embed((0,), last_only=True)

    @property
    def context_length(self) -> int:
        """Tokens that a text may have."""
        return self._context_length

    @property
    def context_limit(self) -> int | None:
        """The file says it itself."""
        return None

    @property
    def usable_tokens(self) -> int:
        """All of them."""
        return self._context_length

    @property
    def embeddable_tokens(self) -> int:
        """All of them: nothing is written behind a text."""
        return self._context_length

    @property
    def accelerator_bytes(self) -> int:
        """Nothing: this runtime uses the CPU alone."""
        return 0

    @property
    def shows_logits(self) -> bool:
        """There are none."""
        return False

    @property
    def pooling(self) -> PoolingKind:
        """What the file says; else the mean of an encoder, as sentence-transformers takes it."""
        return self._pooling

    def generate(self, prompt: Sequence[int], request: GenerateRequest, emit: Emit) -> RunStats:
        """Not from this model."""
        raise UnsupportedError("the model makes embeddings and no text")

    @property
    def saves_as(self) -> str:
        """It holds nothing from one run to the next."""
        return ""

    def save(self, path: Path) -> bool:
        """See `saves_as`."""
        raise UnsupportedError(f"a model that makes vectors leaves no context in {path.name}")

    def restore(self, path: Path) -> bool:
        """See `saves_as`."""
        raise UnsupportedError(f"a model that makes vectors takes no context from {path.name}")

    def ignored(self, request: GenerateRequest) -> frozenset[str]:
        """None that would matter."""
        return frozenset()

    def embed(self, prompt: Sequence[int], *, last_only: bool) -> Floats:
        """See `Runtime.embed`."""
        self._model.check_ids(prompt)
        self._model.go_on()
        if self._encodes:
            rows = self._rows(prompt)
            return rows[-1:] if last_only else rows
        self._forget()
        if not last_only:
            starts = range(0, len(prompt), self._batch_tokens)
            batches = [self._rows(prompt[at : at + self._batch_tokens]) for at in starts]
            return np.concatenate(batches)
        return self._last_row(prompt)

    def abort(self) -> None:
        """End the run under way, within one operation of its graph."""
        self._model.abort()

    def close(self) -> None:
        """Free the model."""
        self._library.llama_free(self._context)
        self._model.close()

    def _last_row(self, prompt: Sequence[int]) -> Floats:
        """Of a decoder: the rows before it are not put out, which would cost their logits too."""
        if self._batch_tokens >= len(prompt):
            return self._rows(prompt)[-1:]
        before = prompt[:-1]
        self._put_out(wanted=False)
        try:
            for at in range(0, len(before), self._batch_tokens):
                self._compute(before[at : at + self._batch_tokens])
        finally:
            self._put_out(wanted=True)
        return self._rows(prompt[-1:])

    def _rows(self, ids: Sequence[int]) -> Floats:
        """A copy of the rows of one batch, float32 [ids, width]."""
        self._compute(ids)
        found = self._library.llama_get_embeddings(self._context)
        if not found:
            raise RuntimeFailedError("llama.cpp gave no hidden states")
        return np.ctypeslib.as_array(found, shape=(len(ids), self._width)).copy()

    def _compute(self, ids: Sequence[int]) -> None:
        if status := self._status(ids):
            said = take_reason()
            self._forget()
            if status == h.DECODE_ABORTED:
                raise RuntimeFailedError("the run was aborted")
            raise RuntimeFailedError(f"llama.cpp failed with status {status}: {said}")

    def _status(self, ids: Sequence[int]) -> int:
        tokens = (h.TOKEN * len(ids))(*ids)
        batch = self._library.llama_batch_get_one(tokens, len(ids))
        call = self._library.llama_encode if self._encodes else self._library.llama_decode
        return int(call(self._context, batch))

    def _forget(self) -> None:
        if self._memory is not None:
            self._library.llama_memory_clear(self._memory, False)  # noqa: FBT003 - a C prototype

    def _put_out(self, *, wanted: bool) -> None:
        self._library.llama_set_embeddings(self._context, wanted)

    def _reserve(self) -> None:
        """Have the longest batch's room, by beginning one: its first operation is not waited for."""
        self._model.abort()
        status = self._status([0] * self._batch_tokens)
        said = take_reason()
        self._forget()
        if status not in (0, h.DECODE_ABORTED):
            raise RuntimeFailedError(
                f"llama.cpp has no room for {self._batch_tokens} tokens at once: {said}"
            )

    def _probe(self) -> tuple[bool, bool]:
        """Whether the model is an encoder, and whether it needs a text as a whole."""
        context = self._open(_PROBE_TOKENS, _PROBE_TOKENS)
        try:
            decodes = self._library.llama_model_has_decoder(self._model.handle)
            encodes = not decodes or self._library.llama_get_memory(context) is None
            return encodes, encodes or not self._library.llama_get_causal_attn(context)
        finally:
            self._library.llama_free(context)

    def _open(self, context_tokens: int, batch_tokens: int) -> int:
        params = self._model.params()
        params.n_ctx = context_tokens
        params.n_batch = params.n_ubatch = params.n_outputs_max = batch_tokens
        params.embeddings = True
        params.pooling_type = h.POOLING_NONE
        return self._model.open_context(params)
