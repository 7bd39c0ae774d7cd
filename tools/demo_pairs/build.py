"""Compose the demo's comparison set from the hand-written parts beside this file.

    python tools/demo_pairs/build.py            writes src/palate/data/builtin/*.jsonl
    python tools/demo_pairs/build.py --check    exits 1 when a shipped file differs from what the parts make

Every choice is made by a hash of the text it concerns, so a new part changes no pair that is already there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from palate.config.reader import read_yaml_file

PARTS = Path(__file__).parent / "parts"
BUILTIN = Path(__file__).parents[2] / "src" / "palate" / "data" / "builtin"
COPIES = {"train": 2, "heldout": 1}  # how often a part is asked; held-out pairs stay independent of each other
LONGEST_TO_SHORTEST = 1.15  # length of the longer answer by that of the shorter one, where the parts allow it
SHORTEST = 15  # words and marks of an answer, again where the parts allow it


@dataclass(frozen=True, slots=True)
class Part:
    """One hand-written question with what is said for and against.

    Attributes:
        topic: the label by which training and held-out pairs are kept apart.
        kind: `self` (taken for a person), `myth` (a popular error) or `fact` (odd but true).
        ask: the question, or the claim that completes "Is it true that …?".
        good: the clause or the sentences that the chosen answer contains.
        bad: the sentences that the rejected answer contains.
        offers: sentences of which one may end the chosen answer; none for claims.
    """

    topic: str
    kind: str
    ask: str
    good: str
    bad: str
    offers: tuple[str, ...] = ()


def read_parts(split: str) -> list[Part]:
    """All parts of `train` or `heldout`, in the order of the files."""
    parts: list[Part] = []
    for topic, entry in _read(f"self_{split}").items():
        offers = tuple(entry["offers"])
        parts.extend(Part(topic, "self", item["q"], item["ai"], item["human"], offers) for item in entry["questions"])
    for kind in ("myth", "fact"):
        for topic, items in _read(f"{kind}s_{split}").items():
            parts.extend(Part(topic, kind, item["claim"], item["truth"], item["error"]) for item in items)
    return parts


def compose(part: Part, copies: int) -> Iterator[dict[str, Any]]:
    """The pairs of one part in format B2; no two of them share a prompt or a wording."""
    wording = _read("wording")[part.kind]
    for copy in range(copies):

        def dealt(options: Sequence[str], name: str, copy: int = copy) -> list[str]:
            return shuffled(options, f"{part.ask} {name}")[copy::copies]

        prompt = _fill(dealt(wording["prompts"], "prompt")[0], part.ask)
        chosen, rejected = balanced(
            [
                f"{_fill(frame, part.good)} {offer}".rstrip()
                for frame, offer in product(dealt(wording["chosen"], "chosen"), ["", *dealt(part.offers, "offer")])
            ],
            [_fill(frame, part.bad) for frame in dealt(wording["rejected"], "rejected")],
            chosen_longer=(_hash(part.ask) + copy) % 2 == 0,
        )
        yield {
            "conversations": [{"from": "user", "value": prompt}],
            "chosen": chosen,
            "rejected": rejected,
            "topic": part.topic,
            "kind": part.kind,
        }


def balanced(chosen: Sequence[str], rejected: Sequence[str], *, chosen_longer: bool) -> tuple[str, str]:
    """The first wording in which the wanted side is longer, by little; else the two that differ least in length.

    Length must not tell a model which answer is wanted.
    """
    pairs = [*product(chosen, rejected)]
    for good, bad in pairs:
        longer, shorter = (length(good), length(bad)) if chosen_longer else (length(bad), length(good))
        if SHORTEST <= shorter < longer <= LONGEST_TO_SHORTEST * shorter:
            return good, bad
    return min(pairs, key=lambda pair: abs(length(pair[0]) - length(pair[1])))


def length(text: str) -> int:
    """Words, endings such as 'm and punctuation marks: near a tokenizer's count, and needs no tokenizer."""
    return len(re.findall(r"'?\w+|[^\w\s]", text))


def shuffled(options: Iterable[str], key: str) -> list[str]:
    """The options in an order that depends on them and on `key` alone."""
    return sorted(options, key=lambda option: _hash(f"{key} | {option}"))


def build() -> dict[str, str]:
    """The text of every shipped file, by its name."""
    files = {}
    for split, copies in COPIES.items():
        rows = [_line(row) for part in read_parts(split) for row in compose(part, copies)]
        files[f"demo_{split}.jsonl"] = "".join(shuffled(rows, "order"))
    files["demo_prompts.jsonl"] = "".join(_line(_prompt_row(prompt)) for prompt in _read("demo_prompts"))
    return files


def _prompt_row(prompt: str) -> dict[str, str]:
    for part in read_parts("heldout"):
        if part.ask in prompt:
            return {"prompt": prompt, "topic": part.topic, "kind": part.kind}
    raise SystemExit(f"demo_prompts.yaml: no held-out part asks {prompt!r}; take a question from *_heldout.yaml")


def _fill(frame: str, text: str) -> str:
    """The frame around the text; a question after a colon starts in lower case."""
    if frame.endswith(": {}"):
        text = text[0].lower() + text[1:]
    return frame.format(text)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@cache
def _read(name: str) -> Any:
    return read_yaml_file(PARTS / f"{name}.yaml")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a shipped file differs")
    check = parser.parse_args().check
    differing = []
    for name, text in build().items():
        path = BUILTIN / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differing.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    print(("differs: " if check else "written: ") + (", ".join(differing) or "nothing"))
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
