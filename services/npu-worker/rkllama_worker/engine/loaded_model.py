"""A model as an engine holds it: its files, its runtime, and what is made of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rkllama_protocol.errors import UnsupportedError

from rkllama_worker.engine import model_files
from rkllama_worker.engine.constraint import Vocabulary
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.output import Output
from rkllama_worker.engine.pooling import Pooling, read_pooling
from rkllama_worker.engine.prompt import PromptBuilder
from rkllama_worker.engine.runtime.base import Runtime
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp
from rkllama_worker.engine.runtime.llamacpp_embedding import LlamaCppEmbedder
from rkllama_worker.engine.runtime.rkllm import Rkllm
from rkllama_worker.engine.wire import LoadSpec

LEAST_CONTEXT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model, ready to run."""

    name: str
    files: ModelFiles
    runtime: Runtime
    prompts: PromptBuilder
    pooling: Pooling
    vocabulary: Vocabulary


def load(spec: LoadSpec) -> LoadedModel:
    """Read the files and open the runtime; blocks for as long as that takes.

    Raises:
        RkllamaError: What the runtime, or the reader of the files, failed with.
    """
    files = model_files.read(spec.files, template=spec.template)
    said = read_pooling(spec.files)
    runtime = _open_runtime(spec)
    pooling = said or Pooling(kind=runtime.pooling)
    prompts = PromptBuilder(files, context_length=runtime.usable_tokens)
    return LoadedModel(spec.name, files, runtime, prompts, pooling, Vocabulary(files))


def _open_runtime(spec: LoadSpec) -> Runtime:
    num_ctx = None if spec.num_ctx is None else max(LEAST_CONTEXT_TOKENS, spec.num_ctx)
    adapters = tuple(Path(path) for path in spec.adapters)
    match spec.model_format:
        case "gguf" if spec.pools:
            return LlamaCppEmbedder(Path(spec.weights), num_ctx=spec.num_ctx, adapters=adapters)
        case "gguf":
            return LlamaCpp(Path(spec.weights), num_ctx=num_ctx, adapters=adapters)
        case "rkllm" if spec.rkllm is not None:
            return Rkllm(
                Path(spec.weights),
                spec=spec.rkllm,
                num_ctx=num_ctx,
                sampling=spec.sampling,
                output=Output(),
                adapters=adapters,
            )
        case other:
            raise UnsupportedError(f"no runtime of this build runs models of format {other!r}")
