"""Reviews that a small grammar writes: films to learn and be judged on, meals as a domain that no preference is about.

The parts, written by hand, lie in `worlds/*.yaml`. A review has a tone (kind, unkind, mixed or indifferent) that its
sentences mostly follow; negations and hedges make some of them say less than their words. Nothing here knows how a
review will be scored.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from palate.config.reader import read_yaml_file

DOMAINS = ("films", "meals")
_FOLDER = Path(__file__).resolve().parent / "worlds"
_SLOT = re.compile(r"\{(\w+)\}")

# How often a sentence of a review of that tone is good, bad, plain, mixed; and how often reviews have that tone. There
# are more unkind ones than kind ones because negations and titles ("love story") leave a lexicon kinder than the words.
_TONES: Mapping[str, tuple[float, float, float, float]] = {
    "kind": (0.70, 0.08, 0.12, 0.10),
    "unkind": (0.08, 0.70, 0.12, 0.10),
    "torn": (0.28, 0.28, 0.10, 0.34),
    "cool": (0.14, 0.14, 0.62, 0.10),
}
_SHARES: Mapping[str, tuple[float, ...]] = {"films": (0.14, 0.46, 0.2, 0.2), "meals": (0.22, 0.32, 0.23, 0.23)}
_POLARITIES = ("good", "bad", "plain", "mixed")
_MANNERS = (("said", 0.48), ("acted", 0.26), ("hedged", 0.13), ("denied", 0.13))


@dataclass(frozen=True, slots=True)
class Review:
    """One review.

    Attributes:
        text: whole.
        words: how many of its first words are the prompt: 4 to 8, less where fewer than two would be left.
    """

    text: str
    words: int

    @property
    def prompt(self) -> str:
        return " ".join(self.text.split(" ")[: self.words])

    @property
    def completion(self) -> str:
        """What comes after the prompt, with the space before it: the two texts one after the other are the review."""
        return self.text[len(self.prompt) :]


def reviews(domain: str, count: int, seed: int) -> list[Review]:
    """`count` reviews of which no two begin with the same prompt, drawn by `seed`.

    Args:
        domain: one of `DOMAINS`.
    """
    found: dict[str, Review] = {}
    for review in _stream(domain, seed):
        found.setdefault(review.prompt, review)
        if len(found) == count:
            break
    return list(found.values())


def _stream(domain: str, seed: int) -> Iterator[Review]:
    rng = random.Random(f"{domain} {seed}")  # noqa: S311
    while True:
        tone = rng.choices(list(_TONES), _SHARES[domain])[0]
        text = _review(tone, _parts(domain), rng)
        yield Review(text, min(rng.randint(4, 8), text.count(" ") - 1))


@lru_cache
def _parts(domain: str) -> Mapping[str, Any]:
    parts: dict[str, Any] = read_yaml_file(_FOLDER / f"{domain}.yaml")
    return parts


def _review(tone: str, parts: Mapping[str, Any], rng: random.Random) -> str:
    polarity = [_polarity(tone, rng) for _ in range(4)]
    sentences = []
    if rng.random() < 0.6:
        sentences.append(_filled(rng.choice(parts["opening"]), "plain", parts, rng))
    first = _clause(polarity[0], parts, rng)
    if rng.random() < 0.45:
        turn = {polarity[0], polarity[1]} == {"good", "bad"}
        link = rng.choice(parts["turned" if turn else "joined"])
        first = f"{first}, {link} {_clause(polarity[1], parts, rng)}"
    sentences.append(first)
    if rng.random() < 0.4:
        sentences.append(_clause(polarity[2], parts, rng))
    if rng.random() < 0.55:
        sentences.append(_filled(rng.choice(parts["closing"]), polarity[3], parts, rng))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _polarity(tone: str, rng: random.Random) -> str:
    return rng.choices(_POLARITIES, _TONES[tone])[0]


def _clause(polarity: str, parts: Mapping[str, Any], rng: random.Random) -> str:
    if polarity == "mixed":
        return _filled(rng.choice(parts["mixed"]), polarity, parts, rng)
    manners, weights = zip(*_MANNERS, strict=True)
    manner = rng.choices(manners, weights)[0]
    frames = parts["acted" if polarity == "plain" and manner == "denied" else manner]
    return _filled(rng.choice(frames), polarity, parts, rng)


def _filled(frame: str, polarity: str, parts: Mapping[str, Any], rng: random.Random) -> str:
    """The frame with every slot drawn; one that stands twice gets two different values."""
    drawn: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        choices = _choices(match[1], polarity, parts, rng)
        value = rng.choice([one for one in choices if one not in drawn] or choices)
        drawn.add(value)
        return value

    return _SLOT.sub(fill, frame)


def _choices(slot: str, polarity: str, parts: Mapping[str, Any], rng: random.Random) -> Sequence[str]:
    side = rng.choice(("good", "bad")) if polarity == "mixed" else polarity
    if slot in ("act", "end"):
        return list(parts[f"{side}_{slot}"])
    if slot == "denied":  # "not awful" is how a kind reviewer says it
        return _tones({"good": "bad", "bad": "good"}.get(side, side), parts, rng)
    if slot in ("tone", "good", "bad"):
        return _tones(side if slot == "tone" else slot, parts, rng)
    return list(parts[slot])


def _tones(side: str, parts: Mapping[str, Any], rng: random.Random) -> Sequence[str]:
    phrases = parts[f"{side}_tone"]
    return list(phrases if side == "plain" else phrases["strong" if rng.random() < 0.4 else "mild"])
