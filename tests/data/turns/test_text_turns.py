"""Conversations that a file has as text."""

from __future__ import annotations

from typing import Any

import pytest

from palate.data.turns.cells import RowError
from palate.data.turns.messages import Tags
from palate.data.turns.text_turns import columns_of_turns, turns_of_text, with_turns

TURN = {"role": "user", "content": "q"}
AS_JSON = '[{"role": "user", "content": "q"}]'
AS_PYTHON = "[{'content': 'q', 'role': 'user'}]"


@pytest.mark.parametrize(
    ("said", "turns"),
    [
        (AS_JSON, [TURN]),
        (AS_PYTHON, [TURN]),
        ('{"role": "user", "content": "q"}', TURN),
        ('[{"from": "human", "value": "q"}]', [{"from": "human", "value": "q"}]),
        ('[{"role": "user", "content": "q"}, 3]', [TURN, 3]),
        ('{"messages": [{"role": "user", "content": "q"}]}', None),
        ('[{"role": "queen", "age": 3}]', None),
        ("[1, 2]", None),
        ("[]", None),
        ("q", None),
        (None, None),
        ([TURN], None),
    ],
)
def test_turns_of_a_text(said: Any, turns: Any) -> None:
    assert turns_of_text(said) == turns


def test_own_tags() -> None:
    assert turns_of_text('[{"who": "a", "says": "b"}]', Tags(role="who", content="says")) == [{"who": "a", "says": "b"}]
    assert turns_of_text('[{"who": "a", "says": "b"}]') is None


def test_a_column_is_of_turns_where_half_of_its_cells_are() -> None:
    rows = [{"a": AS_JSON, "b": "x", "c": AS_JSON, "tools": AS_JSON}, {"a": "q", "b": AS_JSON, "c": None}, {"b": "y"}]
    assert columns_of_turns(rows) == {"a", "c"}


def test_cells_of_a_column_of_turns() -> None:
    columns = frozenset({"a"})
    assert with_turns({"a": AS_JSON, "b": "[1]"}, columns) == {"a": [TURN], "b": "[1]"}
    assert with_turns({"a": "plain text"}, columns) == {"a": "plain text"}
    for cell in ("[1, 2]", AS_JSON[:-1], '{"role": 1}'):
        with pytest.raises(RowError, match="a is not a list of turns written as text, unlike other rows"):
            with_turns({"a": cell}, columns)


def test_cells_of_a_column_of_texts() -> None:
    none: frozenset[str] = frozenset()
    row = {"a": "[1, 2]", "b": '{"role": "queen"}', "c": '[{"content": "no speaker"}]', "tools": AS_JSON}
    assert with_turns(row, none) is row
    with pytest.raises(RowError, match="unlike other rows"):
        with_turns({"a": AS_JSON}, none)
    with pytest.raises(RowError, match="cannot be parsed"):
        with_turns({"a": AS_PYTHON[:-2]}, none)
    assert with_turns({"a": AS_JSON}, none, frozenset({"b"})) == {"a": AS_JSON}


def test_csv_has_turns_in_any_cell() -> None:
    assert with_turns({"a": AS_JSON, "b": "[1]"}, None) == {"a": [TURN], "b": "[1]"}
