"""Insults, slurs and threats by a word list: a net for a first look, with no claim to understand a text."""

from __future__ import annotations

import re
from collections.abc import Collection

from palate.data.measures.words import tokens

# Stems are matched with their usual endings. Words that are mostly used harmlessly ("stupid", "damn", "die") are not in
# the list, since a list that cries at everything is read by nobody.
LANGUAGES = ("en", "de", "fr", "es", "it", "pt")
"""ISO 639-1 codes of the languages that the list has words of."""

_STEMS = " ".join(
    (
        "fuck motherfuck bullshit shithead asshole arsehole bastard bitch cunt dickhead whore slut twat wanker",
        "faggot tranny nigger nigga kike gook wetback raghead towelhead retard",
        "arschloch hurensohn wichser fotze missgeburt kanake schwuchtel",
        "connard salope enculé putain pédé bougnoule",
        "puta cabrón maricón gilipollas hijoputa pendejo stronzo vaffanculo puttana frocio caralho viado",
    )
).split()
# Each phrase with words of which a text must have one from either group before the slow pattern is tried.
_PHRASES = tuple(
    (frozenset(first.split()), frozenset(second.split()), re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE))
    for first, second, pattern in (
        (
            "kill",
            "yourself yourselves himself himselves herself herselves themself themselves",
            r"kill (?:your|him|her|them)sel(?:f|ves)",
        ),
        (
            "kill rape stab shoot beat",
            "i i'll i'm we we'll we'm",
            r"(?:i|we)(?:'ll| will| am going to|'m going to) (?:kill|rape|stab|shoot|beat up) (?:you|him|her|them)",
        ),
        ("die killed raped shot", "should deserve", r"you (?:should|deserve to) (?:die|be (?:killed|raped|shot))"),
        ("gas exterminate lynch", "the all", r"(?:gas|exterminate|lynch) (?:the|all) \w+"),
        ("country", "back", r"go back to your (?:own )?country"),
        ("subhuman human", "scum filth trash", r"sub-?human (?:scum|filth|trash)"),
        (
            "worthless disgusting filthy",
            "piece pig pigs vermin animal animals",
            r"(?:worthless|disgusting|filthy) (?:piece of (?:shit|trash|garbage)|pigs?|vermin|animals?)",
        ),
    )
)
_ENDINGS = ("", "s", "es", "er", "ers", "ed", "ing", "in", "y", "face", "head", "n", "en")
_FORMS = frozenset(stem + ending for stem in _STEMS for ending in _ENDINGS)


def toxic_words(text: str, words: Collection[str] | None = None) -> list[str]:
    """What the list knows in a text, in lower case: single words in order, then phrases.

    Args:
        text: to look at.
        words: its `tokens`, where they are at hand.
    """
    words = tokens(text) if words is None else words
    found = [] if _FORMS.isdisjoint(words) else [word for word in words if word in _FORMS]
    for first, second, pattern in _PHRASES:
        if not first.isdisjoint(words) and not second.isdisjoint(words):
            found += [match[0].lower() for match in pattern.finditer(text)]
    return found
