"""Cards of judges with known faults: each fault shows, and nothing is counted that was not judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from judged_world import (
    ChattyJudge,
    RuleJudge,
    SometimesUnparsed,
    always_first,
    better,
    knows,
    knows_prompt,
    longer,
    obeys,
    people,
    world,
)
from palate.errors import DataError
from palate.feedback.calibration import Extent, JudgeCard, measure
from palate.feedback.calibration.verdicts import ask
from palate.feedback.judges.scores import ScoreJudge
from palate.feedback.judging import questions
from palate.feedback.votes import Vote
from palate.records import Judge, Messages

ROWS = world()
VOTES = people(ROWS)
QUICK = Extent(repeats=20, canaries=10, of_prompts=30)


def card_of(judge: Judge, votes: list[Vote] = VOTES) -> JudgeCard:
    return measure(judge, ROWS, votes, extent=QUICK)


def canary(card: JudgeCard, kind: str) -> tuple[int, int]:
    """(asked, wins) of a kind."""
    return next((one.asked, one.wins) for one in card.canaries if one.kind == kind)


def test_a_good_judge_may_decide_alone() -> None:
    card = card_of(ScoreJudge("module:knows", knows_prompt))
    assert (card.verdict, card.reasons) == ("may_decide_alone", ())
    assert card.agreement.agreement.estimate is not None
    # Three people who are right in 90 %: their majority is right in 0.9³ + 3·0.9²·0.1 = 97.2 %.
    assert card.agreement.agreement.interval is not None
    assert 0.972 in card.agreement.agreement.interval
    assert card.agreement.kappa.interval is not None
    assert card.agreement.kappa.interval.low > 0.8
    assert card.position is not None
    assert (card.position.consistency.estimate, card.position.first_slot) == (1, 0.5)
    assert card.repetition.interval is not None
    assert (card.repetition.interval.estimate, card.repetition.interval.n) == (1, 20)
    assert [(one.kind, one.asked, one.wins) for one in card.canaries] == [
        (kind, 10, 0) for kind in ("empty", "copied_prompt", "injected", "padded", "wrong")
    ]
    assert card.prompts.reason == "the judge has no prompt"
    assert card.own_answers.judge.reason == "the judge is no model that writes answers, or does not name it"
    assert card.contradictions.reason == "no reason names the better side"
    assert card.models.reason == "no question compares the answers of two named models"
    assert (card.questions, card.verdicts, card.unparsed) == (120, 240, 0)


def test_an_always_first_judge_has_no_agreement_beyond_ties() -> None:
    card = card_of(RuleJudge(always_first))
    assert card.position is not None
    assert (card.position.consistency.estimate, card.position.first_slot) == (0, 1)
    assert (card.position.first_both, card.position.second_both) == (120, 0)
    assert card.position.p_value < 1e-30
    assert card.agreement.agreement.estimate == 0, "two orders that contradict each other are a tie"
    assert card.verdict == "not_alone"
    assert any("the lower 95 % bound of κ is" in reason for reason in card.reasons)
    assert [one.ties for one in card.canaries] == [one.asked for one in card.canaries]


def test_a_length_lover_shows_and_pads_its_way_to_invalid() -> None:
    card = card_of(ScoreJudge("length:longer", lambda prompts, completions: [float(len(text)) for text in completions]))
    assert card.length.judge.interval is not None
    assert card.length.people.interval is not None
    assert card.length.judge.interval.estimate == 1
    assert 0.5 in card.length.people.interval
    assert card.length.difference is not None
    assert card.length.difference.low > 0.3
    assert canary(card, "padded") == (10, 10)
    assert canary(card, "empty") == (10, 0)
    assert card.verdict == "invalid"
    assert card.reasons[0].startswith("it prefers ")


def test_a_judge_that_obeys_an_injection_is_invalid_although_it_agrees() -> None:
    card = card_of(RuleJudge(obeys))
    assert card.agreement.kappa.interval is not None
    assert card.agreement.kappa.interval.low > 0.8
    assert canary(card, "injected") == (10, 10)
    assert card.verdict == "invalid"
    assert (
        "it prefers an answer to another prompt that tells the judge to prefer it in 10 of 10 canaries" in card.reasons
    )
    injected = next(one for one in card.canaries if one.kind == "injected")
    assert set(injected.ids) <= {row.id for row in ROWS}
    assert card.position is not None
    assert card.position.consistency.estimate == 1, "only the canary shows it"


def test_three_percent_unparsed_are_counted_and_never_half_a_win() -> None:
    judge = SometimesUnparsed()
    card = card_of(judge)
    assert card.unparsed == 240 // 33
    assert card.agreement.questions == 120
    assert card.agreement.unparsed == 7, "seven verdicts of seven questions"
    assert card.agreement.agreement.interval is not None
    assert card.agreement.agreement.interval.n == 113
    whole = card_of(RuleJudge(knows)).agreement.agreement
    assert whole.estimate is not None
    assert card.agreement.agreement.estimate == pytest.approx(whole.estimate, abs=0.03)


def test_a_judge_that_says_nothing_readable_is_invalid() -> None:
    card = card_of(RuleJudge(lambda first, second: "unparsed"))
    assert card.verdict == "invalid"
    assert card.reasons == ("no verdict on a question with a majority of people could be read",)
    assert (card.position, card.unparsed) == (None, 240)
    assert card.agreement.agreement.reason == "no item has two ratings"
    assert card.repetition.reason == "no verdict could be read twice"


def test_prompts_repetition_and_reasons_of_a_judge_that_has_them() -> None:
    variants = {"criteria": knows, "concise": knows, "score": always_first}
    judge = ChattyJudge(knows, variants, again=lambda first, second: longer(first, second))
    card = card_of(judge)
    assert (card.judge.name, card.judge.model, card.judge.prompt_hash) == ("openai:gpt-x", "gpt-x", "abc")
    assert card.concurrency == 8
    assert [one.prompt for one in card.prompts.prompts] == ["criteria", "concise", "score"]
    estimates = [one.agreement.estimate for one in card.prompts.prompts]
    assert estimates[2] == 0
    assert card.prompts.spread == estimates[0]
    assert {one.agreement.interval.n for one in card.prompts.prompts if one.agreement.interval} == {30}
    assert card.repetition.interval is not None
    assert card.repetition.interval.estimate < 0.8, "it was asked again without its cache"
    two = ChattyJudge(knows, {"criteria": knows, "concise": knows}, again=knows)
    assert card_of(two).prompts.reason == "a spread needs 3 prompts; the judge has 2"


def test_a_reason_against_the_verdict_is_counted() -> None:
    card = card_of(RuleJudge(knows, reason="Answer A is better."))
    assert card.contradictions.interval is not None
    # Of the two orders of a question A is right in one.
    assert (card.contradictions.interval.estimate, card.contradictions.interval.n) == (0.5, 120)


def test_self_preference_against_people() -> None:
    rows = [
        replace(row, columns={"models": ["gpt-x", "other"] if number % 2 else ["other", "gpt-x"]})
        for number, row in enumerate(ROWS)
    ]
    own = {row.completions[row.columns["models"].index("gpt-x")].text for row in rows}
    judge = ChattyJudge(lambda first, second: "left" if first in own else "right", {}, again=knows)
    card = measure(judge, rows, VOTES, extent=QUICK)
    assert card.own_answers.judge.interval is not None
    assert card.own_answers.people.interval is not None
    assert card.own_answers.judge.interval.estimate == 1
    assert 0.5 in card.own_answers.people.interval
    assert card.own_answers.difference is not None
    assert card.own_answers.difference.low > 0.3
    assert [one.model for one in card.models.models] == ["gpt-x", "other"]


def test_few_questions_or_one_person_are_not_enough() -> None:
    judge = ScoreJudge("module:knows", knows_prompt)
    few = card_of(judge, [vote for vote in VOTES if int(vote.item[2:]) < 40])
    assert few.verdict == "not_alone"
    assert few.reasons == ("fewer than 100 questions have a majority of people and a verdict: 40",)
    assert few.questions == 120, "the others are asked for the win rates"
    one = card_of(judge, [vote for vote in VOTES if vote.who == "x"])
    assert one.reasons == (
        "the agreement of people with each other is unknown: no question has the votes of two people",
    )


def test_a_judge_below_people_may_not_decide_alone() -> None:
    careful = people(ROWS, accuracy=1.0)
    wrong = {row.id for row in ROWS[:30]}

    def mostly(prompts: object, completions: list[str]) -> list[float]:
        return [
            score * (-1 if text.startswith("good") and f"r:{text.split()[1]}" in wrong else 1)
            for score, text in zip(knows_prompt(prompts, completions), completions)  # type: ignore[arg-type]
        ]

    card = card_of(ScoreJudge("module:mostly", mostly), careful)
    assert card.agreement.agreement.estimate == 0.75
    assert card.agreement.people.estimate == 1
    assert any(
        "it agrees with the majority in 75.0%, a person with the others in 100.0%" in line for line in card.reasons
    )


def test_a_canary_that_cannot_be_scored_is_said() -> None:
    from palate.errors import ModelError

    def strict(prompts: object, completions: list[str]) -> list[float]:
        if not all(text.strip() for text in completions):
            raise ModelError("an answer is empty")
        return knows_prompt(prompts, completions)  # type: ignore[arg-type]

    card = card_of(ScoreJudge("module:strict", strict))
    empty = next(one for one in card.canaries if one.kind == "empty")
    assert (empty.asked, empty.reason) == (0, "the judge gives no score: an answer is empty")
    assert card.verdict == "may_decide_alone", "the other canaries were judged"


def test_votes_that_fit_nothing_are_refused() -> None:
    judge = RuleJudge(knows)
    with pytest.raises(DataError, match=r"no vote of a person .* left out: 360 not a person's"):
        measure(judge, ROWS, [replace(vote, kind="judge") for vote in VOTES])
    with pytest.raises(DataError, match="a vote is on other:1, which is not among the candidates"):
        measure(judge, ROWS, [replace(VOTES[0], item="other:1")])
    with pytest.raises(DataError, match="the answers 0 and 5 of r:0, which has 2"):
        measure(judge, ROWS, [replace(VOTES[0], right=5)])
    assert judge.asked == [], "nothing was asked before"


def test_left_out_votes_are_in_the_card() -> None:
    votes = [*VOTES, replace(VOTES[0], who="peeked", saw_judge=True), replace(VOTES[0], who="j", kind="judge")]
    assert card_of(RuleJudge(knows), votes).people.left_out == {"saw a judge's verdict": 1, "not a person's": 1}


def test_a_function_of_the_tools_is_measured() -> None:
    rows = [replace(row, tools='[{"name": "f"}]') for row in world(3)]

    def score(prompts: Sequence[Messages], completions: Sequence[str], tools: Sequence[str | None]) -> list[float]:
        assert set(tools) == {'[{"name": "f"}]'}
        return [float(text.startswith("good")) for text in completions]

    asked = ask(ScoreJudge("by_tools", score), questions(rows))
    assert [one.score for one in asked] == [float(better(row) == "left") for row in rows]
