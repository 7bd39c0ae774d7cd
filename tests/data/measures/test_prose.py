"""Code, JSON, tool calls and addresses are of no language."""

from __future__ import annotations

import pytest

from palate.data.measures.language import language
from palate.data.measures.prose import prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Run this:\n```python\nprint('for in the is')\n```\nthen stop.", "Run this: then stop."),
        ('北京今天天气怎么样？\n{"city": "北京", "more": {"unit": "C"}}', "北京今天天气怎么样？"),
        ('Action: get_weather\nAction Input: {"city": "北京"}', ""),
        ("See https://example.org/the/of/and now", "See now"),
        (
            "An array [1, 2] stays, and so does this: it is text.",
            "An array [1, 2] stays, and so does this: it is text.",
        ),
    ],
)
def test_prose(text: str, expected: str) -> None:
    assert " ".join(prose(text).split()) == expected


def test_a_question_about_code_is_in_the_language_of_the_question() -> None:
    code = "```python\n" + "import random\nfor i in range(10):\n    print(i)\n" * 20 + "```"
    assert language(f"扫雷代码怎么写？请给我一个例子。{code}") == "zh"


def test_a_tool_call_is_in_no_language() -> None:
    assert language('Action: get_weather\nAction Input: {"city": "the city of London"}') == "und"


@pytest.mark.parametrize("text", ["Name a colour. Blue, obviously. I cannot say.", "Write a haiku about the sea."])
def test_short_english(text: str) -> None:
    assert language(text) == "en"
