"""Where turns lie in a rendering: what is the prompt, what the assistant wrote, and what neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from palate.errors import DataError
from palate.records import Message, Messages, ToolCall
from palate.text.named import TEMPLATES
from palate.text.rendering import Renderer, Rendering
from palate.text.template import load_template

Chat = Callable[..., Messages]
Make = Callable[[str], PreTrainedTokenizerFast]


def renderer(tokenizer: Any, template: str) -> Renderer:
    """By a template's name or by Jinja text."""
    if template in TEMPLATES:
        return Renderer(load_template(tokenizer, template))
    tokenizer.chat_template = template
    return Renderer(load_template(tokenizer))


def parts(rendering: Rendering) -> tuple[str, list[str]]:
    """The text before the completion, and the trained texts."""
    return rendering.text[: rendering.boundary], [rendering.text[start:end] for start, end in rendering.trained]


def test_the_end_of_turn_is_trained_and_white_space_after_it_is_gone(plain_bytes: Any, chat: Chat) -> None:
    one = renderer(plain_bytes, "chatml")(chat("u: hi"), chat("a: ho"))
    assert one.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>"
    assert parts(one) == ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", ["ho<|im_end|>"])


def test_a_default_system_text_belongs_to_the_prompt(smollm2: Any, chat: Chat) -> None:
    one = Renderer(load_template(smollm2))(chat("u: hi"), chat("a: ho"))
    prompt, trained = parts(one)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert trained == ["ho<|im_end|>"]
    own = Renderer(load_template(smollm2))(chat("s: Rhyme.", "u: hi"), chat("a: ho"))
    assert own.text.startswith("<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user")


def test_only_assistant_turns_of_a_completion_are_trained(plain_bytes: Any, chat: Chat) -> None:
    completion = chat("a: call f", "t: 42", "a: It is 42.", "u: Thanks", "a: Welcome")
    one = renderer(plain_bytes, "chatml")(chat("u: old", "a: answer", "u: f?"), completion)
    prompt, trained = parts(one)
    assert prompt.endswith("user\nf?<|im_end|>\n<|im_start|>assistant\n")
    assert trained == ["call f<|im_end|>", "It is 42.<|im_end|>", "Welcome<|im_end|>"]


def test_a_completion_that_ends_with_another_speaker_ends_with_its_last_answer(plain_bytes: Any, chat: Chat) -> None:
    one = renderer(plain_bytes, "chatml")(chat("u: hi"), chat("a: ho", "u: bye"))
    assert one.text.endswith("assistant\nho<|im_end|>")


def test_a_format_without_end_of_turn_trains_eos_once_at_the_end(plain_bytes: Any, chat: Chat) -> None:
    one = renderer(plain_bytes, "hh")(chat("u: q"), chat("a: one", "u: more", "a: two"))
    assert one.text == "\n\nHuman: q\n\nAssistant: one\n\nHuman: more\n\nAssistant: two<|endoftext|>"
    assert parts(one) == ("\n\nHuman: q\n\nAssistant:", [" one", " two<|endoftext|>"])


def test_eos_is_added_where_the_own_template_ends_a_turn_by_nothing(
    plain_bytes: Any, chat: Chat, jinja: dict[str, str]
) -> None:
    one = renderer(plain_bytes, jinja["endless"])(chat("u: q"), chat("a: one", "u: more", "a: two "))
    assert one.text == "user: q\nassistant: one\nuser: more\nassistant: two <|endoftext|>"
    assert parts(one)[1] == ["one", "two <|endoftext|>"]


def test_an_answers_header_belongs_to_the_prompt_without_generation_prompts(
    plain_bytes: Any, chat: Chat, jinja: dict[str, str]
) -> None:
    one = renderer(plain_bytes, jinja["headers"])(chat("u: q"), chat("a: one", "u: more", "a: two"))
    prompt, trained = parts(one)
    assert prompt == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert trained == ["one<|im_end|>", "two<|im_end|>"]


