"""The word list finds insults and threats and leaves harmless look-alikes alone."""

from __future__ import annotations

import pytest

from palate.data.measures.toxicity import toxic_words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("You fucking idiot.", ["fucking"]),
        ("What a BITCH!", ["bitch"]),
        ("du arschloch", ["arschloch"]),
        ("I'll kill you tomorrow.", ["i'll kill you"]),
        ("You deserve to die, go back to your country", ["you deserve to die", "go back to your country"]),
        ("You worthless piece of trash.", ["worthless piece of trash"]),
    ],
)
def test_found(text: str, found: list[str]) -> None:
    assert toxic_words(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Add the spice and spicy peppers, then dress the bass.",
        "How do I kill a Python process?",
        "The Scunthorpe council in Essex assessed the class.",
        "Humans should not die of thirst in any country.",
        "Troia and the piranha, a dyke in Holland, a chink in the armour.",
        "",
    ],
)
def test_not_found(text: str) -> None:
    assert toxic_words(text) == []
