"""Every two answers in both orders, nothing asked twice, and verdicts turned the right way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from palate.errors import UsageError
from palate.feedback.candidates import Candidates
from palate.feedback.judging import collect_votes, judge, questions
from palate.feedback.votes import read_votes
from palate.records import Answer, Columns, Message, Messages, Verdict

PROMPT = (Message("user", "q"),)


def row(name: str, *texts: str) -> Candidates:
    return Candidates(name, PROMPT, tuple(Answer(text, "stop") for text in texts))


class Longest:
    """Prefers the longer answer; remembers what it was shown."""

    name = "longest"

    def __init__(self, dies_after: int = 10**6) -> None:
        self.shown: list[tuple[str, str]] = []
        self._dies_after = dies_after

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        if len(self.shown) >= self._dies_after:
            raise KeyboardInterrupt
        self.shown += zip(left, right)
        return [
            Verdict("left" if len(a) > len(b) else "right", probability_left=0.9 if len(a) > len(b) else 0.1)
            for a, b in zip(left, right)
        ]


def test_both_orders_are_asked_and_agree(tmp_path: Path) -> None:
    judge = Longest()
    votes = collect_votes(questions([row("a", "x", "yyy")]), judge, tmp_path / "votes.jsonl").votes
    assert judge.shown == [("x", "yyy"), ("yyy", "x")]
    assert [(vote.left, vote.right, vote.outcome, vote.shown) for vote in votes] == [
        (0, 1, "right", "left_first"),
        (0, 1, "right", "right_first"),
    ]
    assert [vote.probability_left for vote in votes] == pytest.approx([0.1, 0.1])


def test_equal_answers_are_not_asked_about() -> None:
    asked = questions([row("a", "x", "x ", "y"), row("b", "z", "z")])
    assert [(one.row.id, one.left, one.right) for one in asked[::2]] == [("a", 0, 2), ("a", 1, 2)]


def test_a_limit_draws_by_seed_and_row() -> None:
    rows = [row(name, "1", "22", "333", "4444") for name in ("a", "b", "c")]

    def drawn(candidates: list[Candidates], seed: int) -> list[tuple[str, int, int]]:
        asked = questions(candidates, per_prompt=2, seed=seed)
        return sorted((one.row.id, one.left, one.right) for one in asked[::2])

    assert len(drawn(rows, 0)) == 6
    assert drawn(rows, 0) == drawn(rows[::-1], 0)
    assert any(drawn(rows, 0) != drawn(rows, seed) for seed in range(1, 5))


def test_a_limit_of_none_is_not_taken_for_equal_answers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="per_prompt is 0; give 1 or more"):
        judge([row("a", "x", "yy")], Longest(), tmp_path / "v.jsonl", per_prompt=0)


def test_a_killed_judging_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked = questions([row(str(n), "x", "yy", "zzz") for n in range(20)])
    path = tmp_path / "v.jsonl"
    with pytest.raises(KeyboardInterrupt):
        collect_votes(asked, Longest(dies_after=64), path)
    assert len(read_votes(path)) == 64
    second = Longest()
    votes = collect_votes(asked, second, path).votes
    assert len(second.shown) == len(asked) - 64
    assert len(votes) == len(asked) == len(read_votes(path))
    assert {vote.key for vote in votes} == {vote.key for vote in read_votes(path)}


class Unsteady(Longest):
    """Gives no reply about answers of one character, and scores with every verdict."""

    name = "unsteady"

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        found = super().compare(prompts, left, right, columns)
        return [
            Verdict("unparsed", "busy", missing=True)
            if 1 in (len(a), len(b))
            else replace(verdict, dimensions={"length": (len(a), len(b))})
            for verdict, a, b in zip(found, left, right)
        ]


def test_a_question_without_reply_is_listed_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    asked = questions([row("a", "x", "yy", "zzz")])
    collected = collect_votes(asked, Unsteady(), path)
    assert (collected.asked, len(collected.votes), len(read_votes(path))) == (6, 2, 2)
    assert [(one.left, one.right, why) for one, why in collected.missing] == [
        (0, 1, "busy"),
        (0, 1, "busy"),
        (0, 2, "busy"),
        (0, 2, "busy"),
    ]
    assert collected.missing_lines(most=1) == [
        "missing              a answers 0 and 1, left_first: busy",
        "missing              3 more",
    ]
    again = Unsteady()
    collect_votes(asked, again, path)
    assert len(again.shown) == 4


def test_scores_are_of_left_and_right_in_either_order(tmp_path: Path) -> None:
    votes = collect_votes(questions([row("a", "yy", "zzz")]), Unsteady(), tmp_path / "v.jsonl").votes
    assert [(vote.shown, vote.dimensions) for vote in votes] == [
        ("left_first", {"length": (2, 3)}),
        ("right_first", {"length": (2, 3)}),
    ]
    assert [vote.dimensions for vote in read_votes(tmp_path / "v.jsonl")] == [{"length": (2, 3)}] * 2
