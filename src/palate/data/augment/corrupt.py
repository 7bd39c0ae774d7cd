"""Rejected answers made from chosen ones by a known fault: dropped end, swapped numbers or names, repetition …

Every corruption is checked: one that leaves the answer as it was is a `RowError("unchanged")`, never a row.
"""

# ruff: noqa: ARG001  (all corruptions have one signature, whether they use it or not)

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from palate.data.augment.made import Made, chance_for, new_pair, with_last
from palate.data.turns.messages import RowError
from palate.records import PreferencePair

Corruption: TypeAlias = "Callable[[PreferencePair, str, Sequence[PreferencePair], random.Random], tuple[str, str]]"
"""(record, its chosen answer, all records, draws) → (the corrupted answer, what was changed)."""

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)?(?![\w]|[.,]\d)")
# Where one sentence ends and the next begins; the dot of 3.5 is none.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
# A name is a capitalised word that follows a word in small letters: a sentence's first word is none.
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")


def dropped_end(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """The answer stops in the middle of a word or sentence, half to four fifths through."""
    if len(answer) < 40:
        raise RowError("too_short", f"{len(answer)} characters are too few to drop an end")
    cut = int(len(answer) * chance.uniform(0.5, 0.8))
    return answer[:cut].rstrip(" .!?"), f"{len(answer) - cut} characters dropped"


def swapped_numbers(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """Every number is another one: by a tenth to a half more or less, years by some years."""
    changes: list[str] = []

    def other(match: re.Match[str]) -> str:
        said = match[0]
        if said.isdecimal() and len(said) < 16:
            value = int(said)
            near = range(1, 10) if 1500 <= value <= 2100 else range(1, max(2, value // 2) + 1)
            changed = str(max(0, value + chance.choice((-1, 1)) * chance.choice(near)))
            changed = changed if changed != said else str(value + 1)
        else:
            # A decimal, or a number too long to count with, keeps its form: one of its digits changes.
            place = chance.choice([index for index, character in enumerate(said) if character.isdigit()])
            digit = str((int(said[place]) + chance.randint(1, 9)) % 10)
            changed = said[:place] + digit + said[place + 1 :]
        changes.append(f"{said} → {changed}")
        return changed

    corrupted = _NUMBER.sub(other, answer)
    if not changes:
        raise RowError("no_number", "the answer has no number")
    return corrupted, ", ".join(changes[:5])


def swapped_names(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """A name is replaced everywhere by another of the same answer, or by one of another answer."""
    names = sorted(set(_NAME.findall(answer)))
    if not names:
        raise RowError("no_name", "the answer has no name inside a sentence")
    name = chance.choice(names)
    pool = [other for other in names if other != name]
    if not pool:
        for _ in range(50):
            found = _NAME.findall(chance.choice(others).chosen[-1].content)
            pool = [other for other in found if other != name]
            if pool:
                break
    if not pool:
        raise RowError("no_name", f"no other name than {name} was found")
    instead = chance.choice(pool)
    # Both ways, so that two names of one answer change places.
    swap = {name: instead, instead: name}
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, swap), key=len, reverse=True))})\b")
    return pattern.sub(lambda match: swap[match[0]], answer), f"{name} ↔ {instead}"


def repetition(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """One sentence comes three to five times, as a degenerate model writes."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(answer)), len(answer)]
    sentences = [answer[start:end] for start, end in pairwise(ends) if answer[start:end].strip()]
    if not sentences:
        raise RowError("too_short", "the answer has no sentence")
    place, times = chance.randrange(len(sentences)), chance.randint(3, 5)
    repeated = sentences[place].rstrip() + " "
    return "".join(
        [*sentences[: place + 1], repeated * (times - 1), *sentences[place + 1 :]]
    ), f"sentence {place + 1} × {times}"


def other_topic(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """The answer to another prompt."""
    for _ in range(50):
        other = chance.choice(others)
        if other.prompt != record.prompt and other.chosen[-1].content != answer:
            return other.chosen[-1].content, f"the answer of {other.id}"
    raise RowError("no_other", "no row with another prompt was found")


def ignored_system(
    record: PreferencePair, answer: str, others: Sequence[PreferencePair], chance: random.Random
) -> tuple[str, str]:
    """The answer that another system prompt called for: to the same question if there is one, else to any."""
    if not record.prompt or record.prompt[0].role != "system":
        raise RowError("no_system", "the prompt has no system text")
    system, asked = record.prompt[0], record.prompt[1:]
    same = [o for o in others if o.prompt[-1:] == asked[-1:] and o.prompt[0] != system]
    pool = same or [o for o in others if o.prompt[0].role == "system" and o.prompt[0] != system]
    if not pool:
        raise RowError("no_other", "no row has another system text")
    other = chance.choice(pool)
    return other.chosen[-1].content, f"answers the system text of {other.id}"


CORRUPTIONS: Mapping[str, Corruption] = {
    "dropped_end": dropped_end,
    "swapped_numbers": swapped_numbers,
    "swapped_names": swapped_names,
    "repetition": repetition,
    "other_topic": other_topic,
    "ignored_system": ignored_system,
}
"""Ways to make an answer worse, by name."""

AIMS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("swapped_numbers", "swapped_names"),
    "helpfulness": ("dropped_end", "repetition", "other_topic"),
    "safety": ("ignored_system",),
}
"""Which corruptions teach what: for the gaps that an inspection names."""


def corrupt(record: PreferencePair, how: str, others: Sequence[PreferencePair], seed: int) -> PreferencePair:
    """The same chosen answer against itself made worse; raises `RowError` where it cannot be made worse that way."""
    chance = chance_for(seed, how, record.id)
    worse, note = CORRUPTIONS[how](record, record.chosen[-1].content, others, chance)
    made = Made(how, record.id, seed=seed, note=note)
    return new_pair(record, made, rejected=with_last(record.chosen, worse))
