"""How a chat template reads tool calls and reasoning: templates differ in both."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from palate.records import Message, ToolCall, as_turn

REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError)
"""What a chat template raises for a conversation that it does not render."""
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class TurnForm:
    """The form of turns with tool calls or reasoning that a template reads.

    Attributes:
        arguments_as_text: whether the arguments of a tool call are JSON text; most templates read an object.
        reasoning: the key of the reasoning.
    """

    arguments_as_text: bool = False
    reasoning: str = "reasoning_content"

    def write(self, message: Message) -> dict[str, Any]:
        """The message as a dict for the template."""
        turn = as_turn(message, arguments_as_text=self.arguments_as_text)
        if "reasoning_content" in turn:
            turn[self.reasoning] = turn.pop("reasoning_content")
        return turn


_CALL = ToolCall("probe_name", '{"probe_key": "probe_value"}', "probe0001")
_PROBE = (
    Message("user", "probe_question"),
    Message("assistant", "", tool_calls=(_CALL,)),
    Message("tool", "probe_result", name="probe_name", tool_call_id="probe0001"),
)


def find_turn_form(source: str, render: Callable[[Sequence[Mapping[str, Any]]], str]) -> TurnForm:
    """The form that a template reads, found by rendering a tool call in each form.

    Args:
        source: the template's Jinja text, which shows its key of the reasoning.
    """
    reasoning = next((key for key in _REASONING_KEYS if _reads(source, key)), _REASONING_KEYS[0])
    for form in (TurnForm(False, reasoning), TurnForm(True, reasoning)):
        try:
            text = render([form.write(message) for message in _PROBE])
        except REFUSALS:
            continue
        if "probe_name" in text and "probe_value" in text:
            return form
    return TurnForm(reasoning=reasoning)


def _reads(source: str, key: str) -> bool:
    """Whether a template reads this key of a message, as an attribute, an item or by name."""
    return re.search(rf"""(?:\.|['"]){key}\b""", source) is not None
