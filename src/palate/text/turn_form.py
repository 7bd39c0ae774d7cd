"""How one chat template wants what a turn has beside its text: tool calls and reasoning, which templates spell apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from palate.records import Message, ToolCall, as_turn

_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class TurnForm:
    """What a template is given for a turn that is more than role and content.

    Attributes:
        arguments_as_text: whether tool calls have their arguments as JSON text. Most templates want an object.
        empty: the content of a turn that has tool calls and no text: `""` or None.
        reasoning: the key that holds the reasoning.
    """

    arguments_as_text: bool = False
    empty: str | None = ""
    reasoning: str = "reasoning_content"

    def write(self, message: Message) -> dict[str, Any]:
        """The message as the template reads it."""
        turn = as_turn(message, arguments_as_text=self.arguments_as_text)
        if message.tool_calls and not message.content:
            turn["content"] = self.empty
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
    """The form of a template, found by rendering a conversation with a tool call in each.

    Args:
        source: its Jinja text, which says what it calls the reasoning.
        render: turns as text.
    """
    reasoning = next((key for key in _REASONING_KEYS if _reads(source, key)), _REASONING_KEYS[0])
    for as_text in (False, True):
        shown: dict[str | None, str] = {}
        for empty in ("", None):
            form = TurnForm(as_text, empty, reasoning)
            try:
                text = render([form.write(message) for message in _PROBE])
            except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError):
                continue
            if "probe_name" in text and "probe_value" in text:
                shown[empty] = text
        if shown:
            # A template that prints null as a word wants the empty text; one that writes a second turn for it wants null.
            null = None in shown and ("" not in shown or ("None" not in shown[None] and shown[None] != shown[""]))
            return TurnForm(as_text, None if null else "", reasoning)
    return TurnForm(reasoning=reasoning)


def _reads(source: str, key: str) -> bool:
    """Whether a template reads this key of a message, as an attribute, an item or by name."""
    return re.search(rf"""(?:\.|['"]){key}\b""", source) is not None
