"""Writes docs/templates.md from the table of templates: `python tools/templates_page.py docs/templates.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palate.errors import DataError, UsageError
from palate.records import Message, ToolCall
from palate.text.named import ALIASES, TEMPLATES, TOKENIZERS_OWN, NamedTemplate
from palate.text.rendering import Renderer
from palate.text.template import load_template

_PROMPT = (Message("user", "Name a colour."), Message("assistant", "Blue."), Message("user", "Another one."))
_ANSWER = (Message("assistant", "Green."),)

_HEAD = """# Chat templates

<!-- Written by `python tools/templates_page.py docs/templates.md` from palate/text/named.py. Edit that. -->

palate renders a conversation with the tokenizer's own chat template. `template: NAME` in a config selects another one,
which is saved with the tokenizer, so that transformers and every engine render what was trained. A tokenizer without a
template needs a name; `template: chatml` works for most base models.

- **Boundary.** Prompt and completion are rendered and tokenised together. The prompt ends where generation would
  begin. Prompt and completion are the rendered chat, token for token.
- **Trained tokens** are the assistant's own tokens in the completion, including the token that ends its turn. The
  prompt, headers, other speakers and tool results in the completion are not trained. White space after the end of the
  turn is not part of the completion.
- **End of turn.** The template writes it (`<|im_end|>`). A format without one gets the tokenizer's EOS after the last
  assistant turn. If an answer in the data already ends with the end of turn, it is not doubled.
- **BOS** is part of the template. A named format without BOS gets one if the tokenizer puts BOS before plain text. The
  tokenizer's own template is not changed.
- **Unknown markup** (`<|im_start|>` in a tokenizer without that token) becomes plain text; the run prints a note.
- **Rows longer than `cutoff_len`** lose the oldest whole turns of the prompt (system text stays), then prompt tokens
  from the left (BOS stays). A row whose answer still does not fit is dropped. `truncation: drop` drops such rows at
  once. `data.json` lists every shortened and dropped row. Answers are never shortened.
- **Thinking blocks** that the template writes between generation prompt and answer are trained, because the model has
  to write them. Text that the template removes from an answer is not trained.
- **Tool calls** are passed to the template as `tool_calls`, with the row's `tools`. Their arguments are an object, or
  JSON text for templates that need it. What the template writes is trained.
- **Reasoning** is passed as `reasoning_content`, `thinking` or `reasoning`, whichever the template reads. Many
  templates render the reasoning of the last answer only. Then a row with several trained answers with reasoning is
  dropped, unless the earlier answers are context (`mask_history: true`, or `train: false` on the turn).
- **Refused rows.** If the template leaves out tool calls, text next to them or trained reasoning, the row is dropped as
  `template_refused`, and the message says what to do. So is a conversation that the template refuses (a system turn,
  roles out of order), with the template's message.

| name | format | other names | special tokens it needs | default system text |
|---|---|---|---|---|
"""

_EXAMPLES = """
Names follow LLaMA-Factory. These names of model families mean the tokenizer's own template:
{own}.

## Tool calls

The call `get_weather(city="Oslo")` as an answer; all of it is trained. The other templates have no markup for tool
calls, so rows with calls are dropped. No named template renders reasoning.

{calls}

## Renderings

The same conversation with each template: a user asks, gets an answer and asks again; the completion is `Green.` It
begins at ▌, and all of it is trained. ↵ is a line break; `<bos>` and `<eos>` are the tokenizer's own.
"""


def templates_page() -> str:
    """The content of the page."""
    rows = "".join(_row(template) for template in TEMPLATES.values())
    own = fill(", ".join(f"`{name}`" for name in sorted(TOKENIZERS_OWN)), 118, break_on_hyphens=False)
    calls = "\n".join(filter(None, map(_call, TEMPLATES.values())))
    examples = "".join(_example(template) for template in TEMPLATES.values())
    return _HEAD + rows + _EXAMPLES.format(own=own, calls=calls) + examples


def _row(template: NamedTemplate) -> str:
    aliases = ", ".join(f"`{alias}`" for alias, name in ALIASES.items() if name == template.name)
    tokens = " ".join(f"`{token}`".replace("|", "\\|") for token in template.tokens)
    return f"| `{template.name}` | {template.about} | {aliases} | {tokens} | {template.default_system} |\n"


def _call(template: NamedTemplate) -> str:
    """A tool call in a template's markup, as a list item; "" if it has none."""
    answer = Message("assistant", "", (ToolCall("get_weather", '{"city": "Oslo"}', "abcdefghi"),))
    try:
        answered = Renderer(load_template(_tokenizer(), template.name))(_PROMPT, (answer,))
    except DataError:
        return ""
    shown = answered.text[answered.boundary :].replace("\n", "↵")
    return f"- `{template.name}`: `{shown}`"


def _example(template: NamedTemplate) -> str:
    answered = Renderer(load_template(_tokenizer(), template.name))(_PROMPT, _ANSWER)
    shown = f"{answered.text[: answered.boundary]}▌{answered.text[answered.boundary :]}".replace("\n", "↵\n")
    return f"\n### {template.name}\n\n```text\n{shown}\n```\n"


def _tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with all special tokens of the table."""
    tokenizer = Tokenizer(
        models.BPE({byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for template in TEMPLATES.values() for token in template.tokens])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>"})
    return wrapped


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise UsageError("usage: python tools/templates_page.py PAGE.md")
    Path(sys.argv[1]).write_text(templates_page(), encoding="utf-8")
