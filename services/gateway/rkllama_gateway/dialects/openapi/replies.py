"""Schemas of answers. A test holds them against answers of the gateway: they allow nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rkllama_gateway.dialects.openapi.requests import ref

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
TIME: Schema = {"type": "string", "format": "date-time"}
NANOSECONDS: Schema = COUNT | {"description": "Nanoseconds."}
BYTES: Schema = COUNT | {"description": "Bytes."}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def of(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def listed(item: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": item}


_DETAILS = {
    "parent_model": TEXT,
    "format": TEXT | {"description": "`gguf` or `rkllm`."},
    "family": TEXT,
    "families": {"type": ["array", "null"], "items": TEXT},
    "parameter_size": TEXT,
    "quantization_level": TEXT,
}
_NAMES = {"name": TEXT, "model": TEXT}
_OPENING = {
    "model": TEXT | {"description": "As it was asked for."},
    "created_at": TIME,
    "done": FLAG,
}
_FIGURES = {
    "done_reason": {"enum": ["stop", "length", "load", "unload"]},
    "total_duration": NANOSECONDS,
    "load_duration": NANOSECONDS,
    "prompt_eval_count": COUNT | {"description": "Tokens of the prompt."},
    "prompt_eval_duration": NANOSECONDS,
    "eval_count": COUNT | {"description": "Tokens of the answer."},
    "eval_duration": NANOSECONDS,
}
_SAID = {
    "thinking": TEXT,
    "tool_calls": listed(ref("ToolCall")),
}
_PROBED = {
    "logprobs": listed(ref("Logprob")),
    "_debug_info": of({"rendered_template": TEXT}, {"image_count": COUNT}),
}
_TOKEN = {"token": TEXT, "logprob": {"type": "number"}, "bytes": listed(COUNT)}

_USAGE = of({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT})
_FINISH = {"enum": ["stop", "length", "tool_calls", "load", None]}
_MADE = {
    "id": TEXT,
    "object": TEXT,
    "created": COUNT | {"description": "Seconds since 1970."},
    "model": TEXT | {"description": "As it was asked for."},
    "system_fingerprint": TEXT,
}
_OPENAI_CALL = of(
    {
        "id": TEXT,
        "index": COUNT,
        "type": {"const": "function"},
        "function": of({"name": TEXT, "arguments": TEXT | {"description": "JSON."}}),
    }
)
_OPENAI_MESSAGE = of(
    {"role": TEXT, "content": TEXT}, {"reasoning": TEXT, "tool_calls": listed(_OPENAI_CALL)}
)
_OPENAI_LOGPROBS = of(
    {"content": listed(of({**_TOKEN, "top_logprobs": listed(of(_TOKEN))}))},
)
_OPENAI_MODEL = of({"id": TEXT, "object": TEXT, "created": COUNT, "owned_by": TEXT})
_OPENAI: Mapping[str, Schema] = {
    "openai.Error": of(
        {
            "error": of(
                {
                    "message": TEXT,
                    "type": {"enum": ["invalid_request_error", "not_found_error", "api_error"]},
                    "param": {"type": "null"},
                    "code": {"type": "null"},
                }
            )
        }
    ),
    "openai.ChatCompletion": of(
        {
            **_MADE,
            "choices": listed(
                of(
                    {"index": COUNT, "message": _OPENAI_MESSAGE, "finish_reason": _FINISH},
                    {"logprobs": _OPENAI_LOGPROBS},
                )
            ),
            "usage": _USAGE,
        },
        {"_debug_info": _PROBED["_debug_info"]},
    ),
    "openai.Completion": of(
        {
            **_MADE,
            "choices": listed(
                of({"text": TEXT, "index": COUNT, "finish_reason": _FINISH}, {"logprobs": OBJECT})
            ),
            "usage": _USAGE,
        },
        {"_debug_info": _PROBED["_debug_info"]},
    ),
    "openai.Embeddings": of(
        {
            "object": TEXT,
            "data": listed(
                of({"object": TEXT, "embedding": {"type": ["array", "string"]}, "index": COUNT})
            ),
            "model": TEXT,
            "usage": of({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "openai.Response": OBJECT | {"description": "OpenAI's object of that name."},
    "openai.Models": of({"object": TEXT, "data": listed(ref("openai.Model"))}),
    "openai.Model": _OPENAI_MODEL,
}

_BLOCKS = [
    of({"type": {"const": "thinking"}, "thinking": TEXT, "signature": {"const": ""}}),
    of({"type": {"const": "text"}, "text": TEXT}),
    of({"type": {"const": "tool_use"}, "id": TEXT, "name": TEXT, "input": OBJECT}),
]
_ANTHROPIC: Mapping[str, Schema] = {
    "anthropic.Error": of(
        {
            "type": {"const": "error"},
            "error": of({"type": TEXT, "message": TEXT}),
            "request_id": TEXT,
        }
    ),
    "anthropic.Message": of(
        {
            "id": TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": TEXT | {"description": "As it was asked for."},
            "content": listed({"oneOf": _BLOCKS}),
            "stop_reason": {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
            "stop_sequence": {"type": ["string", "null"]},
            "usage": of({"input_tokens": COUNT, "output_tokens": COUNT}),
        }
    ),
    "anthropic.TokenCount": of({"input_tokens": COUNT}),
}

SCHEMAS: Mapping[str, Schema] = {
    "Error": of({"error": TEXT}),
    "VersionReply": of({"version": TEXT}),
    "StatusReply": of({"cloud": of({"disabled": FLAG, "source": TEXT})}),
    "TagsReply": of({"models": listed(ref("ListedModel"))}),
    "ListedModel": of(
        {
            **_NAMES,
            "modified_at": TIME,
            "size": BYTES,
            "digest": DIGEST,
            "details": of(_DETAILS, {"context_length": COUNT, "embedding_length": COUNT}),
        },
        {"capabilities": listed(TEXT)},
    ),
    "PsReply": of({"models": listed(ref("LoadedModel"))}),
    "LoadedModel": of(
        {
            **_NAMES,
            "size": BYTES | {"description": "Bytes it takes, on all boards that hold it together."},
            "digest": DIGEST,
            "details": of(_DETAILS),
            "expires_at": TIME,
            "size_vram": BYTES | {"description": "Those of them that the accelerator uses."},
            "context_length": COUNT | {"description": "0 while it is not known yet."},
        }
    ),
    "ShowReply": of(
        {"details": of(_DETAILS), "model_info": OBJECT, "modified_at": TIME},
        {
            "license": TEXT,
            "modelfile": TEXT,
            "parameters": TEXT,
            "template": TEXT,
            "system": TEXT,
            "messages": listed(of({"role": TEXT, "content": TEXT})),
            "tensors": listed(of({"name": TEXT, "type": TEXT, "shape": listed(COUNT)})),
            "capabilities": listed(TEXT),
            "requires": TEXT,
        },
    ),
    "Logprob": of(_TOKEN, {"top_logprobs": listed(of(_TOKEN))}),
    "ChatReply": of(
        {**_OPENING, "message": of({"role": TEXT, "content": TEXT}, _SAID)}, {**_FIGURES, **_PROBED}
    ),
    "GenerateReply": of(
        {**_OPENING, "response": TEXT},
        {**_FIGURES, **_SAID, **_PROBED, "context": listed(COUNT)},
    ),
    "EmbedReply": of(
        {"model": TEXT, "embeddings": listed(NUMBERS)},
        {
            "total_duration": NANOSECONDS,
            "load_duration": NANOSECONDS,
            "prompt_eval_count": COUNT,
        },
    ),
    "EmbeddingReply": of({"embedding": NUMBERS}),
    "Progress": of({"status": TEXT}, {"digest": TEXT, "total": COUNT, "completed": COUNT}),
    **_OPENAI,
    **_ANTHROPIC,
    "RecommendationsReply": of({"recommendations": listed(OBJECT)}),
    "DebugReply": OBJECT
    | {"description": "How everything is now; the fields may change with every release."},
}
