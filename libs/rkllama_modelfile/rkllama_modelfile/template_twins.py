"""Jinja chat templates for the conversation formats whose Go templates are recognised.

They lay a conversation out as each family was trained, with the family's own special tokens. Tool
prompts have the wording that the models learned with. Written for transformers' environment, with
`messages`, `tools`, `add_generation_prompt`, `bos_token` and `enable_thinking`.
"""

from __future__ import annotations

PLAIN = "{%- for message in messages -%}{{- message['content'] -}}{%- endfor -%}"
"""No format: the texts one after the other, for models that only go on with a text."""

CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_CALLS = """\
{%- macro calls(message) -%}
{%- for call in message['tool_calls'] or [] -%}
{%- if not loop.first or message['content'] -%}{{- '\\n' -}}{%- endif -%}
{{- '<tool_call>\\n{"name": ' + call['function']['name'] | tojson + ', "arguments": ' -}}
{{- call['function']['arguments'] | tojson + '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endmacro -%}
"""

_QWEN_TOOLS = """\
{%- macro tool_prompt() -%}
{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n' -}}
{{- 'You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + tool | tojson -}}{%- endfor -%}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and ' -}}
{{- 'arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n' -}}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' -}}
{%- endmacro -%}
"""

_SMOLLM2_TOOLS = """\
{%- macro tool_prompt() -%}
{{- 'You are an expert in composing functions. You are given a question and a set of possible ' -}}
{{- 'functions. \\nBased on the question, you will need to make one or more function/tool calls ' -}}
{{- 'to achieve the purpose. \\nIf none of the functions can be used, point it out and refuse ' -}}
{{- 'to answer. \\nIf the given question lacks the parameters required by the function, also ' -}}
{{- 'point it out.\\n\\nYou have access to the following tools:\\n<tools>' -}}
{{- tools | tojson -}}
{{- '</tools>\\n\\nThe output MUST strictly adhere to the following format, and NO other text ' -}}
{{- 'MUST be included.\\nThe example format is as follows. Please make sure the parameter type ' -}}
{{- "is correct. If no function call is needed, please make the tool calls an empty list '[]'." -}}
{{- '\\n<tool_call>[\\n{"name": "func_name1", "arguments": {"argument1": "value1", ' -}}
{{- '"argument2": "value2"}},\\n... (more tool calls as required)\\n]</tool_call>' -}}
{%- endmacro -%}
"""

