"""What is remembered of a row is small, whatever the row says, and adds up the same in any parts."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import fields

from palate.data.inspect.glance import Glance, Glancer
from palate.data.inspect.problems import Collector
from palate.data.inspect.row_ids import RowIds
from palate.records import Message, PreferencePair

WORDS = [f"{a}{b}{c}" for a in "bdfklmnprst" for b in "aeiou" for c in ("r", "st", "nd", "ll", "")]


def pair(number: int, words: int = 60) -> PreferencePair:
    chance = random.Random(number)

    def said(role: str) -> tuple[Message, ...]:
        return (Message(role, " ".join(chance.choices(WORDS, k=words))),)  # type: ignore[arg-type]

    return PreferencePair(
        id=f"f.jsonl:{number}",
        prompt=(Message("system", f"You are expert {number}."), *said("user")),
        chosen=said("assistant"),
        rejected=said("assistant"),
    )


def test_a_row_takes_a_few_hundred_bytes() -> None:
    rows = 2000
    glances = [Glancer(5)([pair(number) for number in range(start, start + 250)]) for start in range(0, rows, 250)]
    whole, ids = Glance(Collector(5)), RowIds()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for place, glance in enumerate(glances):
            whole.absorb(glance)
            for number in range(place * 250, place * 250 + 250):
                ids.append(f"a-rather-long-name-of-a-file.jsonl:{number}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Some 230 bytes and what arrays and bytes keep in reserve; a thousand system texts are kept by name at most.
    assert (after - before - 1000 * 200) / rows < 350
    assert len(whole.signatures) == 128 * rows


def test_parts_add_up_to_the_whole() -> None:
    records = [pair(number, words=5) for number in range(60)]
    once, parts = Glancer(3)(records), Glance(Collector(3))
    for start in (0, 7, 40):
        parts.absorb(Glancer(3)(records[start : {0: 7, 7: 40, 40: 60}[start]]))
    for field in fields(Glance):
        if field.name == "problems":
            assert parts.problems.problems(60) == once.problems.problems(60)
        else:
            assert getattr(parts, field.name) == getattr(once, field.name), field.name
