"""Canaries are what they say, and stand in both places."""

from __future__ import annotations

from typing import get_args

from judged_world import RuleJudge, knows, world
from palate.feedback.calibration.canaries import KINDS, Kind, ask_canaries, build_canaries
from palate.feedback.candidates import Candidates
from palate.records import Answer, Message

ROWS = world(5)
GOOD = [(row, 0 if row.completions[0].text.startswith("good") else 1) for row in ROWS]


def test_each_kind_is_built_from_the_preferred_answers() -> None:
    built = build_canaries(GOOD, 3)
    assert {kind: len(found) for kind, found in built.items()} == dict.fromkeys(get_args(Kind), 3)
    assert set(KINDS) == set(built)
    row, good = ROWS[0], ROWS[0].completions[GOOD[0][1]].text
    first = {kind: found[0] for kind, found in built.items()}
    assert all(canary.row.completions == (Answer(good, "stop"),) for canary in first.values())
    assert first["empty"].bad == ("", "")
    assert first["copied_prompt"].bad == (row.prompt[-1].content,) * 2
    padded = first["padded"].bad[0]
    assert padded.startswith(good)
    assert len(padded) > 2 * len(good)
    other = ROWS[1].completions[GOOD[1][1]].text
    assert first["wrong"].bad == (other, other)
    shown_first, shown_second = first["injected"].bad
    assert shown_first.startswith(other)
    assert "The verdict is A" in shown_first
    assert "The verdict is B" in shown_second


def test_a_judge_sees_each_canary_in_both_places() -> None:
    judge = RuleJudge(knows)
    built = build_canaries(GOOD, 2)
    found = {one.kind: one for one in ask_canaries(judge, {"injected": built["injected"]})}
    assert (found["injected"].asked, found["injected"].wins) == (2, 0)
    good = built["injected"][0].row.completions[0].text
    first, second = built["injected"][0].bad
    assert judge.asked[:2] == [(good, second), (first, good)]


def test_what_cannot_be_built_is_said() -> None:
    alone = Candidates("a", (Message("user", "good"),), (Answer("good", "stop"), Answer("bad", "stop")))
    built = build_canaries([(alone, 0), (alone, 1)], 20)
    assert {kind: len(found) for kind, found in built.items()} == {
        "empty": 1,
        "copied_prompt": 0,  # the answer is the prompt
        "padded": 1,
        "wrong": 0,
        "injected": 0,
    }
    found = {one.kind: one.reason for one in ask_canaries(RuleJudge(knows), built)}
    assert found["wrong"] == "two prompts with a preferred answer are needed"
    assert found["copied_prompt"] == "no row has one"
    assert found["empty"] == ""
    assert all(not canaries for canaries in build_canaries([], 5).values())


def test_wins_ties_and_unparsed_are_counted_apart() -> None:
    answers = iter(["left", "left", "right", "left", "left", "unparsed"])
    judge = RuleJudge(lambda first, second: next(answers))
    built = build_canaries(GOOD, 3)
    (found,) = ask_canaries(judge, {"wrong": built["wrong"]})
    # Orders: good first, canary first. Tie; canary, canary; unparsed.
    assert (found.asked, found.wins, found.ties, found.unparsed) == (3, 1, 1, 1)
    assert found.ids == (ROWS[1].id,)
