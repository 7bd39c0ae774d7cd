"""Markdown style of an answer: headers, list items and bold text, which judges like for their own sake."""

from __future__ import annotations

import re

STYLES = ("headers", "lists", "bold")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_PATTERNS = (
    re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)


def style_counts(text: str) -> tuple[int, int, int]:
    """Number of headers, list items and bold passages, outside of code blocks."""
    prose = _CODE.sub("", text)
    headers, lists, bold = (len(pattern.findall(prose)) for pattern in _PATTERNS)
    return headers, lists, bold


def style_differences(a: str, b: str) -> tuple[float, float, float]:
    """(a − b) / (a + b) of each count, in [−1, 1]; 0 where neither text has any (as FastChat normalises them)."""
    first, second = style_counts(a), style_counts(b)
    headers, lists, bold = ((x - y) / (x + y) if x + y else 0.0 for x, y in zip(first, second))
    return headers, lists, bold
