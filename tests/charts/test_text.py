"""Numbers with their nouns."""

from __future__ import annotations

from palate.charts.text import amount, estimate_text, percent


def test_one_is_singular_and_thousands_are_separated() -> None:
    assert [amount(count, "new task") for count in (0, 1, 1234)] == ["0 new tasks", "1 new task", "1,234 new tasks"]
    assert [amount(count, "reply", "replies") for count in (1, 3)] == ["1 reply", "3 replies"]


def test_a_negative_share_has_a_minus_sign_and_zero_has_none() -> None:
    assert [percent(share) for share in (0.858, -0.02, -0.0001, None)] == ["85.8 %", "−2.0 %", "0.0 %", "–"]
    assert estimate_text(-0.03, -0.05, 0.01, as_percent=True) == "−3.0 % (−5.0 to 1.0 %)"
    assert estimate_text(0.01, -0.0004, 0.03, as_percent=True) == "1.0 % (0.0 to 3.0 %)"
