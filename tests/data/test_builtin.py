"""The comparison set of the demo: what ships is what the parts make, and no side is told by its length."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palate.data import load_records
from palate.records import PreferencePair

REPOSITORY = Path(__file__).resolve().parents[2]
BUILTIN = REPOSITORY / "src" / "palate" / "data" / "builtin"
KINDS = ("self", "myth", "fact")
WORDS = re.compile(r"'?\w+|[^\w\s]")


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (BUILTIN / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("demo_pairs_build", REPOSITORY / "tools" / "demo_pairs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def train() -> list[dict[str, Any]]:
    return rows_of("demo_train.jsonl")


@pytest.fixture(scope="module")
def heldout() -> list[dict[str, Any]]:
    return rows_of("demo_heldout.jsonl")


def prompt_of(row: dict[str, Any]) -> str:
    (turn,) = row["conversations"]
    assert turn["from"] == "user"
    return turn["value"]


def test_shipped_files_are_what_the_parts_make(build: ModuleType) -> None:
    made = build.build()
    assert set(made) == {path.name for path in BUILTIN.glob("*.jsonl")}
    for name, text in made.items():
        assert (BUILTIN / name).read_text(encoding="utf-8") == text, f"run tools/demo_pairs/build.py: {name} differs"


def test_counts(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    assert len(train) >= 700
    assert len(heldout) >= 130
    for rows in (train, heldout):
        kinds = Counter(row["kind"] for row in rows)
        assert set(kinds) == set(KINDS)
        assert kinds["fact"] >= 0.1 * len(rows)
        assert min(kinds["self"], kinds["myth"]) >= 0.4 * len(rows)


@pytest.mark.parametrize("name", ["palate-demo", "palate-demo-heldout"])
def test_every_row_loads_as_a_pair(name: str) -> None:
    loaded = load_records(name, kind=PreferencePair)
    assert loaded.dropped == []
    file = {"palate-demo": "demo_train.jsonl", "palate-demo-heldout": "demo_heldout.jsonl"}[name]
    for record, row in zip(loaded.records, rows_of(file), strict=True):
        assert [message.content for message in record.prompt] == [prompt_of(row)]
        assert [message.content for message in record.chosen] == [row["chosen"]]
        assert [message.content for message in record.rejected] == [row["rejected"]]


def test_no_topic_and_no_part_is_on_both_sides(
    build: ModuleType, train: list[dict[str, Any]], heldout: list[dict[str, Any]]
) -> None:
    assert {row["topic"] for row in train}.isdisjoint(row["topic"] for row in heldout)
    sides = [build.read_parts(split) for split in ("train", "heldout")]
    for text in ("ask", "good", "bad"):
        ours, theirs = ({getattr(part, text) for part in side} for side in sides)
        assert ours.isdisjoint(theirs), f"{text}: {ours & theirs}"


def test_no_duplicates_and_no_equal_pairs(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    rows = [*train, *heldout]
    assert [prompt for prompt, count in Counter(map(prompt_of, rows)).items() if count > 1] == []
    for side in ("chosen", "rejected"):
        assert [text for text, count in Counter(row[side] for row in rows).items() if count > 1] == []
    assert [row for row in rows if row["chosen"] == row["rejected"]] == []


def test_no_part_is_written_twice(build: ModuleType) -> None:
    parts = build.read_parts("train") + build.read_parts("heldout")
    for text in ("ask", "bad"):
        assert [seen for seen, count in Counter(getattr(part, text) for part in parts).items() if count > 1] == []


def test_answers_are_clean_sentences(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    for row in [*train, *heldout]:
        assert prompt_of(row).endswith(("?", "."))
        for text in (row["chosen"], row["rejected"]):
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert re.search(r"\s\s|[{}]|\.\.| [.,?]|^\s|\s$", text) is None, text
            assert 10 <= len(WORDS.findall(text)) <= 45, text


def test_length_does_not_tell_the_sides_apart(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    for rows in (train, heldout):
        for kinds, least in ((KINDS, 0.4), *(((kind,), 0.3) for kind in KINDS)):
            lengths = [
                (len(WORDS.findall(row["chosen"])), len(WORDS.findall(row["rejected"])))
                for row in rows
                if row["kind"] in kinds
            ]
            assert 0.93 <= statistics.mean(good / bad for good, bad in lengths) <= 1.07
            longer = sum(good > bad for good, bad in lengths) / len(lengths)
            assert least <= longer <= 1 - least, f"{kinds}: chosen is longer in {longer:.0%}"


def test_openings_vary(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    for rows in (train, heldout):
        for kind in KINDS:
            for side in ("chosen", "rejected"):
                of_kind = [row for row in rows if row["kind"] == kind]
                openings = Counter(" ".join(row[side].split()[:3]) for row in of_kind).most_common()
                assert openings[0][1] <= 0.36 * len(of_kind), f"{kind} {side}: {openings[0]}"
                assert len(openings) >= 6, f"{kind} {side}: {openings}"


def test_demo_prompts_are_held_out(heldout: list[dict[str, Any]]) -> None:
    prompts = rows_of("demo_prompts.jsonl")
    assert len(prompts) == 6
    assert Counter(row["kind"] for row in prompts) == {"self": 3, "myth": 3}
    assert {row["topic"] for row in prompts} <= {row["topic"] for row in heldout}
    assert len({row["prompt"] for row in prompts}) == 6


def test_a_new_part_changes_no_other_pair(build: ModuleType) -> None:
    part = build.Part("a", "myth", "cheese is made of stone", "It is made of milk.", "It is cut out of a quarry.")
    other = build.Part("b", "myth", "paper is made of milk", "It is made of wood.", "It is made by cows.")
    alone = list(build.compose(part, 2))
    list(build.compose(other, 2))
    assert list(build.compose(part, 2)) == alone
    assert len({json.dumps(pair) for pair in alone}) == 2


def test_balanced_prefers_the_wanted_side_to_be_longer_by_little(build: ModuleType) -> None:
    fifteen, sixteen = " ".join("abcdefghijklmno"), " ".join("abcdefghijklmnop")
    chosen, rejected = [fifteen, sixteen], [fifteen.upper(), "A B C"]
    assert build.balanced(chosen, rejected, chosen_longer=True) == (sixteen, fifteen.upper())
    # No rejected wording is longer than a chosen one, so the nearest in length wins.
    assert build.balanced(chosen, rejected, chosen_longer=False) == (fifteen, fifteen.upper())
