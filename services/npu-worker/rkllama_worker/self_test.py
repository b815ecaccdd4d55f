"""How fast a model really is here: one run, in an engine process like any other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rkllama_board import Board, VendorFigure, vendor_figure
from rkllama_board.vendor_speed import NEW_TOKENS, PROMPT_TOKENS
from rkllama_protocol.codec import decode_chunk, encode
from rkllama_protocol.errors import RkllamaError, from_wire
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel, Sampling

from rkllama_worker.engine.wire import LoadSpec, Saving
from rkllama_worker.engine_process import EngineProcess
from rkllama_worker.npu import Npu
from rkllama_worker.stored_models import StoredModel

LOAD_TIMEOUT_S = 300.0
WORD, OTHER_WORD = " a", " the"
"""One token each in the byte-pair vocabularies of the families people use; the run says how many it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A prompt that was taken up from a file, after another one had the context."""

    tokens: int
    """That were not computed again."""
    restore_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run."""

    model: str
    load_s: float
    prompt_tokens: int
    prefill_tokens_per_s: float
    new_tokens: int
    decode_tokens_per_s: float
    vendor: VendorFigure | None
    """What Rockchip says of this model, or one of about its size, on this SoC."""
    saved: Saved | None = None
    """None: the runtime saved no context, or did not take it up again."""


async def measure(model: StoredModel, *, npu: Npu | None, board: Board) -> Measured:
    """Load the model, give it a prompt of some 128 tokens, and have it make 64.

    Raises:
        RkllamaError: It does not load, or not run.
    """
    rkllm = npu.spec(npu.domains_for(model.size_bytes, [])) if npu else None
    spec = LoadSpec(
        name=model.name,
        model_format=model.model_format,
        weights=str(model.weights),
        files=model.files,
        template=model.template,
        rkllm=rkllm,
    )
    fds = npu.inherited_fds if npu else ()
    engine = await EngineProcess.start(spec, timeout_s=LOAD_TIMEOUT_S, inherited_fds=fds)
    last: list[bytes] = []

    async def keep(chunk: bytes) -> None:
        last.append(chunk)

    try:
        ended = await engine.run(encode(_job(model)), _pass_over, keep)
        saved = await _saved(engine, model) if engine.ready.saves_as else None
    finally:
        await engine.close()
    end = decode_chunk(last[0])
    if end.error_code:
        raise from_wire(end.error_code, end.error_message)
    if not ended.prefill_ns or not ended.decode_ns:
        raise RkllamaError("the run was too short to be measured")
    computed = ended.prompt_tokens - ended.reused_tokens
    return Measured(
        model=model.name,
        load_s=engine.ready.load_ns / 1e9,
        prompt_tokens=ended.prompt_tokens,
        prefill_tokens_per_s=computed / (ended.prefill_ns / 1e9),
        new_tokens=ended.generated_tokens,
        decode_tokens_per_s=ended.generated_tokens / (ended.decode_ns / 1e9),
        vendor=_vendor(model, board),
        saved=saved,
    )


async def _pass_over(_: bytes) -> None:
    """How a run ends is all that is asked."""


async def _saved(engine: EngineProcess, model: StoredModel) -> Saved | None:
    """Save a prompt, run another one, and go on with the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "saved")
        kept = await engine.run(
            encode(_job(model, WORD * PROMPT_TOKENS, new_tokens=1)),
            _pass_over,
            _pass_over,
            saving=Saving(save_to=path),
        )
        if not kept.saved_bytes:
            return None
        await engine.run(encode(_job(model, OTHER_WORD, new_tokens=1)), _pass_over, _pass_over)
        ended = await engine.run(
            encode(_job(model, WORD * PROMPT_TOKENS + OTHER_WORD, new_tokens=1)),
            _pass_over,
            _pass_over,
            saving=Saving(restore=path),
        )
    if not ended.restored or not ended.reused_tokens:
        return None
    return Saved(
        tokens=ended.reused_tokens,
        restore_s=ended.restore_ns / 1e9,
        size_bytes=kept.saved_bytes,
    )


def _vendor(model: StoredModel, board: Board) -> VendorFigure | None:
    if board.soc is None or model.model_format != "rkllm":
        return None
    words = model.weights_name.lower()
    dtype = "w4a16" if "w4a16" in words else "w8a8"
    return vendor_figure(board.soc, model.weights_name, dtype)


def _job(
    model: StoredModel, prompt: str = WORD * PROMPT_TOKENS, *, new_tokens: int = NEW_TOKENS
) -> Job:
    nobody = "sha256:" + "0" * 64
    facts = ResolvedModel(
        name=model.name,
        full_name=model.name,
        digest=nobody,
        size=model.size_bytes,
        modified_at="1970-01-01T00:00:00Z",
        details=ModelDetails(format=model.model_format),
    )
    return Job(
        job_id="self-test",
        model=facts,
        kind="completion",
        prompt=prompt,
        num_predict=new_tokens,
        sampling=Sampling(temperature=0),
        now="1970-01-01T00:00:00Z",
    )