def test_trimming_templates_keep_the_boundary(make_tokenizer: Make, chat: Chat) -> None:
    one = renderer(make_tokenizer("byte_level"), "llama3")(chat("u:  q \n"), chat("a: \n one  "))
    assert parts(one)[1] == ["one<|eot_id|>"]
    assert not one.rewritten
    two = renderer(make_tokenizer("sentence_piece"), "llama2")(
        chat("s: S", "u:  q"), chat("a:  one", "u: more", "a: two")
    )
    assert two.text == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nq [/INST] one </s><s>[INST] more [/INST] two </s>"
    assert parts(two)[1] == [" one </s>", " two </s>"]


def test_a_thinking_block_is_what_the_model_writes(plain_bytes: Any, chat: Chat, jinja: dict[str, str]) -> None:
    render = renderer(plain_bytes, jinja["thinking"])
    prompt = chat("u: old", "a: <think>\nhm\n</think>\n\nanswer", "u: q")
    without = render(prompt, chat("a: done"))
    assert parts(without) == (
        "<|im_start|>user\nold<|im_end|>\n<|im_start|>assistant\nanswer<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        ["<think>\n\n</think>\n\ndone<|im_end|>"],
    )
    thought = render(prompt, chat("a: <think>\nwell\n</think>\n\ndone"))
    assert parts(thought) == (parts(without)[0], ["<think>\nwell\n</think>\n\ndone<|im_end|>"])
    assert thought.rewritten


def test_thoughts_that_a_later_turn_removes_are_not_trained(
    plain_bytes: Any, chat: Chat, jinja: dict[str, str]
) -> None:
    completion = chat("a: <think>\nwell\n</think>\n\none", "u: more", "a: <think>\nhm\n</think>\n\ntwo")
    _, trained = parts(renderer(plain_bytes, jinja["thinking"])(chat("u: q"), completion))
    assert trained == ["one<|im_end|>", "<think>\nhm\n</think>\n\ntwo<|im_end|>"]


def test_a_generation_prompt_that_is_no_prefix(plain_bytes: Any, chat: Chat, jinja: dict[str, str]) -> None:
    render = renderer(plain_bytes, jinja["opened"])
    for answer in ("done", "<think>\nwell</think>done"):
        prompt, trained = parts(render(chat("u: q"), chat(f"a: {answer}")))
        assert prompt == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
        assert trained == ["done<|im_end|>"]


def test_tools_are_rendered_and_tool_results_are_not_trained(plain_bytes: Any, chat: Chat) -> None:
    tools = json.dumps([{"name": "weather", "parameters": {"city": "string"}}])
    completion = chat('a: <tool_call>\n{"name": "weather"}\n</tool_call>', "t: sunny", "t: warm", "a: Sunny and warm.")
    prompt, trained = parts(renderer(plain_bytes, "qwen")(chat("u: Weather?"), completion, tools))
    assert '<tools>\n{"name": "weather", "parameters": {"city": "string"}}\n</tools>' in prompt
    assert trained == ['<tool_call>\n{"name": "weather"}\n</tool_call><|im_end|>', "Sunny and warm.<|im_end|>"]


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"qwen", "qwen2"}))
def test_every_named_template_shows_tools_system_and_results(plain_bytes: Any, chat: Chat, name: str) -> None:
    talk = chat("u: ask"), chat("a: call", "t: RESULT", "a: said")
    one = renderer(plain_bytes, name)((Message("system", "SYSTEM"), *talk[0]), talk[1], '[{"name": "weather"}]')
    prompt, trained = parts(one)
    assert "SYSTEM" in prompt
    assert '[{"name": "weather"}]' in prompt
    assert "RESULT" in one.text
    assert not any("RESULT" in text for text in trained)


@pytest.mark.parametrize("tools", ["{", '{"name": "f"}'])
def test_faulty_tools_are_refused(plain_bytes: Any, chat: Chat, tools: str) -> None:
    with pytest.raises(DataError, match="tools is not"):
        renderer(plain_bytes, "chatml")(chat("u: q"), chat("a: r"), tools)


