"""The majority of a jury, and the votes of its members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer
from palate.errors import ConfigError
from palate.feedback.candidates import Candidates
from palate.feedback.judges.jury import Jury
from palate.feedback.judges.load import load_judge
from palate.feedback.judging import collect_votes, members_path, questions
from palate.feedback.votes import read_votes
from palate.records import Answer, Columns, Message, Messages, Verdict

PROMPT = (Message("user", "q"),)


class Says:
    """A judge with fixed outcomes; `missing` is a request that failed."""

    def __init__(self, name: str, *outcomes: str) -> None:
        self.name = name
        self.outcomes = outcomes

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        found: list[Any] = list(self.outcomes[: len(prompts)])
        return [Verdict("unparsed", "429", missing=True) if one == "missing" else Verdict(one) for one in found]


@pytest.mark.parametrize(
    ("outcomes", "expected", "probability"),
    [
        (("left", "left", "right"), "left", 2 / 3),
        (("right", "tie", "right"), "right", 1 / 6),
        (("left", "tie", "tie"), "tie", 2 / 3),
        (("left", "right", "tie"), "tie", 1 / 2),
        (("left", "right"), "tie", 1 / 2),
        (("left", "unparsed", "left"), "left", 1),
        (("left", "tie", "unparsed"), "tie", 3 / 4),
        (("left", "unparsed", "unparsed"), "unparsed", None),
        (("left", "unparsed"), "unparsed", None),
    ],
)
def test_the_most_frequent_outcome_decides(outcomes: tuple[str, ...], expected: str, probability: float | None) -> None:
    jury = Jury([Says(str(number), outcome) for number, outcome in enumerate(outcomes)])
    (verdict,) = jury.compare([PROMPT], ["a"], ["b"])
    assert verdict.outcome == expected
    assert verdict.probability_left == (None if probability is None else pytest.approx(probability))
    assert verdict.reason.startswith(f"0: {outcomes[0]}, 1: {outcomes[1]}")


def test_a_member_without_reply_leaves_the_verdict_for_later(tmp_path: Path) -> None:
    jury = Jury([Says("one", "left", "left"), Says("two", "missing", "right")])
    row = Candidates("p:1", PROMPT, (Answer("a", "stop"), Answer("b", "stop")))
    collected = collect_votes(questions([row]), jury, tmp_path / "c.votes.jsonl")
    assert [(question.shown, why) for question, why in collected.missing] == [("left_first", "two: 429")]
    assert [vote.outcome for vote in collected.votes] == ["tie"]


def test_the_members_votes_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    jury = Jury([Says("one", "left", "right"), Says("two", "left", "tie")])
    row = Candidates("p:1", PROMPT, (Answer("a", "stop"), Answer("b", "stop")))
    path = tmp_path / "c.votes.jsonl"
    collected = collect_votes(questions([row]), jury, path)
    assert [vote.who for vote in read_votes(path)] == ["jury:one,two"] * 2
    assert [vote.outcome for vote in collected.votes] == ["left", "tie"]
    kept = read_votes(members_path(path))
    # With the right answer first, the verdict `right` is for the left one.
    assert [(vote.who, vote.shown, vote.outcome) for vote in kept] == [
        ("one", "left_first", "left"),
        ("two", "left_first", "left"),
        ("one", "right_first", "left"),
        ("two", "right_first", "tie"),
    ]


def test_a_jury_of_rules() -> None:
    jury = load_judge("jury:length:shorter,length:longer,lexicon:-bb")
    (verdict,) = jury.compare([PROMPT], ["a"], ["bb"])
    assert [(name, one.outcome) for name, one in verdict.members] == [
        ("length:shorter", "left"),
        ("length:longer", "right"),
        ("lexicon:-bb", "left"),
    ]
    assert verdict.outcome == "left"


def test_a_jury_asks_again(endpoint: ChatServer) -> None:
    jury = load_judge("jury:openai:m,length:longer")
    assert isinstance(jury, Jury)
    again = jury.uncached()
    for one in (jury, jury, again):
        assert one.compare([PROMPT], ["a"], ["bb"])[0].outcome == "right"
    assert (len(endpoint.requests), again.name) == (2, jury.name)


@pytest.mark.parametrize("spec", ["jury:", "jury:length", "jury:length,length", "jury:length,"])
def test_what_is_no_jury_is_said(spec: str) -> None:
    with pytest.raises(ConfigError, match="two or more different judges"):
        load_judge(spec)
