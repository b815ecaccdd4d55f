"""A model's own metadata, whole: too large for the bus, so the store is asked over HTTP."""

from __future__ import annotations

import httpx2
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.messages import WEIGHTS_TYPE, ResolvedModel

from rkllama_gateway.catalog import Catalog, broken_off


async def whole_metadata(
    model: ResolvedModel, catalog: Catalog, client: httpx2.AsyncClient
) -> bytes:
    """All that the model's GGUF file says about itself, as a JSON object; `{}` without such a file.

    Raises:
        UnreachableError: The store did not answer.
        InvalidModelError: The file cannot be read.
    """
    weights = [layer.digest for layer in model.layers if layer.media_type == WEIGHTS_TYPE]
    if model.details.format != "gguf" or not weights:
        return b"{}"
    try:
        answer = await client.get(f"{catalog.http_url}/metadata/{weights[0]}")
    except httpx2.TransportError as error:
        raise broken_off(error) from error
    if answer.status_code != httpx2.codes.OK:
        raise InvalidModelError(f"the metadata of {model.name} cannot be read: {answer.text}")
    return answer.content
