"""Must-pass prompts: patterns that answers must and must not have, and the file that a gate reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import write_json
from palate.errors import DataError
from palate.evaluation.logs.read import read_log
from palate.evaluation.must_pass import must_pass
from palate.records import Answer, Message, Record


class Echo:
    """Answers each prompt with its own text; greedy, or it fails."""

    name, identity = "echo", None

    def answers(self, prompts: Sequence[Any], decoding: Any, seeds: Any, *, tools: Any = None) -> list[Answer]:
        assert decoding.temperature == 0
        return [Answer(prompt[-1].text, "stop") for prompt in prompts]


def row(name: str, text: str, **columns: Any) -> Record:
    return Record(id=name, prompt=(Message("user", text),), extra=columns)


def test_patterns(tmp_path: Path) -> None:
    rows = [
        row("a", "Call 112 now", must=r"\b112\b"),
        row("b", "Call 1120 now", must=r"\b112\b"),
        row("c", "I am SORRY", must="i am", must_not=["cannot", "sorry"]),
        row("d", "Here you are", must_not="sorry"),
    ]
    checked, values = must_pass(rows, Echo(), max_new_tokens=9)
    assert [one.misses for one in checked] == [(), (r"has no \b112\b",), ("has sorry",), ()]
    write_json(tmp_path / "m.json", {"kind": "must-pass", "items": values.to_json()})
    assert read_log(tmp_path / "m.json").metrics == {"passed": {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0}}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "neither must nor must_not"),
        ({"must": 3}, "must be a text or a list"),
        ({"must": "("}, "in a regular"),
    ],
)
def test_wrong_rows_are_named(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"p1: .*{said}"):
        must_pass([row("p1", "x", **columns)], Echo(), max_new_tokens=9)