def test_an_empty_prompt(plain_bytes: Any, chat: Chat) -> None:
    assert parts(renderer(plain_bytes, "plain")((), chat("a: text"))) == ("", ["text<|endoftext|>"])


SPOKEN = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\t<|>:"), max_size=20)
TALK = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), SPOKEN), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def renderers(make_tokenizer: Make, jinja: dict[str, str]) -> dict[str, Renderer]:
    return {name: renderer(make_tokenizer("byte_level"), jinja.get(name, name)) for name in [*TEMPLATES, *jinja]}


@pytest.mark.parametrize("name", [*TEMPLATES, "thinking", "opened", "headers", "endless"])
@settings(max_examples=25, deadline=None)
@given(prompt=SPOKEN, turns=TALK, last=SPOKEN)
def test_searching_finds_what_matching_finds(
    renderers: dict[str, Renderer], name: str, prompt: str, turns: list[tuple[Any, str]], last: str
) -> None:
    """Two ways to find the turns, of which one never looks at the shape, agree on any contents."""
    render = renderers[name]
    asked = (Message("user", prompt),)
    completion = (Message("assistant", last), *(Message(role, text) for role, text in turns))
    matched = render(asked, completion)
    shapes, render._shapes = render._shapes, dict.fromkeys(render._shapes)
    try:
        searched = render(asked, completion)
    finally:
        render._shapes = shapes
    assert (searched.text, searched.boundary, searched.trained) == (matched.text, matched.boundary, matched.trained)


CALL = ToolCall("f", '{"a": 1}', "c1")


def test_turns_that_are_marked_as_context(plain_bytes: Any, chat: Chat) -> None:
    render = renderer(plain_bytes, "chatml")
    first, asked, second = chat("a: one", "u: more", "a: two")
    context = replace(first, trained=False), asked, second
    one = render(chat("u: q"), context)
    assert parts(one) == ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", ["two<|im_end|>"])
    assert not one.rewritten
    cut = render(chat("u: q"), (first, asked, replace(second, trained=False)))
    assert cut.text.endswith("assistant\none<|im_end|>")
    assert render(chat("u: q"), (replace(first, trained=False),)).trained == ()


@pytest.mark.parametrize("name", ["qwen", "qwen2", "chatml", "llama3", "mistral", "calls without generation prompt"])
def test_tool_steps_are_prefixes_of_one_rendering(plain_bytes: Any, chat: Chat, name: str) -> None:
    """Every step is what the model would write after the prompt and the steps before it."""
    render = renderer(plain_bytes, HEADERS_AND_CALLS if " " in name else name)
    prompt, steps = chat("u: q"), (Message("assistant", "", (CALL,)), Message("tool", "1"), *chat("a: One."))
    whole = render(prompt, steps)
    first, last = render(prompt, steps[:1]), render((*prompt, *steps[:2]), steps[2:])
    assert parts(whole)[1] == [*parts(first)[1], *parts(last)[1]]
    assert whole.text.startswith(first.text)
    assert parts(whole)[0] == parts(first)[0]
    assert not any("assistant" in text for text in parts(whole)[1])
    assert not whole.rewritten


def test_plain_turns_beside_tool_calls_are_found_as_without_them(plain_bytes: Any, chat: Chat) -> None:
    """The same answer, found by matching in a plain conversation and by prefixes beside a tool call."""
    render = renderer(plain_bytes, "qwen")
    history = (*chat("u: q"), Message("assistant", "x", (CALL,)), Message("tool", "1"))
    plain = (*chat("u: q"), *chat("a: x", "t: 1"))
    for answer in ("One.", " One. \n", "", "<tool_call>"):
        assert parts(render(history, chat(f"a: {answer}")))[1] == parts(render(plain, chat(f"a: {answer}")))[1]


HEADERS_AND_CALLS = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\n' + message.content -}}
    {%- for call in message.tool_calls or [] -%}{{- call.function | tojson -}}{%- endfor -%}
    {{- '<|im_end|>\n' -}}
{%- endfor -%}
""".strip()
