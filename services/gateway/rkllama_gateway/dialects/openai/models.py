"""Bodies of `/v1/models` and `/v1/models/{model}` (contract 3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rkllama_protocol.messages import ResolvedModel
from rkllama_protocol.names import ModelName

from rkllama_gateway.dialects import targets
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import dumps


def target(typed: str) -> ModelName:
    """The model that a path names.

    Raises:
        DialectError: There is no such name.
    """
    return targets.target(
        typed, empty=DialectError(400, targets.REQUIRED), remote=targets.REMOTE_DETAILS
    )


def listed(models: Iterable[ResolvedModel]) -> bytes:
    """Every model, in the order of the store; a store without any has a list without any."""
    rows = [_model(model, model.name) for model in models]
    return dumps({"object": "list", "data": rows}) + b"\n"


def retrieved(model: ResolvedModel, typed: str) -> bytes:
    """One model, by the name it was asked for with."""
    return dumps(_model(model, typed)) + b"\n"


def _model(model: ResolvedModel, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(model.modified_at).timestamp()),
        "owned_by": ModelName.parse(model.full_name).namespace,
    }
