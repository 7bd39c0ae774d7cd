"""How a template wants tool calls and reasoning."""

from __future__ import annotations

from typing import Any

import pytest

import chat_templates
from palate.records import Message, ToolCall
from palate.text.named import TEMPLATES
from palate.text.template import load_template
from palate.text.turn_form import TurnForm, find_turn_form


@pytest.mark.parametrize(
    ("jinja", "form"),
    [
        (chat_templates.QWEN3, TurnForm()),
        (chat_templates.XML_CALLS, TurnForm()),
        (chat_templates.TEXT_ARGUMENTS, TurnForm(arguments_as_text=True)),
        (chat_templates.NO_SYSTEM, TurnForm()),
        (TEMPLATES["llama3"].jinja, TurnForm()),
    ],
)
def test_arguments_are_an_object_unless_the_template_joins_text(plain_bytes: Any, jinja: str, form: TurnForm) -> None:
    plain_bytes.chat_template = jinja
    assert load_template(plain_bytes)._turn_form == form


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("{{ message.reasoning_content }}", "reasoning_content"),
        ("{{ message['thinking'] }}", "thinking"),
        ("{% if 'reasoning' in message %}", "reasoning"),
        ("{{ message.thinking or message.reasoning_content }}", "reasoning_content"),
        ("{% if enable_thinking %}{{ reasoning_effort }}", "reasoning_content"),
    ],
)
def test_the_key_of_the_reasoning(source: str, key: str) -> None:
    form = find_turn_form(source, lambda turns: "")
    assert form.write(Message("assistant", "a", reasoning_content="hm"))[key] == "hm"


def test_arguments_as_text() -> None:
    message = Message("assistant", "", (ToolCall("f", '{"a": 1}'),))
    (call,) = TurnForm(arguments_as_text=True).write(message)["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"a": 1}'}
