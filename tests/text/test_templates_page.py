"""docs/templates.md says what the table of templates renders, and the formats are those that models were trained on."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from palate.records import Messages
from palate.text.named import ALIASES, TEMPLATES, TOKENIZERS_OWN, find_template
from palate.text.rendering import Renderer
from palate.text.template import load_template

Chat = Callable[..., Messages]
Make = Callable[[str], PreTrainedTokenizerFast]


def test_the_page_is_current(repository: Path) -> None:
    page = runpy.run_path(str(repository / "tools" / "templates_page.py"))["templates_page"]()
    assert (repository / "docs" / "templates.md").read_text(encoding="utf-8") == page, (
        "docs/templates.md is out of date: run `python tools/templates_page.py docs/templates.md`"
    )


def test_a_name_means_one_thing() -> None:
    names = [*TEMPLATES, *ALIASES, *TOKENIZERS_OWN]
    assert len(names) == len(set(names))
    assert set(ALIASES.values()) <= set(TEMPLATES)
    assert find_template(" Qwen2.5 ") is TEMPLATES["qwen"]
    assert find_template("qwen2") is TEMPLATES["qwen2"]
    assert find_template("qwen3") is None


# The formats as their models' publishers state them, written out by hand.
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
FORMATS = {
    "qwen": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n|A<|im_end|>",
    "qwen2": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n|A<|im_end|>",
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n|A<|im_end|>",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Q<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n|A<|eot_id|>",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST]| A </s>",
    "mistral": "<s>[INST] S\n\nQ[/INST]| A</s>",
    "gemma": "<s><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\n|A<end_of_turn>",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nQ</s>\n<|assistant|>\n|A</s>",
    "phi2": "S\nInstruct: Q\nOutput:| A</s>",
    "alpaca": "S\n\n### Instruction:\nQ\n\n### Response:\n|A</s>",
    "vicuna": "S USER: Q ASSISTANT:| A</s>",
    "hh": "S\n\nHuman: Q\n\nAssistant:| A</s>",
    "default": "System: S</s>\nHuman: Q</s>\nAssistant:|A</s>",
    "plain": "SQ|A</s>",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_formats(make_tokenizer: Make, chat: Chat, name: str) -> None:
    tokenizer = make_tokenizer("byte_level")
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    one = Renderer(load_template(tokenizer, name))(chat("s: S", "u: Q"), chat("a: A"))
    assert f"{one.text[: one.boundary]}|{one.text[one.boundary :]}" == FORMATS[name]
    assert one.trained == ((one.boundary, len(one.text)),)


@pytest.mark.parametrize(
    ("name", "system"), [("qwen", QWEN), ("qwen2", "You are a helpful assistant."), ("alpaca", ALPACA)]
)
def test_default_system_texts(plain_bytes: Any, chat: Chat, name: str, system: str) -> None:
    template = load_template(plain_bytes, name)
    assert template.render(chat("u: Q")) == template.render(chat(f"s: {system}", "u: Q"))
    assert TEMPLATES[name].default_system == system


def test_a_generation_prompt_begins_the_answer(make_tokenizer: Make, chat: Chat) -> None:
    for name in TEMPLATES:
        template = load_template(make_tokenizer("byte_level"), name)
        for prompt in (chat("u: Q"), chat("s: S", "u: Q", "a: A", "t: R", "u: Q")):
            begun = template.render(prompt, generation=True)
            assert template.render((*prompt, *chat("a: Answer"))).startswith(begun)
            assert not begun.endswith(" ")
