"""Lists and objects that a cell holds as text."""

from __future__ import annotations

from typing import Any

import pytest

from palate.data.turns.cells import RowError, literal, parsed_list


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('[{"a": null, "b": true}]', [{"a": None, "b": True}]),
        ("[{'a': None, 'b': True}]", [{"a": None, "b": True}]),
        ("[{'a': 'it\\'s'}\n {'a': \"}\\n {\"}]", [{"a": "it's"}, {"a": "}\n {"}]),
        ("  {'a': 1} ", {"a": 1}),
        (r"[{'a': '\d'}]", [{"a": "\\d"}]),
        ("['a', 'b']", ["a", "b"]),
        ("text", None),
        ("[not a list]", None),
        ("[{'a': __import__('os')}]", None),
        ("{'a', 'b'}", None),
        ("[" * 100_000, None),
        ('"[1]"', None),
        ("", None),
    ],
)
def test_literals(said: str, found: Any) -> None:
    assert literal(said) == found


def test_a_literal_may_not_be_long() -> None:
    assert literal(f"['{'x' * 1000}']") == ["x" * 1000]
    assert literal(f"['{'x' * (1 << 20)}']") is None


def test_a_list_as_text() -> None:
    assert parsed_list("[1, 2]", "m") == parsed_list((1, 2), "m") == [1, 2]
    for value, words in (("{}", "not a JSON or Python list"), ("x", "not a JSON or Python list"), (None, "m is null")):
        with pytest.raises(RowError, match=words):
            parsed_list(value, "m")
