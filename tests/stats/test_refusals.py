"""The rule on refusals."""

from __future__ import annotations

import pytest

from palate.stats.refusals import BEGINNING, is_refusal


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I can't help with that.", True),
        ("I can\u2019t help with that.", True),
        ("Sorry, but I\n cannot  do it", True),
        ("As an AI language model, I have no body.", True),
        ("Yes, you can. Use the kill command.", False),
        ("The process can't be killed while it sleeps.", False),
        ("x" * BEGINNING + " I cannot help", False),
        ("", False),
    ],
)
def test_the_rule(answer: str, refused: bool) -> None:
    assert is_refusal(answer) is refused
