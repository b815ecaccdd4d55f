"""Schemas of request bodies, as components: from the tables that decode them, each field explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rkllama_gateway.dialects.gokinds import Kind
from rkllama_gateway.dialects.openapi import texts
from rkllama_gateway.dialects.options import KINDS

OPTIONS = "Options"
_OPTION_TYPES = {
    KINDS["seed"]: {"type": "number"},  # the fraction is dropped
    KINDS["temperature"]: {"type": "number"},
    KINDS["use_mmap"]: {"type": "boolean"},
    KINDS["stop"]: {"type": "array", "items": {"type": "string"}},
}


def ref(name: str) -> dict[str, Any]:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def components(body: Kind) -> dict[str, dict[str, Any]]:
    """The schema of a body and of every struct in it, by their names."""
    found: dict[str, dict[str, Any]] = {}
    _hoisted(body.schema, found)
    return found


def options() -> dict[str, Any]:
    """The options of a run; an unknown one is ignored (contract 1.8)."""
    return {
        "type": "object",
        "properties": {name: _OPTION_TYPES[kind] for name, kind in KINDS.items()},
    }


def _hoisted(schema: Mapping[str, Any], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`schema`, in which every struct is a reference to what is put into `found`."""
    name = schema.get("title")
    if name is None:
        return {key: _inner(value, found) for key, value in schema.items()}
    if name not in found:
        properties = {
            field: _explained(name, field, _hoisted(value, found))
            for field, value in schema["properties"].items()
        }
        found[name] = {"type": "object", "properties": properties}
        if required := texts.REQUIRED.get(name):
            found[name]["required"] = list(required)
    return ref(name)


def _inner(value: Any, found: dict[str, dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_inner(item, found) for item in value]
    return _hoisted(value, found) if isinstance(value, Mapping) else value


def _explained(struct: str, field: str, schema: dict[str, Any]) -> dict[str, Any]:
    known = ref(OPTIONS) if field in ("options", "parameters") and "$ref" not in schema else schema
    return known | {"description": texts.text(struct, field)}
