"""The named chat templates: Jinja text in the form that transformers renders and that a saved tokenizer carries.

A template is named in a config (`template: qwen`) when the tokenizer has none, or another one than its own is wanted.
The names and what they render follow LLaMA-Factory where it has the name, so that its users' files keep their meaning;
where a model's own publication differs (vicuna, zephyr, alpaca with its preamble) the publication wins.

What holds for every one of them:

- The generation prompt is a prefix of the rendered chat, and ends without a trailing space, so that the first token
  of an answer is the same in training and in generation.
- The last assistant turn ends in an end-of-turn token or, where the format has none, in the tokenizer's EOS.
- A system turn, tool results and a list of tools are rendered one way or another, never refused or left out.
- Tool calls are rendered in the markup of the family (qwen, chatml, llama3, mistral). The others have none, and none of
  them has a place for reasoning: such rows are refused when they are rendered (`text.rendering`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from palate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """One row of the table.

    Attributes:
        name: what a config says.
        about: one line for the docs.
        jinja: the chat template; it reads `messages`, `tools`, `add_generation_prompt`, `bos_token` and `eos_token`.
        tokens: special tokens that a tokenizer must have for the markup to be more than plain text.
        default_system: the system text that is inserted when a conversation has none.
    """

    name: str
    about: str
    jinja: str
    tokens: tuple[str, ...] = ()
    default_system: str = ""


_QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_QWEN2_SYSTEM = "You are a helpful assistant."
_ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

# Splits the system text off the turns; formats without a tool section of their own get the tools at its end. A
# tokenizer may have no BOS: then it is nothing.
_SYSTEM = r"""
{%- set bos = bos_token | default('', true) -%}{%- set eos = eos_token | default('', true) -%}
{%- if messages and messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}
{%- else -%}
    {%- set system = DEFAULT -%}{%- set turns = messages -%}
{%- endif -%}
"""
_TOOLS = r"""
{%- if tools -%}
    {%- set listed = 'Functions that may be called, as JSON:\n' + (tools | tojson) -%}
    {%- set system = system + '\n\n' + listed if system else listed -%}
{%- endif -%}
"""


def _with_system(body: str, default: str = "") -> str:
    """The prologue that sets `system` and `turns`, then `body`."""
    quoted = default.replace("'", "\\'")
    return (_SYSTEM.replace("DEFAULT", f"'{quoted}'") + _TOOLS + body).strip()


# The arguments of a call, as JSON. A text is what a model wrote and is no JSON.
_ARGUMENTS = "(call['arguments'] if call['arguments'] is string else call['arguments'] | tojson)"

# A turn that calls tools as Hermes and Qwen write it. The text is optional.
_CHATML_CALLS = (
    (
        r"""
    {%- if message['tool_calls'] -%}
        {{- '<|im_start|>assistant' + ('\n' + message['content'] if message['content'] else '') -}}
        {%- for tool_call in message['tool_calls'] -%}
            {%- set call = tool_call['function'] -%}
            {{- '\n<tool_call>\n{"name": ' + (call['name'] | tojson) + ', "arguments": ' + ARGUMENTS -}}
            {{- '}\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\n' -}}
