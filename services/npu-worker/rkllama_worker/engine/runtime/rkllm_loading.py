"""A `.rkllm` file in the vendor's library: loading it and its adapter, and what people are told if that fails.

The library returns a bare status, and prints the reason: it is read from the engine's own output.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rkllama_protocol.errors import InvalidModelError
from rkllm_bindings import InitError, Library, Model, ModelConfig, RkllmError

from rkllama_worker.engine.output import Output
from rkllama_worker.engine.runtime.init_log import InitLog, parse

ADAPTER = "adapter"


def load_model(library: Library, config: ModelConfig, output: Output) -> tuple[Model, InitLog]:
    """Load; a context longer than the model was converted for is tried again with its limit.

    Raises:
        InvalidModelError: The library refuses the file.
    """
    mark = output.mark()
    model = Model(library, config)
    try:
        model.load()
    except InitError as error:
        said = parse(output.since(mark))
        limit = said.context_limit
        if limit is not None and limit < config.max_context_len:
            return load_model(library, replace(config, max_context_len=limit), output)
        reason = said.reason or str(error)
        raise InvalidModelError(f"the RKLLM runtime cannot load the model: {reason}") from error
    return model, parse(output.since(mark))


def load_adapter(model: Model, path: Path, output: Output) -> str:
    """Load a LoRA adapter; the name that runs ask for it by.

    Raises:
        InvalidModelError: The library refuses the file.
    """
    mark = output.mark()
    try:
        model.load_lora(path, ADAPTER)
    except RkllmError as error:
        reason = parse(output.since(mark)).reason or str(error)
        raise InvalidModelError(
            f"the RKLLM runtime cannot use the adapter {path.name}: {reason}"
        ) from error
    return ADAPTER
