"""A hundred thousand pairs made of a few thousand real ones: sentences recombined, with near and exact duplicates.

    python benchmarks/_recombined.py --rows 100000 --out pairs.jsonl DATASET...

Every new pair takes the shape of a real one (how many sentences its prompt and its answers have) and fills it with
sentences drawn from all prompts and all answers of the same source: the words, lengths and languages are real, the
sense is not. Of 100 rows 4 are near-duplicates of an earlier row (a few words swapped in each answer), 1 is the same
row again, and 1 has its two answers exchanged. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.data import load_records
from palate.records import PreferencePair

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
NEAR, SAME, EXCHANGED = 0.04, 0.01, 0.01
_RECENT = 2000


@dataclass(frozen=True)
class _Stock:
    """One source taken apart: per pair the sentences of its prompt and answers, and all of them in one heap."""

    shapes: list[tuple[int, int, int]]
    asked: list[str]
    said: list[str]


def recombined(datasets: Sequence[str], rows: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """`rows` pairs `{prompt, chosen, rejected}`; each dataset gives as many."""
    stocks = [_stock(dataset) for dataset in datasets]
    chance = random.Random(seed)
    recent: list[dict[str, str]] = []
    for number in range(rows):
        draw = chance.random() if recent else 1.0
        if draw < NEAR:
            row = _nearly(chance, chance.choice(recent))
        elif draw < NEAR + SAME:
            row = chance.choice(recent)
        elif draw < NEAR + SAME + EXCHANGED:
            old = chance.choice(recent)
            row = {"prompt": old["prompt"], "chosen": old["rejected"], "rejected": old["chosen"]}
        else:
            row = _new(chance, stocks[number % len(stocks)])
            if len(recent) < _RECENT:
                recent.append(row)
            else:
                recent[chance.randrange(_RECENT)] = row
        yield row


def _stock(dataset: str) -> _Stock:
    records = load_records(dataset, kind=PreferencePair).records
    stock = _Stock([], [], [])
    for record in records:
        prompt, chosen, rejected = (
            _SENTENCE.findall(" ".join(message.content for message in side)) or ["Why?"]
            for side in (record.prompt, record.chosen, record.rejected)
        )
        stock.shapes.append((len(prompt), len(chosen), len(rejected)))
        stock.asked.extend(prompt)
        stock.said.extend(chosen + rejected)
    return stock


def _new(chance: random.Random, stock: _Stock) -> dict[str, str]:
    prompt, chosen, rejected = chance.choice(stock.shapes)
    # Both answers open with the same sentence a quarter of the time, as answers to one question do.
    opening = chance.choice(stock.said) if chance.random() < 0.25 else ""
    return {
        "prompt": "".join(chance.choices(stock.asked, k=prompt)).strip() or "Why?",
        "chosen": (opening + "".join(chance.choices(stock.said, k=chosen))).strip() or "Yes.",
        "rejected": (opening + "".join(chance.choices(stock.said, k=rejected))).strip() or "No.",
    }


def _nearly(chance: random.Random, row: dict[str, str]) -> dict[str, str]:
    def changed(text: str) -> str:
        words = text.split(" ")
        for _ in range(max(1, len(words) // 80)):
            words[chance.randrange(len(words))] = chance.choice(words)
        return " ".join(words) + " Indeed."

    return {"prompt": row["prompt"], "chosen": changed(row["chosen"]), "rejected": changed(row["rejected"])}


def write_recombined(path: Path, datasets: Sequence[str], rows: int, seed: int = 0) -> None:
    """Writes the rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in recombined(datasets, rows, seed):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_recombined(options.out, options.datasets, options.rows, options.seed)
