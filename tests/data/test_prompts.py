"""Prompts of rows of any shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.data.prompts import load_prompts, unread_columns
from palate.errors import DataError
from palate.records import Message


def test_half_a_surrogate_pair_is_no_prompt(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"prompt": "a?"}, {"prompt": "b \ud83d?"}, {"instruction": "c", "input": "\ud83d"}
    )
    prompts, dropped = load_prompts(path)
    assert [row_id for row_id, _ in prompts] == ["p.jsonl:1"]
    assert [row.reason for row in dropped] == ["not_text"] * 2


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_shape_ends_before_the_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "a?"},
        {"prompt": "b?", "system": "be brief"},
        {"conversations": [{"from": "human", "value": "c?"}, {"from": "gpt", "value": "no"}]},
        {"instruction": "d", "input": "e"},
        {"prompt": "\n\nHuman: f?\n\nAssistant: yes"},
        {"unrelated": 1},
    )
    prompts, dropped = load_prompts(path)
    assert [messages for _, messages in prompts] == [
        (Message("user", "a?"),),
        (Message("system", "be brief"), Message("user", "b?")),
        (Message("user", "c?"),),
        (Message("user", "d\ne"),),
        (Message("user", "f?"),),
    ]
    assert prompts[0][0].endswith("p.jsonl:1")
    assert [row.reason for row in dropped] == ["missing_prompt"]


def test_the_demo_has_six_prompts() -> None:
    assert len(load_prompts("palate-demo-prompts")[0]) == 6


def test_no_prompt_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has a prompt"):
        load_prompts(write(tmp_path / "p.jsonl", {"x": 1}))


def test_answers_and_scores_of_a_comparison_file_are_named_as_unread(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "a?", "chosen": "yes", "rejected": "no", "id": 3},
        {"prompt": "b?", "system": "be brief", "chosen": "yes", "rejected": "no", "score_chosen": 4.5},
    )
    assert unread_columns(path) == ["chosen", "rejected", "score_chosen"]
    turns = [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "no"}]
    assert unread_columns(write(tmp_path / "m.jsonl", {"messages": turns, "label": True})) == [
        "label",
        "messages (answers)",
    ]
    assert unread_columns(write(tmp_path / "p.jsonl", {"instruction": "d", "input": "e"}, {"prompt": "f"})) == []
