"""Two answers in any spelling: which columns they are, what rates them, and what stays unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.data import Reading, load_records
from palate.data.formats.answer_columns import find_columns, two_ratings
from palate.data.formats.prompts import wide_prompt
from palate.data.formats.voted import label_cells
from palate.records import Message, PreferencePair


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("response_1 response_2", ("response_1", "response_2")),
        ("response2 response1", ("response1", "response2")),
        ("answer_0 answer_1", ("answer_0", "answer_1")),
        ("human_ref_A human_ref_B", ("human_ref_A", "human_ref_B")),
        ("Response A,Response B", ("Response A", "Response B")),
        ("conversation_a conversation_b", ("conversation_a", "conversation_b")),
        ("response_0 response_1 response_2", None),
        ("response_1 response_3", None),
        ("response_j response_k", None),
        ("response_1 answer_2", None),
        ("response_1_score response_2_score", None),
        ("answer1_id answer2_id", None),
    ],
)
def test_the_columns_of_two_answers(names: str, expected: tuple[str, str] | None) -> None:
    assert find_columns(dict.fromkeys(names.split("," if "," in names else " "), "x")).answers == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"score_1": 1, "score_2": "2.5"}, (1, 2.5)),
        ({"Rating_A": 1, "rating_b": 2}, (1, 2)),
        ({"answer_0_reward": 1, "answer_1_reward": 0}, (1, 0)),
        ({"scores": [3, 4]}, (3, 4)),
        ({"score": "[3, 4]"}, (3, 4)),
        ({"score_1": 1, "score_2": None}, None),
        ({"score_1": 1, "score_2": 2, "score_3": 3}, None),
        ({"score_1": 1, "rating_2": 2}, None),
        ({"scores": [1, 2, 3]}, None),
        ({"score": 3}, None),
    ],
)
def test_two_ratings(row: dict[str, Any], expected: tuple[float, float] | None) -> None:
    assert two_ratings(row) == expected


def test_a_winner_that_is_one_of_three_columns() -> None:
    row = {"response_a": "x", "response_b": "y"}
    for won, value in (((0, 1, 0), "model_b"), ((0, 0, 1), "tie"), ((1, 1, 0), None), ((0, 0, 0), None)):
        names = ("winner_model_a", "winner_model_b", "winner_tie")
        cells = label_cells({**row, **dict(zip(names, won, strict=True))}, Reading())
        assert cells is not None
        assert cells.values == (value,)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q"},
        {"context": [{"role": "user", "content": "q"}]},
        {"question": {"full_text": "q", "id": 1}},
        {"prompt": "\n\nHuman: q\n\nAssistant: "},
        {"prompt": "\n\nHuman: q"},
        {"instruction": "q", "input": ""},
    ],
)
def test_the_prompt(row: dict[str, Any]) -> None:
    assert wide_prompt(row, Reading()) == (Message("user", "q"),)


def test_columns_that_are_not_read_are_kept(tmp_path: Path) -> None:
    row = {"prompt": "q", "context": "c", "response_1": "a", "response_2": "b", "label": 1, "score": 3, "lang": "de"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**row, "label": label}) + "\n" for label in (1, 2)), encoding="utf-8")
    loaded = load_records(str(path), kind=PreferencePair)
    assert loaded.records[0].extra == {"context": "c", "score": 3, "lang": "de"}
    assert loaded.sources[0].unknown_columns == ("context", "score", "lang")
