"""docs/templates.md, written from the table of templates: `python -m palate.text.docs docs/templates.md`."""

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

<!-- Written by `python -m palate.text.docs docs/templates.md` from palate/text/named.py. Edit that. -->

A conversation is rendered by the tokenizer's own chat template. `template: NAME` in a config chooses another one, which
is then saved with the tokenizer, so that transformers and every engine render what was trained. A tokenizer without a
template needs a name; `template: chatml` suits most base models.

- **Rendered once.** Prompt and completion are rendered together and tokenised together; the prompt is what stands
  before the place where generation would begin. Prompt and completion are the rendered chat, token for token.
- **Trained** are the assistant's own tokens of the completion with the token that ends its turn: never the prompt, a
  header, another speaker or a tool's result inside the completion, nor white space after the end of the turn, which is
  left out of the completion.
- **The end of a turn** is the template's (`<|im_end|>`). A format that has none gets the tokenizer's EOS after the last
  assistant turn. An end of turn that the data already spells at the end of an answer is not doubled.
- **BOS** is part of the template. A named format that writes none gets it in front where the tokenizer puts one before
  plain text. The tokenizer's own template is left as it is.
- **Markup** that a tokenizer does not know (`<|im_start|>` without that token) becomes plain text; the run says so.
- **Too long** for `cutoff_len`: the oldest whole turns of the prompt go first (system text stays), then prompt tokens
  from the left (BOS stays); a row whose answer still does not fit is dropped. `truncation: drop` drops at once. Every
  cut and drop is listed in `data.json`. No answer is ever shortened.
- **Thinking blocks** that the template itself puts between generation prompt and answer are the model's to write, and
  trained; what the template removes from an answer's text is not there to train.
- **Tool calls** reach the template as `tool_calls`, their arguments as an object (as JSON text where the template joins
  text), beside the row's `tools`. What is trained is what the template writes at inference.
- **Reasoning** reaches it as `reasoning_content`, `thinking` or `reasoning`, whichever it reads. Many templates render
  the reasoning of the last answer only: a row with several trained answers that have reasoning is then dropped, unless
  the earlier ones are context (`mask_history: true`, or `train: false` on the turn).
- **What a template leaves out** (tool calls, text beside them, trained reasoning) would be lost in training: such a row
  is dropped as `template_refused` with what is left out and what to do about it, as is a conversation that the template
  refuses (a system turn, roles out of order), with the template's own words.

| name | format | other names | special tokens it needs | default system text |
|---|---|---|---|---|
"""

_EXAMPLES = """
Names follow LLaMA-Factory. Its names of families whose tokenizers bring a template of their own mean just that:
{own}.

## Tool calls

The call `get_weather(city="Oslo")` as an answer, with all that is trained. Templates that are not here have no markup
for tool calls and drop such rows. No named template has a place for reasoning.

{calls}

## Renderings

The same conversation in each: a user asks, is answered and asks again; the completion answers `Green.` The completion
begins at ▌, and all of it is trained. ↵ is a line break; `<bos>` and `<eos>` stand for the tokenizer's own.
"""


def templates_page() -> str:
    """The page as it should be."""
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
    """How a template writes a tool call, as a list item; "" for one that does not."""
    answer = Message("assistant", "", (ToolCall("get_weather", '{"city": "Oslo"}', "abcdefghi"),))
    try:
        one = Renderer(load_template(_tokenizer(), template.name))(_PROMPT, (answer,))
    except DataError:
        return ""
    shown = one.text[one.boundary :].replace("\n", "↵")
    return f"- `{template.name}`: `{shown}`"


def _example(template: NamedTemplate) -> str:
    one = Renderer(load_template(_tokenizer(), template.name))(_PROMPT, _ANSWER)
    shown = f"{one.text[: one.boundary]}▌{one.text[one.boundary :]}".replace("\n", "↵\n")
    return f"\n### {template.name}\n\n```text\n{shown}\n```\n"


def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes that knows all markup of the table."""
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
        raise UsageError("usage: python -m palate.text.docs PAGE.md")
    Path(sys.argv[1]).write_text(templates_page(), encoding="utf-8")