_CHATML_TOOLS = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages if message['role'] == 'system' -%}
{%- set ns.system = (ns.system + '\\n\\n' if ns.system else '') + message['content'] -%}
{%- endfor -%}
{%- if ns.system or tools -%}
{{- '<|im_start|>system\\n' + ns.system -}}
{%- if tools -%}{{- ('\\n\\n' if ns.system else '') + tool_prompt() -}}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] == 'tool' -%}
{%- if loop.first or loop.previtem['role'] != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
{{- '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' -}}
{%- if loop.last or loop.nextitem['role'] != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' + ANSWER + calls(message) + '<|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
GENERATION
{%- endif -%}
"""

_SAID = "message['content']"
_SAID_AFTER_THINKING = "message['content'].split('</think>')[-1].lstrip('\\n')"
_NO_THINKING = """\
{%- if enable_thinking is defined and not enable_thinking -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}"""


def _chatml(tool_prompt: str, *, answer: str = _SAID, generation: str = "") -> str:
    layout = _CHATML_TOOLS.replace("ANSWER", answer).replace("GENERATION\n", generation)
    return _CALLS + tool_prompt + layout


CHATML_THINKING = f"""\
{{%- for message in messages -%}}
{{%- set said = {_SAID_AFTER_THINKING} if message['role'] == 'assistant' else {_SAID} -%}}
{{{{- '<|im_start|>' + message['role'] + '\\n' + said + '<|im_end|>\\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- '<|im_start|>assistant\\n' -}}}}
{_NO_THINKING}
{{%- endif -%}}
"""
QWEN2_5 = _chatml(_QWEN_TOOLS)
QWEN3 = _chatml(_QWEN_TOOLS, answer=_SAID_AFTER_THINKING, generation=_NO_THINKING + "\n")
SMOLLM2 = _chatml(_SMOLLM2_TOOLS)

PHI4 = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}
"""

LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
{{- message['content'] + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

_LLAMA3_TOOLS = """\
{{- bos_token -}}
{%- set ns = namespace(system='', last_user=-1) -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ns.system = (ns.system + '\\n\\n' if ns.system else '') + message['content'] -%}
{%- elif message['role'] == 'user' -%}
{%- set ns.last_user = loop.index0 -%}
{%- endif -%}
{%- endfor -%}
{%- if DATED or ns.system or tools -%}
{{- '<|start_header_id|>system<|end_header_id|>' -}}
{%- if DATED or tools -%}{{- '\\n\\nCutting Knowledge Date: December 2023' -}}{%- endif -%}
{%- if ns.system -%}{{- '\\n\\n' + ns.system -}}{%- endif -%}
{%- if tools -%}
{{- '\\n\\nWhen you receive a tool call response, use the output to format an answer to the ' -}}
{{- 'orginal user question.\\n\\nYou are a helpful assistant with tool calling capabilities.' -}}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
{%- if tools and loop.index0 == ns.last_user -%}
{{- 'Given the following functions, please respond with a JSON for a function call with its ' -}}
{{- 'proper arguments that best answers the given prompt.\\n\\nRespond in the format ' -}}
{{- '{"name": function name, "parameters": dictionary of argument name and its value}. ' -}}
{{- 'Do not use variables.\\n\\n' -}}
{%- for tool in tools -%}{{- tool | tojson + '\\n' -}}{%- endfor -%}
{{- '\\n' -}}
{%- endif -%}
{{- message['content'] + '<|eot_id|>' -}}
{%- elif message['role'] == 'tool' -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' -}}
{%- elif message['role'] != 'system' -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] -}}
{%- for call in message['tool_calls'] or [] -%}
{{- '{"name": ' + call['function']['name'] | tojson + ', "parameters": ' -}}
{{- call['function']['arguments'] | tojson + '}' -}}
{%- endfor -%}
{{- '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

LLAMA3_1 = _LLAMA3_TOOLS.replace("DATED", "false")
LLAMA3_2 = _LLAMA3_TOOLS.replace("DATED", "true")
"""Begins each conversation with its date, with or without tools."""

_FIRST_SYSTEM = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages if message['role'] == 'system' -%}
{%- set ns.system = (ns.system + '\\n\\n' if ns.system else '') + message['content'] -%}
{%- endfor -%}
"""
"""For formats without a turn for it: it stands at the head of the first turn of the user."""

LLAMA2 = (
    _FIRST_SYSTEM
    + """\
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] == 'user' -%}
{{- (bos_token or '<s>') + '[INST] ' -}}
{%- if ns.system -%}{{- '<<SYS>>\\n' + ns.system + '\\n<</SYS>>\\n\\n' -}}{%- endif -%}
{%- set ns.system = '' -%}
{{- message['content'] + ' [/INST]' -}}
{%- else -%}
{{- ' ' + message['content'] + ' ' + (eos_token or '</s>') -}}
{%- endif -%}
{%- endfor -%}
"""
)

_MISTRAL = (
    "{{- bos_token or '<s>' -}}\n"
    + _FIRST_SYSTEM
    + """\
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] == 'user' -%}
{{- '[INST] ' + (ns.system + '\\n\\n' if ns.system else '') + message['content'] + 'END' -}}
{%- set ns.system = '' -%}
{%- else -%}
{{- ' ' + message['content'] + (eos_token or '</s>') -}}
{%- endif -%}
{%- endfor -%}
"""
)
MISTRAL = _MISTRAL.replace("END", "[/INST]")
MISTRAL_SPACED = _MISTRAL.replace("END", " [/INST]")
"""The first release put a blank before the mark."""

MISTRAL_TOOLS = (
    "{{- bos_token or '<s>' -}}\n"
    + _FIRST_SYSTEM
    + """\
{%- set told = messages | rejectattr('role', 'equalto', 'system') | list -%}
{%- set users = told | selectattr('role', 'equalto', 'user') | list -%}
{%- set ns.left = users | length -%}
{%- for message in told -%}
{%- if message['role'] == 'user' -%}
{%- set ns.left = ns.left - 1 -%}
{%- if not ns.left -%}
{%- if tools -%}{{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' -}}{%- endif -%}
{{- '[INST] ' + (ns.system + '\\n\\n' if ns.system else '') + message['content'] + '[/INST]' -}}
{%- else -%}
{{- '[INST] ' + message['content'] + '[/INST]' -}}
{%- endif -%}
{%- elif message['role'] == 'tool' -%}
{{- '[TOOL_RESULTS] {"content": ' + message['content'] | tojson + '}[/TOOL_RESULTS]' -}}
{%- elif message['tool_calls'] -%}
{{- '[TOOL_CALLS] [' -}}
{%- for call in message['tool_calls'] -%}
{{- '{"name": ' + call['function']['name'] | tojson + ', "arguments": ' -}}
{{- call['function']['arguments'] | tojson + ('}' if loop.last else '}, ') -}}
{%- endfor -%}
{{- ']' + (eos_token or '</s>') -}}
{%- else -%}
{{- ' ' + message['content'] + (eos_token or '</s>') -}}
{%- endif -%}
{%- endfor -%}
"""
)

GEMMA = (
    "{{- bos_token -}}\n"
    + _FIRST_SYSTEM
    + """\
{%- for message in messages if message['role'] != 'system' -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{- '<start_of_turn>' + role + '\\n' -}}
{%- if ns.system and role == 'user' -%}
{{- ns.system + '\\n\\n' -}}{%- set ns.system = '' -%}
{%- endif -%}
{{- message['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""
)

PHI3 = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""

ZEPHYR = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + (eos_token or '</s>') + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""

_DEEPSEEK = (
    "{{- bos_token or '<\uff5cbegin\u2581of\u2581sentence\uff5c>' -}}\n"
    + _FIRST_SYSTEM
    + """\
{{- ns.system -}}
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] == 'user' -%}
{{- '<\uff5cUser\uff5c>' + message['content'] -}}
{%- else -%}
{{- '<\uff5cAssistant\uff5c>' + ANSWER + '<\uff5cend\u2581of\u2581sentence\uff5c>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<\uff5cAssistant\uff5c>' -}}
GENERATION
{%- endif -%}
"""
)
DEEPSEEK = _DEEPSEEK.replace("ANSWER", _SAID).replace("GENERATION\n", "")
DEEPSEEK_R1 = _DEEPSEEK.replace("ANSWER", _SAID_AFTER_THINKING).replace(
    "GENERATION",
    _NO_THINKING.removesuffix("{%- endif -%}") + "{%- else -%}{{- '<think>\\n' -}}{%- endif -%}",
)

ALPACA = (
    _FIRST_SYSTEM
    + """\
{%- if ns.system -%}{{- ns.system + '\\n\\n' -}}{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- set title = 'Response' if message['role'] == 'assistant' else 'Instruction' -%}
{{- '### ' + title + ':\\n' + message['content'] + '\\n\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}
"""
)

VICUNA = (
    _FIRST_SYSTEM
    + """\
{%- if ns.system -%}{{- ns.system + '\\n\\n' -}}{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- if message['role'] == 'assistant' -%}
{{- 'ASSISTANT: ' + message['content'] + (eos_token or '</s>') + '\\n' -}}
{%- else -%}
{{- 'USER: ' + message['content'] + '\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
)
