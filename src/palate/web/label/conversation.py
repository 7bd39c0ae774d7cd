"""A prompt as blocks of a page: turns in order, with what is rarely read folded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from markupsafe import Markup

from palate.records import Message, Messages, ToolCall
from palate.web.markdown import to_html

_TITLES = {"system": "System prompt", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A part of a prompt.

    Attributes:
        title: who speaks, or what it is.
        html: the content, safe to insert.
        folded: whether the page shows the title only until it is opened: system prompts, tools, their results.
    """

    title: str
    html: Markup
    folded: bool = False


def prompt_blocks(prompt: Messages, tools: str | None = None) -> list[PromptPart]:
    """The tools that the model may call, then the turns."""
    found = [PromptPart("Tools", code(_pretty(tools), "json"), folded=True)] if tools else []
    for turn in prompt:
        found += _turn(turn)
    return found


def code(text: str, language: str = "") -> Markup:
    """Text as a highlighted code block; back quotes in the text cannot end the block."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return to_html(f"{fence}{language}\n{text}\n{fence}")


def _turn(turn: Message) -> list[PromptPart]:
    found = []
    if turn.reasoning_content:
        found.append(PromptPart("Reasoning of the assistant", to_html(turn.reasoning_content), folded=True))
    if turn.role == "tool":
        title = f"Result of the tool {turn.name}" if turn.name else "Result of a tool"
        return [*found, PromptPart(title, code(_pretty(turn.content)), folded=True)]
    if turn.content.strip():
        found.append(PromptPart(_TITLES[turn.role], to_html(turn.content), folded=turn.role == "system"))
    return [
        *found,
        *(PromptPart(f"Call of the tool {call.name}", _arguments(call), folded=True) for call in turn.tool_calls),
    ]


def _arguments(call: ToolCall) -> Markup:
    return code(json.dumps(call.value, ensure_ascii=False, indent=2), "json")


def _pretty(text: str) -> str:
    """JSON text with line breaks; other text as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return text
