"""Which side a reason names."""

from __future__ import annotations

import pytest

from palate.feedback.calibration.reasons import side_in_reason


@pytest.mark.parametrize(
    ("reason", "side"),
    [
        ("Answer A is better because it is complete.", "left"),
        ("Response B is clearly worse than the other.", "left"),
        ("The second answer is much better.", "right"),
        ("the first one is weaker", "right"),
        ("Both are fine, but I prefer answer 1.", "left"),
        ('The winner is Assistant "B".', "right"),
        ("Answer [[A]] is slightly better.", "left"),
        ("Answer A is not better.", None),
        ("Answer A is better in style, response B is better in facts.", None),
        ("Answer A is better, so answer B is worse.", "left"),
        ("Both are equal.", None),
        ("-310 against -120", None),
        ("", None),
    ],
)
def test_the_named_side(reason: str, side: str | None) -> None:
    assert side_in_reason(reason) == side
