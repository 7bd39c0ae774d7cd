"""Evaluation texts are recognised by 13 words in a row, as a whole, or nearly."""

from __future__ import annotations

from palate.data.measures.leaks import EvaluationTexts

LONG = "Which of the following planets in our solar system has the largest number of confirmed natural moons today"
SHORT = "Name three primary colours."
texts = EvaluationTexts([("eval:1", LONG), ("eval:2", SHORT)])


def how(text: str) -> str | None:
    leak = texts.find(text)
    return None if leak is None else f"{leak.how} {leak.where}"


def test_leaks() -> None:
    assert how(LONG) == "run eval:1"
    assert how(f"Please tell me. {LONG}? Thank you so much for your kind help with this one.") == "run eval:1"
    assert how("name THREE primary colours") == "same eval:2"
    # A slip in the middle leaves no 13 words in a row.
    assert how(LONG.replace("solar", "sollar")) == "near eval:1"


def test_clean_texts() -> None:
    assert how("Which planets have rings?") is None
    assert how("Name three primary colours and explain how a painter mixes them.") is None
    assert how("") is None
    assert how("of the following planets in our solar system") is None
    assert len(texts) == 2
