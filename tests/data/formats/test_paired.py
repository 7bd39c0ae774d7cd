"""Objects in columns of pairs that a file has as text, in JSON or in Python's notation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from palate.data import Reading
from palate.data.formats.paired import read_openai_pair, stated_dimensions
from palate.data.formats.rows import Origin
from palate.data.turns.cells import RowError
from palate.records import Message

WRITE = pytest.mark.parametrize("write", [lambda value: value, json.dumps, str], ids=["object", "JSON", "Python"])


@WRITE
def test_dimensions(write: Callable[[Any], Any]) -> None:
    row = {"dimensions": write({"helpfulness": [5, 3], "safety": {"chosen": 1, "rejected": 2}, "style": None})}
    assert stated_dimensions(row) == {"helpfulness": (5, 3), "safety": (1, 2)}


@pytest.mark.parametrize("empty", [None, "", "null", {}])
def test_no_dimensions(empty: Any) -> None:
    assert stated_dimensions({"dimensions": empty}) is None


def test_dimensions_that_are_text() -> None:
    with pytest.raises(RowError, match="bad_dimensions: dimensions is high"):
        stated_dimensions({"dimensions": "high"})


@WRITE
def test_the_input_of_an_openai_pair(write: Callable[[Any], Any]) -> None:
    row = {
        "input": write({"messages": [{"role": "user", "content": "q"}]}),
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    assert read_openai_pair(row, Origin("x:1", "x", row, {}), Reading()).prompt == (Message("user", "q"),)


def test_tools_of_an_openai_row_do_not_hide_what_was_noticed() -> None:
    row = {
        "input": {"messages": [{"role": "user", "content": "What is it?"}], "tools": [{"name": "look"}]},
        "preferred_output": [{"role": "assistant", "content": "What is it? A cat."}],
        "non_preferred_output": [{"role": "assistant", "content": "What is it? A dog."}],
    }
    origin = Origin("x:1", "x", row, {}, repeats_prompt=True)
    pair = read_openai_pair(row, origin, Reading())
    assert (pair.chosen[0].content, pair.tools, origin.notices) == ("A cat.", '[{"name": "look"}]', ["prompt_repeated"])
