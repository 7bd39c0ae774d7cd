"""Chat templates of real families, whole or cut to what they do with tool calls, reasoning and system turns."""

# ruff: noqa: E501  (templates as their families write them)

from __future__ import annotations

QWEN3 = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
""".strip("\n")
"""Qwen 3: tool calls in XML tags, reasoning in a thinking block of answers behind the last question."""

XML_CALLS = r"""
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}<|assistant|>
{{ '<think>' + m.reasoning_content + '</think>' if m.reasoning_content else '<think></think>' }}
{%- if m.content %}{{ '\n' + m.content }}{% endif -%}
{%- for tc in m.tool_calls or [] -%}
{{ '\n<tool_call>' + tc.function.name }}
{%- for k, v in tc.function.arguments.items() -%}
{{ '\n<arg_key>' + k + '</arg_key>\n<arg_value>' }}{{ v if v is string else v | tojson }}</arg_value>
{%- endfor -%}
{{ '\n</tool_call>' }}
{%- endfor -%}
{%- elif m.role == 'tool' -%}<|observation|>
{{ m.content }}
{%- else -%}{{ '<|' + m.role + '|>\n' + (m.content | string) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- endif -%}
""".strip()
"""GLM 4.5: arguments as XML elements; a turn is ended by the header of the next one."""

TEXT_ARGUMENTS = r"""
{%- for message in messages -%}
{%- if message['role'] == 'assistant' and message['tool_calls'] -%}
{{- '<|Assistant|>' -}}
{%- for tool in message['tool_calls'] -%}
{{- '<|call|>' + tool['function']['name'] + '\n' + tool['function']['arguments'] + '<|/call|>' -}}
{%- endfor -%}
{{- '<|eos|>' -}}
{%- endif -%}
{%- if message['role'] == 'assistant' and message['content'] -%}
{{- '<|Assistant|>' + message['content'] + '<|eos|>' -}}
{%- elif message['role'] in ('user', 'system', 'tool') -%}
{{- '<|' + message['role'] + '|>' + message['content'] -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|Assistant|>' -}}{%- endif -%}
""".strip()
"""DeepSeek R1: arguments are joined as text, which an object is not."""

ONE_CALL = r"""
{%- for message in messages -%}
{{- '<|' + message.role + '|>' -}}
{%- if message.tool_calls -%}
{{- message.tool_calls[0].function.name + message.tool_calls[0].function.arguments | tojson -}}
{%- else -%}{{- message.content -}}{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".strip()
"""Writes the first call only, and nothing of the text beside it (as Llama 3.1, which at least refuses a second call)."""

NO_SYSTEM = r"""
{%- if messages[0]['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}
{%- for message in messages -%}
{{- '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>assistant\n' -}}{%- endif -%}
""".strip()
"""Gemma 2: refuses a system turn."""

NINE_LETTER_IDS = r"""
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- '[INST]' + message.content + '[/INST]' -}}
{%- elif message.tool_calls is defined -%}
{{- '[TOOL_CALLS] [' -}}
{%- for call in message.tool_calls -%}
{%- if not call.id is defined or call.id | length != 9 -%}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') -}}
{%- endif -%}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']</s>' if loop.last else ', ') -}}
{%- endfor -%}
{%- elif message.role == 'assistant' -%}{{- message.content + '</s>' -}}
{%- else -%}{{- '[TOOL_RESULTS] {"content": ' + message.content + '}[/TOOL_RESULTS]' -}}
{%- endif -%}
{%- endfor -%}
""".strip()
"""Mistral: no generation prompt, and ids that must have nine letters."""
