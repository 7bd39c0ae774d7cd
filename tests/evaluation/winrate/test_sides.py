"""What a side may be, and recorded answers to prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import DataError, UsageError
from palate.evaluation.winrate.sides import check_different, check_weights, read_side, recorded_answers
from palate.records import Message, Record
from runs import write_rows


def ask(name: str, text: str) -> Record:
    return Record(id=name, prompt=(Message("user", text),))


def test_names_of_sides(tmp_path: Path) -> None:
    assert read_side("openai:m@http://h/v1").url == "http://h/v1"
    assert read_side("openai:m@http://h/v1").folder is None
    assert read_side(str(tmp_path)).folder == tmp_path
    with pytest.raises(UsageError, match="no such file of recorded answers"):
        read_side("absent.jsonl")


def test_a_model_against_itself() -> None:
    with pytest.raises(UsageError, match="against itself"):
        check_different(read_side("openai:m@http://h/v1"), read_side("openai:m@http://h/v1"))
    check_different(read_side("openai:m@http://h/v1"), read_side("openai:m@http://other/v1"))
    check_weights(("a", "b"), (frozenset({"1"}), frozenset({"2"})))
    check_weights(("a", "b"), (frozenset(), frozenset()))  # nothing is known
    with pytest.raises(UsageError, match=r"a and b have the same weights \(1\)"):
        check_weights(("a", "b"), (frozenset({"1", "3"}), frozenset({"1", "2"})))


def test_answers_are_found_by_id_then_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"id": "p:1", "prompt": "one", "completions": ["by id", "second"], "identity": "w1"},
        {"id": "p:2", "prompt": "other", "completions": ["id of another prompt"]},
        {"id": "x:3", "prompt": "two", "completions": ["by prompt"]},
        {"id": "x:4", "prompt": "two", "completions": ["by prompt, again"]},
    ]
    prompts = [ask("p:1", "one"), ask("p:2", "two"), ask("p:3", "two"), ask("p:4", "two")]
    found = recorded_answers(write_rows(tmp_path / "a.jsonl", rows), prompts)
    assert {name: one.completions[0].text for name, one in found.answers.items()} == {
        "p:1": "by id",
        "p:2": "by prompt",
        "p:3": "by prompt, again",
    }
    assert found.missing == {"p:4": "a.jsonl has no answer"}
    assert found.identities == {"w1"}
    assert found.unused == 2
    with pytest.raises(DataError, match="has no answer to any prompt"):
        recorded_answers(tmp_path / "a.jsonl", [ask("p:9", "nine")])
