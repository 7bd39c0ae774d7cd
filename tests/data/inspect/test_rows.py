"""The table is small, whatever the rows contain, and the same if it is built in parts."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd

from palate.data.inspect.inspection import Problems
from palate.data.inspect.rows import measure_rows
from palate.records import Message, PreferencePair

WORDS = [f"{a}{b}{c}" for a in "bdfklmnprst" for b in "aeiou" for c in ("r", "st", "nd", "ll", "")]


def pair(number: int, words: int = 60) -> PreferencePair:
    rng = random.Random(number)

    def turn(role: str) -> tuple[Message, ...]:
        return (Message(role, " ".join(rng.choices(WORDS, k=words))),)  # type: ignore[arg-type]

    return PreferencePair(
        id=f"f.jsonl:{number}",
        prompt=(Message("system", f"You are expert {number}."), *turn("user")),
        chosen=turn("assistant"),
        rejected=turn("assistant"),
    )


def test_a_row_takes_a_few_hundred_bytes() -> None:
    measured = measure_rows([pair(number) for number in range(2000)], samples=5)
    size = measured.frame.memory_usage(deep=True).sum() + measured.signatures.nbytes
    # 128 bytes of signature, the beginning of a system text of its own for each row, and numbers.
    assert size / 2000 < 350


def test_parts_add_up_to_the_whole() -> None:
    records = [pair(number, words=5) for number in range(60)]
    whole = measure_rows(records, samples=3)
    parts = [measure_rows(records[start:end], samples=3) for start, end in ((0, 7), (7, 40), (40, 60))]
    problems = Problems(3)
    for part in parts:
        problems.add_all(part.problems)
    pd.testing.assert_frame_equal(pd.concat([part.frame for part in parts], ignore_index=True), whole.frame)
    assert (np.concatenate([part.signatures for part in parts]) == whole.signatures).all()
    assert problems.listed(60) == whole.problems.listed(60)
