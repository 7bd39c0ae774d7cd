"""What people wrote of a text: without code blocks, JSON, tool calls and addresses, whose words are of no language."""

from __future__ import annotations

import re

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}|\[\s*[\"{][^\[\]]*\]")
_CALL = re.compile(r"^\s*(?:Action(?: Input)?|Observation|Function|Tool|Arguments)\s*:.*$", re.MULTILINE)
_ADDRESS = re.compile(r"https?://\S+")


def prose(text: str) -> str:
    """The text with spaces in place of what is no language."""
    if "`" in text:
        text = _FENCED.sub(" ", text)
    while "{" in text or "[" in text:
        shorter = _OBJECT.sub(" ", text)
        if shorter == text:
            break
        text = shorter
    if ":" in text:
        text = _ADDRESS.sub(" ", _CALL.sub(" ", text))
    return text
