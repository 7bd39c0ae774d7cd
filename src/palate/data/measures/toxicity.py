"""Insults, slurs and threats by a word list: a net for a first look, with no claim to understand a text."""

from __future__ import annotations

import re
from collections.abc import Collection

from palate.data.measures.similarity import tokens

# Stems are matched with their usual endings. Words that are mostly used harmlessly ("stupid", "damn", "die") are not in
# the list, since a list that cries at everything is read by nobody.
_STEMS = " ".join(
    (
        "fuck motherfuck bullshit shithead asshole arsehole bastard bitch cunt dickhead whore slut twat wanker",
        "faggot tranny nigger nigga kike gook wetback raghead towelhead retard",
        "arschloch hurensohn wichser fotze missgeburt kanake schwuchtel",
        "connard salope enculé putain pédé bougnoule",
        "puta cabrón maricón gilipollas hijoputa pendejo stronzo vaffanculo puttana frocio caralho viado",
    )
).split()
_PHRASES = (
    r"kill (?:your|him|her|them)sel(?:f|ves)",
    r"(?:i|we)(?:'ll| will| am going to|'m going to) (?:kill|rape|stab|shoot|beat up) (?:you|him|her|them)",
    r"you (?:should|deserve to) (?:die|be (?:killed|raped|shot))",
    r"(?:gas|exterminate|lynch) (?:the|all) \w+",
    r"go back to your (?:own )?country",
    r"sub-?human (?:scum|filth|trash)",
    r"(?:worthless|disgusting|filthy) (?:piece of (?:shit|trash|garbage)|pigs?|vermin|animals?)",
)
_ENDINGS = ("", "s", "es", "er", "ers", "ed", "ing", "in", "y", "face", "head", "n", "en")
_FORMS = frozenset(stem + ending for stem in _STEMS for ending in _ENDINGS)
_PHRASE = re.compile(rf"\b(?:{'|'.join(_PHRASES)})\b", re.IGNORECASE)
# No phrase matches a text without one of these words, so the pattern need not look.
_IN_EVERY_PHRASE = frozenset(
    ["kill", "rape", "stab", "shoot", "beat", "die", "killed", "raped", "shot", "gas", "exterminate", "lynch"]
).union(["country", "subhuman", "human", "worthless", "disgusting", "filthy"])


def toxic_words(text: str, words: Collection[str] | None = None) -> list[str]:
    """What the list knows in a text, in lower case: single words in order, then phrases.

    Args:
        text: to look at.
        words: its `tokens`, where they are at hand.
    """
    words = tokens(text) if words is None else words
    found = [word for word in words if word in _FORMS]
    if not _IN_EVERY_PHRASE.isdisjoint(words):
        found += [match[0].lower() for match in _PHRASE.finditer(text)]
    return found