"""
    )
    .strip()
    .replace("ARGUMENTS", _ARGUMENTS)
)

_CHATML = _with_system(
    r"""
{%- if system -%}{{- '<|im_start|>system\n' + system + '<|im_end|>\n' -}}{%- endif -%}
{%- for message in turns -%}
    CALLS
    {%- else -%}
        {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
""".replace("CALLS", _CHATML_CALLS)
)

# The tool section is the text that Qwen 2.5 was trained on, hence to the letter.
_QWEN_BODY = (
    r"""
{{- '<|im_start|>system\n' + system -}}
{%- if tools -%}
    {{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' -}}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' -}}
    {%- for tool in tools -%}{{- '\n' + (tool | tojson) -}}{%- endfor -%}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' -}}
    {{- '<tool_call></tool_call> XML tags:\n<tool_call>\n' -}}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in turns -%}
    CALLS
    {%- elif message['role'] == 'tool' -%}
        {%- if loop.first or loop.previtem['role'] != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
        {{- '\n<tool_response>\n' + message['content'] + '\n</tool_response>' -}}
        {%- if loop.last or loop.nextitem['role'] != 'tool' -%}{{- '<|im_end|>\n' -}}{%- endif -%}
    {%- else -%}
        {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
).replace("CALLS", _CHATML_CALLS)
_QWEN = (_SYSTEM.replace("DEFAULT", f"'{_QWEN_SYSTEM}'") + _QWEN_BODY).strip()
_QWEN2 = (_SYSTEM.replace("DEFAULT", f"'{_QWEN2_SYSTEM}'") + _QWEN_BODY).strip()

_LLAMA3 = _with_system(
    r"""
{{- bos -}}
{%- if system -%}
    {{- '<|start_header_id|>system<|end_header_id|>\n\n' + system | trim + '<|eot_id|>' -}}
{%- endif -%}
{%- for message in turns -%}
    {%- set role = 'ipython' if message['role'] == 'tool' else message['role'] -%}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' -}}
    {%- if message['tool_calls'] -%}
        {%- if message['tool_calls'] | length > 1 -%}
            {{- raise_exception('Llama 3 has one tool call in a turn, this turn has several') -}}
        {%- endif -%}
        {%- set call = message['tool_calls'][0]['function'] -%}
        {{- '{"name": ' + (call['name'] | tojson) + ', "parameters": ' + ARGUMENTS + '}<|eot_id|>' -}}
    {%- else -%}
        {{- message['content'] | trim + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
""".replace("ARGUMENTS", _ARGUMENTS)
)

_LLAMA2 = _with_system(r"""
{%- if not turns and system -%}{{- bos + '[INST] <<SYS>>\n' + system + '\n<</SYS>>\n\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- set intro = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system else '' -%}
    {%- if message['role'] == 'assistant' -%}
        {{- intro + ' ' + message['content'] | trim + ' ' + eos -}}
    {%- else -%}
        {{- bos + '[INST] ' + intro + message['content'] | trim + ' [/INST]' -}}
    {%- endif -%}
{%- endfor -%}
""")

_MISTRAL = _with_system(
    r"""
{{- bos -}}
{%- if not turns and system -%}{{- '[INST] ' + system -}}{%- endif -%}
{%- for message in turns -%}
    {%- set intro = system + '\n\n' if loop.first and system else '' -%}
    {%- if message['tool_calls'] -%}
        {{- intro + '[TOOL_CALLS] [' -}}
        {%- for tool_call in message['tool_calls'] -%}
            {%- set call = tool_call['function'] -%}
            {{- '{"name": ' + (call['name'] | tojson) + ', "arguments": ' + ARGUMENTS -}}
            {%- if tool_call['id'] -%}{{- ', "id": ' + (tool_call['id'] | tojson) -}}{%- endif -%}
            {{- '}' + (']' if loop.last else ', ') -}}
        {%- endfor -%}
        {{- eos -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- intro + ' ' + message['content'] | trim + eos -}}
    {%- elif message['role'] == 'tool' -%}
        {%- set call = ', "call_id": ' + (message['tool_call_id'] | tojson) if message['tool_call_id'] else '' -%}
        {{- intro + '[TOOL_RESULTS] {"content": ' + message['content'] + call + '}[/TOOL_RESULTS]' -}}
    {%- else -%}
        {{- '[INST] ' + intro + message['content'] + '[/INST]' -}}
    {%- endif -%}
{%- endfor -%}
""".replace("ARGUMENTS", _ARGUMENTS)
)

_GEMMA = _with_system(r"""
{{- bos -}}
{%- if not turns and system -%}{{- '<start_of_turn>user\n' + system | trim + '\n\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- set intro = system | trim + '\n\n' if loop.first and system else '' -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<start_of_turn>' + role + '\n' + intro + message['content'] | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}
""")

_ZEPHYR = _with_system(r"""
{%- if system -%}{{- '<|system|>\n' + system + eos + '\n' -}}{%- endif -%}
{%- for message in turns -%}
    {{- '<|' + message['role'] + '|>\n' + message['content'] + eos + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}
""")

_PHI2 = _with_system(r"""
{%- if system -%}{{- system + '\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message['role'] == 'assistant' -%}
        {{- 'Output: ' + message['content'] + (eos if loop.last else '\n') -}}
    {%- else -%}
        {{- ('Result: ' if message['role'] == 'tool' else 'Instruct: ') + message['content'] + '\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Output:' -}}{%- endif -%}
""")

_ALPACA = _with_system(
    r"""
{%- if system -%}{{- system + '\n\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message['role'] == 'assistant' -%}
        {{- '### Response:\n' + message['content'] + eos + '\n\n' -}}
    {%- else -%}
        {{- ('### Result:\n' if message['role'] == 'tool' else '### Instruction:\n') + message['content'] + '\n\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\n' -}}{%- endif -%}
""",
    _ALPACA_SYSTEM,
)

_VICUNA = _with_system(
    r"""
{%- if system -%}{{- system + ' ' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message['role'] == 'assistant' -%}
        {{- 'ASSISTANT: ' + message['content'] + eos -}}
    {%- else -%}
        {{- ('TOOL: ' if message['role'] == 'tool' else 'USER: ') + message['content'] + ' ' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
""",
    _VICUNA_SYSTEM,
)

_HH = _with_system(r"""
{{- system -}}
{%- for message in turns -%}
    {%- set role = 'Assistant' if message['role'] == 'assistant' else 'Human' -%}
    {%- set role = 'Tool' if message['role'] == 'tool' else role -%}
    {{- '\n\n' + role + ': ' + message['content'] -}}
    {%- if loop.last and role == 'Assistant' -%}{{- eos -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\n\nAssistant:' -}}{%- endif -%}
""")

_DEFAULT = _with_system(r"""
{%- if system -%}{{- 'System: ' + system + eos + '\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message['role'] == 'assistant' -%}
        {{- 'Assistant:' + message['content'] + eos + '\n' -}}
    {%- else -%}
        {{- ('Tool: ' if message['role'] == 'tool' else 'Human: ') + message['content'] + eos + '\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
""")

_PLAIN = _with_system(r"""
{{- system -}}
{%- for message in turns -%}
    {{- message['content'] -}}
    {%- if loop.last and message['role'] == 'assistant' -%}{{- eos -}}{%- endif -%}
{%- endfor -%}
""")

_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
_LLAMA3_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

TEMPLATES: Mapping[str, NamedTemplate] = {
    template.name: template
    for template in (
        NamedTemplate("qwen", "Qwen 2.5, with its default system text", _QWEN, _CHATML_TOKENS, _QWEN_SYSTEM),
        NamedTemplate("qwen2", "Qwen 1.5 and 2, with their default system text", _QWEN2, _CHATML_TOKENS, _QWEN2_SYSTEM),
        NamedTemplate("chatml", "ChatML without a default system text", _CHATML, _CHATML_TOKENS),
        NamedTemplate("llama3", "Llama 3, 3.1, 3.2 and 3.3", _LLAMA3, _LLAMA3_TOKENS),
        NamedTemplate("llama2", "Llama 2 chat", _LLAMA2),
        NamedTemplate("mistral", "Mistral Instruct (v3); the system text opens the first user turn", _MISTRAL),
        NamedTemplate(
            "gemma",
            "Gemma 1 to 3; the system text opens the first user turn",
            _GEMMA,
            ("<start_of_turn>", "<end_of_turn>"),
        ),
        NamedTemplate("zephyr", "Zephyr; turns end in EOS", _ZEPHYR),
        NamedTemplate("phi2", "Instruct and Output lines, as Phi-2", _PHI2),
        NamedTemplate("alpaca", "Instruction and Response headings", _ALPACA, (), _ALPACA_SYSTEM),
        NamedTemplate("vicuna", "USER and ASSISTANT on one line", _VICUNA, (), _VICUNA_SYSTEM),
        NamedTemplate("hh", "Human and Assistant paragraphs, as the HH-RLHF transcripts", _HH),
        NamedTemplate("default", "Human and Assistant lines that end in EOS, as LLaMA-Factory's default", _DEFAULT),
        NamedTemplate("plain", "no markup at all: the texts one after the other, then EOS", _PLAIN),
    )
}

# Other names of the same renderings, LLaMA-Factory's among them.
ALIASES: Mapping[str, str] = {
    "qwen1.5": "qwen2",
    "qwen1_5": "qwen2",
    "qwen2.5": "qwen",
    "qwen2_5": "qwen",
    "yi": "chatml",
    "smollm": "chatml",
    "hermes": "chatml",
    "im": "chatml",
    "llama3.1": "llama3",
    "llama3.2": "llama3",
    "llama3.3": "llama3",
    "llama-3": "llama3",
    "llama-2": "llama2",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "gemma3n": "gemma",
    "phi-2": "phi2",
    "hh-rlhf": "hh",
    "hh_rlhf": "hh",
    "anthropic": "hh",
    "empty": "plain",
    "raw": "plain",
}

# Names that LLaMA-Factory has for families whose tokenizers bring the right template themselves.
_FAMILIES = """
    auto tokenizer qwen3 qwen3_nothink smollm2 smollm3 phi phi_small phi3 phi4 llama4 deepseek deepseek3 deepseekr1
    deepseekcoder cohere exaone falcon falcon_h1 glm4 glm4_moe gpt_oss granite3 granite4 intern2 ministral
    mistral_small mimo olmo openchat opencoder minicpm_v qwen2_vl qwen3_vl qwen3_vl_nothink starchat seed_oss hunyuan
    ernie ernie_nothink bailing_v2 kimi
"""
TOKENIZERS_OWN = frozenset(_FAMILIES.split())


def find_template(name: str) -> NamedTemplate | None:
    """The named template, or None where the name stands for the tokenizer's own.

    Raises:
        ConfigError: nothing has that name; the message offers the nearest one and lists all.
    """
    key = name.strip().lower()
    if key in TOKENIZERS_OWN:
        return None
    key = ALIASES.get(key, key)
    if key in TEMPLATES:
        return TEMPLATES[key]
    close = difflib.get_close_matches(key, [*TEMPLATES, *ALIASES, *TOKENIZERS_OWN], n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise ConfigError(
        f"template: {name} is not known{hint} Known are {', '.join(TEMPLATES)}; "
        "leave the key out to use the tokenizer's own"
    )
