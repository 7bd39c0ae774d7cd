"""Makes rejected answers from chosen ones by adding a known fault: dropped end, swapped numbers, repetition …

A corruption that leaves the answer unchanged raises `RowError("unchanged")`.
"""

# ruff: noqa: ARG001  (all corruptions have one signature, whether they use it or not)

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import TypeAlias

from palate.data.augment.made import Made, new_pair, rng_for, with_last
from palate.data.turns.cells import RowError
from palate.records import PreferencePair

Pairs: TypeAlias = Sequence[PreferencePair]
Corruption: TypeAlias = Callable[[PreferencePair, str, Pairs, Random], tuple[str, str]]
"""(record, its chosen answer, all records, rng) → (the corrupted answer, what was changed)."""

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)?(?![\w]|[.,]\d)")
# The end of a sentence; the dot in 3.5 does not match.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
# A name is a capitalised word after a lower-case word, so not the first word of a sentence.
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")


def dropped_end(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """The answer ends after 50 to 80 % of its characters, in the middle of a word or sentence."""
    if len(answer) < 40:
        raise RowError("too_short", f"{len(answer)} characters are too few to drop an end")
    end = int(len(answer) * rng.uniform(0.5, 0.8))
    return answer[:end].rstrip(" .!?"), f"{len(answer) - end} characters dropped"


def swapped_numbers(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """Every number is changed by at most half its value, years by 1 to 9."""
    changes: list[str] = []

    def swap(match: re.Match[str]) -> str:
        number = match[0]
        if number.isdecimal() and len(number) < 16:
            value = int(number)
            near = range(1, 10) if 1500 <= value <= 2100 else range(1, max(2, value // 2) + 1)
            changed = str(max(0, value + rng.choice((-1, 1)) * rng.choice(near)))
            changed = changed if changed != number else str(value + 1)
        else:
            # In decimals and very long numbers, one digit is changed.
            at = rng.choice([index for index, character in enumerate(number) if character.isdigit()])
            digit = str((int(number[at]) + rng.randint(1, 9)) % 10)
            changed = number[:at] + digit + number[at + 1 :]
        changes.append(f"{number} → {changed}")
        return changed

    corrupted = _NUMBER.sub(swap, answer)
    if not changes:
        raise RowError("no_number", "the answer has no number")
    return corrupted, ", ".join(changes[:5])


def swapped_names(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """A name is swapped with another name in the same answer, or replaced by a name from another answer."""
    names = sorted(set(_NAME.findall(answer)))
    if not names:
        raise RowError("no_name", "the answer has no name inside a sentence")
    name = rng.choice(names)
    pool = [found for found in names if found != name]
    attempts = 0
    while not pool and attempts < 50:
        attempts += 1
        pool = [found for found in _NAME.findall(rng.choice(others).chosen[-1].content) if found != name]
    if not pool:
        raise RowError("no_name", f"no other name than {name} was found")
    replacement = rng.choice(pool)
    # Both directions, so that two names in the same answer are swapped.
    swap = {name: replacement, replacement: name}
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, swap), key=len, reverse=True))})\b")
    return pattern.sub(lambda match: swap[match[0]], answer), f"{name} ↔ {replacement}"


def repetition(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """One sentence is repeated three to five times, as degenerate models do."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(answer)), len(answer)]
    sentences = [answer[start:end] for start, end in pairwise(ends) if answer[start:end].strip()]
    if not sentences:
        raise RowError("too_short", "the answer has no sentence")
    number, times = rng.randrange(len(sentences)), rng.randint(3, 5)
    repeated = (sentences[number].rstrip() + " ") * (times - 1)
    corrupted = "".join([*sentences[: number + 1], repeated, *sentences[number + 1 :]])
    return corrupted, f"sentence {number + 1} × {times}"


def other_topic(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """The answer to another prompt."""
    for _ in range(50):
        other = rng.choice(others)
        if other.prompt != record.prompt and other.chosen[-1].content != answer:
            return other.chosen[-1].content, f"the answer of {other.id}"
    raise RowError("no_other", "no row with another prompt was found")


def ignored_system(record: PreferencePair, answer: str, others: Pairs, rng: Random) -> tuple[str, str]:
    """The answer from a row with another system prompt, with the same question if possible."""
    if not record.prompt or record.prompt[0].role != "system":
        raise RowError("no_system", "the prompt has no system text")
    system, asked = record.prompt[0], record.prompt[1:]
    same = [o for o in others if o.prompt[-1:] == asked[-1:] and o.prompt[0] != system]
    pool = same or [o for o in others if o.prompt[0].role == "system" and o.prompt[0] != system]
    if not pool:
        raise RowError("no_other", "no row has another system text")
    other = rng.choice(pool)
    return other.chosen[-1].content, f"answers the system text of {other.id}"


_ALL: tuple[Corruption, ...] = (
    dropped_end, swapped_numbers, swapped_names, repetition, other_topic, ignored_system,
)  # fmt: skip
CORRUPTIONS: Mapping[str, Corruption] = {function.__name__: function for function in _ALL}
"""Corruptions by name."""

AIMS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("swapped_numbers", "swapped_names"),
    "helpfulness": ("dropped_end", "repetition", "other_topic"),
    "safety": ("ignored_system",),
}
"""The corruptions for each gap that an inspection can report."""


def corrupt(record: PreferencePair, how: str, others: Pairs, seed: int) -> PreferencePair:
    """A pair of the chosen answer and its corrupted copy; raises `RowError` if the corruption does not apply."""
    rng = rng_for(seed, how, record.id)
    worse, note = CORRUPTIONS[how](record, record.chosen[-1].content, others, rng)
    made = Made(how, record.id, seed=seed, note=note)
    return new_pair(record, made, rejected=with_last(record.chosen, worse))
