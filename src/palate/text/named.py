"""The named chat templates: Jinja text in the form that transformers renders and that a saved tokenizer carries.

`template: qwen` in a config names one, for a tokenizer without a template or in place of its own. Names and renderings
follow LLaMA-Factory, so that its users' files keep their meaning; where a model's publisher differs (vicuna, zephyr,
alpaca with its preamble) the publisher wins. The Jinja text is in `text/templates`, a file for each; `include` there is
resolved when the file is read, because a saved tokenizer has one text.

All of them have in common:

- The generation prompt is a prefix of the rendered chat and ends without a trailing space, so that the first token of
  an answer is the same in training and in generation.
- The last assistant turn ends in an end-of-turn token or, where the format has none, in the tokenizer's EOS.
- A system turn, tool results and a list of tools are always rendered.
- Tool calls are rendered in the markup of the model family (qwen, chatml, llama3, mistral). The others have none, and
  none renders reasoning: `text.rendering` refuses such rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from palate.errors import ConfigError, did_you_mean

_FOLDER = resources.files("palate.text") / "templates"
_INCLUDE = re.compile(r"\{%- include '(\w+)' -%\}")


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """One row of the table.

    Attributes:
        name: the name in a config.
        about: one line for the docs.
        jinja: the chat template; it reads `messages`, `tools`, `add_generation_prompt`, `bos_token` and `eos_token`.
        tokens: special tokens without which the markup is plain text to a tokenizer.
        default_system: the system text of a conversation that has none.
    """

    name: str
    about: str
    jinja: str
    tokens: tuple[str, ...] = ()
    default_system: str = ""


def _template(
    name: str, about: str, tokens: tuple[str, ...] = (), default_system: str = "", *, file: str = ""
) -> NamedTemplate:
    """A row of the table with its Jinja text; `file` if it is not called like the template."""
    quoted = default_system.replace("'", "\\'")
    jinja = _read(file or name).replace("DEFAULT_SYSTEM", quoted)
    return NamedTemplate(name, about, jinja, tokens, default_system)


def _read(name: str) -> str:
    text = (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8").strip()
    return _INCLUDE.sub(lambda match: _read(match[1]), text)


_ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_QWEN2_SYSTEM = "You are a helpful assistant."
_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
_LLAMA3_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_GEMMA_TOKENS = ("<start_of_turn>", "<end_of_turn>")

TEMPLATES: Mapping[str, NamedTemplate] = {
    template.name: template
    for template in (
        _template("qwen", "Qwen 2.5, with its default system text", _CHATML_TOKENS, _QWEN_SYSTEM),
        _template(
            "qwen2", "Qwen 1.5 and 2, with their default system text", _CHATML_TOKENS, _QWEN2_SYSTEM, file="qwen"
        ),
        _template("chatml", "ChatML without a default system text", _CHATML_TOKENS),
        _template("llama3", "Llama 3, 3.1, 3.2 and 3.3", _LLAMA3_TOKENS),
        _template("llama2", "Llama 2 chat"),
        _template("mistral", "Mistral Instruct (v3); the system text opens the first user turn"),
        _template("gemma", "Gemma 1 to 3; the system text opens the first user turn", _GEMMA_TOKENS),
        _template("zephyr", "Zephyr; turns end in EOS"),
        _template("phi2", "Instruct and Output lines, as Phi-2"),
        _template("alpaca", "Instruction and Response headings", default_system=_ALPACA_SYSTEM),
        _template("vicuna", "USER and ASSISTANT on one line", default_system=_VICUNA_SYSTEM),
        _template("hh", "Human and Assistant paragraphs, as the HH-RLHF transcripts"),
        _template("default", "Human and Assistant lines that end in EOS, as LLaMA-Factory's default"),
        _template("plain", "no markup at all: the texts one after the other, then EOS"),
    )
}

# Other names of the same renderings, LLaMA-Factory's among them.
_OTHER_NAMES = {
    "qwen": "qwen2.5 qwen2_5",
    "qwen2": "qwen1.5 qwen1_5",
    "chatml": "yi smollm hermes im",
    "llama3": "llama3.1 llama3.2 llama3.3 llama-3",
    "llama2": "llama-2",
    "gemma": "gemma2 gemma3 gemma3n",
    "phi2": "phi-2",
    "hh": "hh-rlhf hh_rlhf anthropic",
    "plain": "empty raw",
}
ALIASES: Mapping[str, str] = {alias: name for name, aliases in _OTHER_NAMES.items() for alias in aliases.split()}

# LLaMA-Factory's names of families whose tokenizers have the right template already.
_FAMILIES = """
    auto tokenizer qwen3 qwen3_nothink smollm2 smollm3 phi phi_small phi3 phi4 llama4 deepseek deepseek3 deepseekr1
    deepseekcoder cohere exaone falcon falcon_h1 glm4 glm4_moe gpt_oss granite3 granite4 intern2 ministral
    mistral_small mimo olmo openchat opencoder minicpm_v qwen2_vl qwen3_vl qwen3_vl_nothink starchat seed_oss hunyuan
    ernie ernie_nothink bailing_v2 kimi
"""
TOKENIZERS_OWN = frozenset(_FAMILIES.split())


def find_template(name: str) -> NamedTemplate | None:
    """The named template, or None if the name means the tokenizer's own.

    Raises:
        ConfigError: nothing has that name; the message offers the nearest one and lists all.
    """
    key = name.strip().lower()
    if key in TOKENIZERS_OWN:
        return None
    key = ALIASES.get(key, key)
    if key in TEMPLATES:
        return TEMPLATES[key]
    hint = did_you_mean(key, [*TEMPLATES, *ALIASES, *TOKENIZERS_OWN])
    raise ConfigError(
        f"template: {name} is not known{(hint and f'; {hint}') or '.'} Known are {', '.join(TEMPLATES)}; "
        "leave the key out to use the tokenizer's own"
    )
