"""What the fields of requests mean, by the Go name of the request; `*` is for all others."""

from __future__ import annotations

from collections.abc import Mapping

_ANTHROPIC: Mapping[str, str] = {
    "messages": "The conversation.",
    "system": "System prompt, in place of the model's: a text, or blocks of text.",
    "tools": "Tools that the model may ask to be called.",
    "tool_choice": "Whether a tool may be called, or has to be, and which.",
    "thinking": "Whether to think; left out where the model cannot.",
    "output_config": "How hard to think, and what the answer has to be.",
}

FIELDS: Mapping[str, Mapping[str, str]] = {
    "*": {
        "model": "Name of the model: `[host/][namespace/]model[:tag]`; the tag is `latest` if none is given.",
        "name": "Older spelling of `model`; counts where that is empty.",
        "stream": "Whether the answer comes as one JSON object a line; true if nothing is said.",
        "options": "Options of the run; they come before the model's parameters.",
        "keep_alive": (
            "How long the model stays loaded after this request: seconds, or text such as `10m`; "
            "negative is for ever, 0 unloads it at once. 5 minutes if nothing is said."
        ),
        "think": (
            "Whether a thinking model thinks, and how hard; refused for a model that cannot. "
            "Unset is on, where the model can."
        ),
        "format": "`json`, or a JSON schema that the answer has to follow.",
        "truncate": "Whether a prompt that is too long is cut; true if nothing is said.",
        "shift": "Whether the context may be shifted when it is full.",
        "_debug_render_only": "Answer with the rendered prompt instead of running the model.",
        "logprobs": "Whether to return the log probability of each token.",
        "top_logprobs": "How many of the likeliest tokens to return at each place: 0 to 20.",
        "system": "System prompt, in place of the model's.",
        "template": "Template of the prompt, in place of the model's.",
        "insecure": "Taken, and without meaning.",
        "username": "Taken, and without meaning.",
        "password": "Taken, and without meaning.",
        "images": "Images, base64.",
    },
    "ChatRequest": {
        "messages": "The conversation. Without any the model is only loaded, or unloaded.",
        "tools": "Functions that the model may ask to be called.",
    },
    "GenerateRequest": {
        "prompt": "What to answer. Without it the model is only loaded, or unloaded.",
        "suffix": "Text after the answer, for models that fill in the middle.",
        "context": "The `context` of an earlier answer, to go on from.",
        "raw": "Take the prompt as it is, without a template.",
    },
    "EmbedRequest": {
        "input": "A text, or a list of texts.",
        "dimensions": "Length to cut the vectors to.",
    },
    "EmbeddingRequest": {"prompt": "The text."},
    "ShowRequest": {
        "system": "Shown in place of the model's.",
        "template": "Taken, and without meaning.",
        "verbose": "Whether long values are told.",
        "options": "Laid over the model's parameters in the Modelfile that is shown.",
    },
    "VerifyRequest": {"model": "Name of the model; without it every model is verified."},
    "DrainRequest": {"worker": "Id of the worker, as `/metrics` and logs have it."},
    "CopyRequest": {"source": "The model.", "destination": "The name it gets besides."},
    "CreateRequest": {
        "model": "Name of the new model.",
        "from": "Model to make it from.",
        "files": "Files to make it from: name to digest of an uploaded blob.",
        "adapters": "A LoRA adapter: file name to digest of an uploaded blob.",
        "template": "Chat template: Jinja, or the Go template of a family that is known.",
        "license": "A licence, or a list of them.",
        "system": "System prompt.",
        "parameters": "Parameters, merged with those of `from`.",
        "messages": "Messages that every conversation begins with.",
        "quantize": "Quantisation the weights shall have; refused unless they have it.",
        "quantization": "Older spelling of `quantize`.",
        "draft_quantize": "Refused: there are no draft models here.",
        "draft_files": "Refused: there are no draft models here.",
        "remote_host": "Refused: there are no remote models here.",
        "renderer": "Refused: the chat template renders.",
        "parser": "Refused: the parser follows from the chat template.",
        "requires": "The level of Ollama's API that the model needs, such as `0.12.0`.",
        "info": "Taken, and without meaning.",
        "tokenizer_repo": (
            "rkllama's own: the hub repository of the tokenizer, if it is not among the files."
        ),
    },
    "Message": {
        "role": "`system`, `user`, `assistant` or `tool`.",
        "content": "The text.",
        "thinking": "What the model thought.",
        "tool_calls": "Calls that the model asked for.",
        "tool_name": "Of a `tool` message: the function that this is the result of.",
        "tool_call_id": "Of a `tool` message: the call that this is the result of.",
    },
    "ToolCall": {"id": "Names the call.", "function": "What is called."},
    "ToolCallFunction": {
        "index": "Place among the calls of an answer, from 0.",
        "name": "Of the function.",
        "arguments": "Argument to value.",
    },
    "Tool": {"type": "`function`.", "function": "The function."},
    "ToolFunction": {
        "name": "Of the function.",
        "description": "What it does, for the model to read.",
        "parameters": "JSON schema of its arguments.",
    },
    "ToolFunctionParameters": {
        "type": "`object`.",
        "required": "Arguments that have to be given.",
        "properties": "Argument to JSON schema.",
    },
    "openai.ChatCompletionRequest": {
        "messages": "The conversation; it must not be empty.",
        "stream": "Whether the answer comes in server-sent events; false if nothing is said.",
        "stream_options": "What a stream tells besides.",
        "max_tokens": "Most tokens to make.",
        "seed": "Of the sampling.",
        "stop": "A text, or a list of texts, before which the answer ends.",
        "temperature": "Of the sampling; 1.0 if nothing is said.",
        "top_p": "Of the sampling; 1.0 if nothing is said.",
        "frequency_penalty": "Of the sampling.",
        "presence_penalty": "Of the sampling.",
        "n": "Number of choices: 1, any other is refused.",
        "max_completion_tokens": "The same as `max_tokens`, and comes before it.",
        "response_format": "What the answer has to be.",
        "tools": "Functions that the model may ask to be called.",
        "tool_choice": (
            "`none`, `auto`, `required`, or the function that has to be called; or the tools that are "
            "allowed."
        ),
        "parallel_tool_calls": "False: only the first call of an answer is told.",
        "reasoning": "How hard to think.",
        "reasoning_effort": "The same, and comes before it.",
    },
    "openai.CompletionRequest": {
        "prompt": "What to answer. Without it the model is only loaded.",
        "suffix": "Text after the answer, for models that fill in the middle.",
        "stream": "Whether the answer comes in server-sent events; false if nothing is said.",
        "stream_options": "What a stream tells besides.",
        "max_tokens": "Most tokens to make.",
        "seed": "Of the sampling.",
        "stop": "A text, or a list of texts, before which the answer ends.",
        "temperature": "Of the sampling; 1.0 if nothing is said.",
        "top_p": "Of the sampling; 1.0 if nothing is said.",
        "frequency_penalty": "Of the sampling.",
        "presence_penalty": "Of the sampling.",
        "n": "Number of choices: 1, any other is refused.",
        "logprobs": "How many likely tokens to tell at each place: 0 to 20.",
    },
    "openai.EmbedRequest": {
        "input": "A text, or a list of texts.",
        "dimensions": "Length to cut the vectors to.",
        "encoding_format": "`float`, or `base64` of little-endian 32-bit floats.",
    },
    "openai.ResponsesRequest": {
        "input": "A text, or a list of items.",
        "instructions": "System prompt.",
        "max_output_tokens": "Most tokens to make.",
        "temperature": "Of the sampling; 1.0 if nothing is said.",
        "top_p": "Of the sampling; the model's own if nothing is said.",
        "tools": "Functions, also in namespaces; `web_search` is taken and never used.",
        "tool_choice": (
            "`none`, `auto`, `required`, or the function that has to be called; or the tools that are "
            "allowed."
        ),
        "parallel_tool_calls": "False: only the first call of an answer is told.",
        "text": "What the text has to be.",
        "reasoning": "How hard to think.",
        "include": "`message.output_text.logprobs` is honoured.",
        "metadata": "Only repeated in the answer.",
        "truncation": "Only repeated in the answer.",
        "stream": "Whether the answer comes in server-sent events; false if nothing is said.",
    },
    "openai.StreamOptions": {"include_usage": "Whether the last chunk tells the usage."},
    "openai.Message": {
        "role": "`system`, `developer`, `user`, `assistant` or `tool`.",
        "content": "The text, or a list of parts: `text`, and `image_url` with a data URI.",
        "reasoning": "What the model thought.",
        "tool_calls": "Calls that the model asked for.",
        "name": "Of a `tool` message: the function that this is the result of.",
        "tool_call_id": "Of a `tool` message: the call that this is the result of.",
    },
    "openai.ToolCall": {
        "id": "Names the call.",
        "index": "Place among the calls of an answer, from 0.",
        "type": "`function`.",
        "function": "What is called.",
    },
    "openai.ToolCallFunction": {"name": "Of the function.", "arguments": "JSON, as text."},
    "openai.Tool": {"type": "`function`.", "function": "The function."},
    "openai.ToolFunction": {
        "name": "Of the function.",
        "description": "What it does, for the model to read.",
        "parameters": "JSON schema of its arguments.",
    },
    "openai.ResponseFormat": {
        "type": "`text`, `json_object` or `json_schema`.",
        "json_schema": "The schema, for that type.",
    },
    "openai.JsonSchema": {"schema": "JSON schema that the answer has to follow."},
    "openai.Reasoning": {
        "effort": "`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `ultra` or `max`.",
    },
    "openai.ResponsesReasoning": {
        "effort": "`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `ultra` or `max`.",
        "summary": "Only repeated in the answer.",
    },
    "openai.ResponsesText": {"format": "`text`, `json_object`, or a JSON schema."},
    "openai.ResponsesTextFormat": {
        "type": "`text`, `json_object` or `json_schema`.",
        "name": "Only repeated in the answer.",
        "schema": "JSON schema that the text has to follow.",
        "strict": "Only repeated in the answer.",
    },
    "anthropic.MessagesRequest": {
        "max_tokens": "Most tokens to make; at least 1.",
        "stream": "Whether the answer comes as server-sent events; false if nothing is said.",
        "temperature": "As the model has it if nothing is said.",
        "top_p": "As the model has it if nothing is said.",
        "top_k": "As the model has it if nothing is said.",
        "stop_sequences": "Texts that end the answer, in place of the model's.",
        "metadata": "Taken, and without meaning.",
        **_ANTHROPIC,
    },
    "anthropic.CountTokensRequest": _ANTHROPIC,
    "anthropic.MessageParam": {
        "role": "`user`, `assistant` or `system`.",
        "content": "A text, or blocks.",
    },
    "anthropic.SystemBlock": {"type": "`text`.", "text": "The text."},
    "anthropic.ContentBlock": {
        "type": (
            "`text`, `image`, `document`, `tool_use`, `tool_result`, `thinking`, "
            "`redacted_thinking`, `server_tool_use` or `web_search_tool_result`."
        ),
        "text": "Of a `text`.",
        "source": "Of an `image`, base64, or of a `document`, plain text.",
        "title": "Of a `document`.",
        "id": "Of a `tool_use`: names the call.",
        "name": "Of a `tool_use`: the tool that is called.",
        "input": "Of a `tool_use`: argument to value.",
        "tool_use_id": "Of a `tool_result`: the call that this is the result of.",
        "content": "Of a `tool_result`: a text, or blocks of text, images and documents.",
        "is_error": "Taken, and without meaning: the content says what went wrong.",
        "thinking": "Of a `thinking`: what the model thought.",
        "signature": "Taken, and without meaning.",
    },
    "anthropic.ImageSource": {
        "type": "`base64` for images, `text` for documents.",
        "media_type": "Taken, and without meaning.",
        "data": "Base64, or the text.",
        "url": "Refused: nothing is fetched.",
    },
    "anthropic.Tool": {
        "type": "`custom`, which is meant without it; Anthropic's own tools are refused.",
        "name": "Of the tool.",
        "description": "What it does, for the model to read.",
        "input_schema": "JSON schema of its arguments.",
    },
    "anthropic.ToolChoice": {
        "type": "`auto`, `any`, `tool` or `none`.",
        "name": "Of the tool that has to be called, with `tool`.",
        "disable_parallel_tool_use": "Whether only the first call of an answer counts.",
    },
    "anthropic.ThinkingConfig": {
        "type": "`enabled` or `disabled`; any other leaves it to `output_config` and the model.",
        "budget_tokens": "Taken, and without meaning.",
    },
    "anthropic.OutputConfig": {
        "effort": "How hard to think: `low`, `medium`, `high`, `xhigh` or `max`.",
        "format": "What the answer's text has to follow.",
    },
    "anthropic.OutputFormat": {"type": "`json_schema`.", "schema": "The schema."},
    "anthropic.Metadata": {"user_id": "Taken, and without meaning."},
}

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ChatRequest": ("model",),
    "GenerateRequest": ("model",),
    "EmbedRequest": ("model",),
    "EmbeddingRequest": ("model",),
    "CopyRequest": ("source", "destination"),
    "openai.ChatCompletionRequest": ("model", "messages"),
    "openai.CompletionRequest": ("model",),
    "openai.EmbedRequest": ("model", "input"),
    "openai.ResponsesRequest": ("model", "input"),
    "anthropic.MessagesRequest": ("model", "max_tokens", "messages"),
    "anthropic.CountTokensRequest": ("model", "messages"),
}
"""Fields without which a request is always refused."""


def text(struct: str, name: str) -> str:
    """What a field of a request means; empty if nobody has said it."""
    return FIELDS.get(struct, {}).get(name) or FIELDS["*"].get(name, "")
