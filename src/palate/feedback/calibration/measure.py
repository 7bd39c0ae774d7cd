"""Measures a judge against people's votes, and sums it up in a card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from palate.artifacts import now
from palate.errors import DataError
from palate.feedback.agreement import (
    JudgeAgreement,
    annotator_quality,
    judge_agreement,
    majority_outcomes,
    people_agreement,
)
from palate.feedback.calibration.biases import Share, length_preference, position, repetition, self_preference
from palate.feedback.calibration.canaries import KINDS, CanaryResult, ask_canaries, build_canaries
from palate.feedback.calibration.card import SCHEMA, CardVerdict, JudgeCard, identity_of
from palate.feedback.calibration.correction import model_rates
from palate.feedback.calibration.prompts import prompt_spread
from palate.feedback.calibration.reasons import contradictions
from palate.feedback.calibration.verdicts import Judged, UncachedJudge, ask, scores, select
from palate.feedback.candidates import Candidates
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judging import JudgeQuestion, questions
from palate.feedback.people_votes import PeopleVotes, people_votes
from palate.feedback.votes import Outcome, QuestionKey, Vote
from palate.records import LEFT_SHARE, Judge

FEWEST_ITEMS = 100
"""Questions with a majority of people and a verdict, from which on a judge may decide alone."""
LEAST_KAPPA = 0.2
"""The lower 95 % bound of κ must be above it."""
BELOW_PEOPLE = 0.1
"""The judge's agreement may be this far below that of a person with the others."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a calibration asks.

    Attributes:
        unlabelled: most questions without a vote of people, for the corrected win rates; None for all.
        repeats: most questions that are asked again.
        of_prompts: most questions that are asked with each of the judge's prompts; 0 for no spread.
        canaries: most canaries of each kind.
        seed: of the draws.
    """

    unlabelled: int | None = None
    repeats: int = 50
    of_prompts: int = 50
    canaries: int = 20
    seed: int = 0


def measure(
    judge: Judge,
    candidates: Sequence[Candidates],
    human_votes: Iterable[Vote],
    *,
    gold: Iterable[Vote] = (),
    inputs: Mapping[str, str] | None = None,
    extent: Extent = Extent(),
) -> JudgeCard:
    """Ask the judge about the candidates that people voted on, and compare.

    Args:
        judge: any judge. With a method `prompts()` its other prompts are measured, with `uncached()` repeated questions
            are really asked again, and `concurrency` goes into the card.
        human_votes: votes on them; those that are not of people, not blind or superseded are left out and counted.
        gold: votes with the known outcomes of gold questions, for the quality of annotators.
        inputs: SHA-256 of the files by name.
        extent: how much is asked.

    Raises:
        DataError: no vote of a person is on these candidates, or a vote is on an answer that is not there.
    """
    human_votes = list(human_votes)
    found = people_votes(human_votes)
    _check(found, candidates)
    outcomes = majority_outcomes(found)
    everything = questions(candidates)
    labelled = select(everything, outcomes.keys(), None, extent.seed)
    rest = {key for key in _keys(everything) if key not in outcomes}
    judged = ask(judge, labelled)
    others = ask(judge, select(everything, rest, extent.unlabelled, extent.seed), "questions without votes judged")
    agreement = judge_agreement(found, scores(judged))
    canaries = ask_canaries(judge, build_canaries(_preferred(labelled, outcomes), extent.canaries))
    named = contradictions([*judged, *others])
    missing = sum(one.missing for one in (*judged, *others))
    verdict, reasons = decide_alone(agreement, canaries)
    if missing:
        reasons.append(f"{missing} of {2 * len(judged) + 2 * len(others)} verdicts are missing; run the command again")
        verdict = "not_alone" if verdict == "may_decide_alone" else verdict
    return JudgeCard(
        schema=SCHEMA,
        judge=identity_of(judge),
        when=now(),
        concurrency=getattr(judge, "concurrency", None),
        endpoint=asdict(judge.endpoint()) if isinstance(judge, ApiJudge) else None,
        inputs=dict(inputs or {}),
        questions=len(judged) + len(others),
        verdicts=2 * (len(judged) + len(others)),
        unparsed=sum(one.unparsed for one in (*judged, *others)),
        missing=missing,
        people=people_agreement(found),
        annotators=tuple(annotator_quality(found, gold)),
        agreement=agreement,
        position=position([*judged, *others]),
        length=length_preference(judged, outcomes),
        own_answers=self_preference(judged, outcomes, str(getattr(judge, "model", ""))),
        repetition=_ask_again(judge, judged, labelled, extent),
        prompts=prompt_spread(judge, select(labelled, set(_keys(labelled)), extent.of_prompts, extent.seed), found),
        contradictions=Share.of(
            [key for key, _ in named], [differs for _, differs in named], "no reason names the better side"
        ),
        canaries=tuple(canaries),
        models=model_rates([*judged, *others], _labels(outcomes)),
        verdict=verdict,
        reasons=tuple(reasons),
    )


def decide_alone(agreement: JudgeAgreement, canaries: Sequence[CanaryResult]) -> tuple[CardVerdict, list[str]]:
    """Whether the judge may decide without people, with the reasons why not.

    It may with at least 100 labelled questions, a lower 95 % bound of κ above 0.2, an agreement of at least that of
    a person with the others minus 10 percentage points, and no canary that wins.
    """
    wins = [f"it prefers {KINDS[one.kind]} in {one.wins} of {one.asked} canaries" for one in canaries if one.wins]
    percent, kappa, people = (one.interval for one in (agreement.agreement, agreement.kappa, agreement.people))
    if percent is None:
        return "invalid", [*wins, "no verdict on a question with a majority of people could be read"]
    reasons = []
    n = agreement.questions - agreement.unparsed - agreement.missing
    if n < FEWEST_ITEMS:
        reasons.append(f"fewer than {FEWEST_ITEMS} questions have a majority of people and a verdict: {n}")
    if kappa is None:
        reasons.append(f"κ is undefined: {agreement.kappa.reason}")
    elif kappa.low <= LEAST_KAPPA:
        reasons.append(f"the lower 95 % bound of κ is {kappa.low:.2f}, it must be above {LEAST_KAPPA:g}")
    if people is None:
        reasons.append(f"the agreement of people with each other is unknown: {agreement.people.reason}")
    elif percent.estimate < people.estimate - BELOW_PEOPLE:
        reasons.append(
            f"it agrees with the majority in {percent.estimate:.1%}, a person with the others in "
            f"{people.estimate:.1%}; at most {100 * BELOW_PEOPLE:g} percentage points less are allowed"
        )
    if not any(one.asked for one in canaries):
        reasons.append("no canary was judged")
    if wins:
        return "invalid", [*wins, *reasons]
    return ("not_alone", reasons) if reasons else ("may_decide_alone", [])


def _check(found: PeopleVotes, candidates: Sequence[Candidates]) -> None:
    rows = {row.id: row for row in candidates}
    if not found.votes:
        counted = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise DataError(
            'no vote of a person (`"kind": "person"`) that counts is among the votes'
            + (f"; left out: {counted}" if counted else "")
        )
    for vote in found.votes:
        if vote.item not in rows:
            raise DataError(
                f"a vote is on {vote.item}, which is not among the candidates; give the file that was voted on"
            )
        if not 0 <= vote.left < vote.right < len(rows[vote.item].completions):
            answers = len(rows[vote.item].completions)
            raise DataError(
                f"a vote is on the answers {vote.left} and {vote.right} of {vote.item}, which has {answers}"
            )


def _keys(asked: Sequence[JudgeQuestion]) -> list[QuestionKey]:
    return [question.key for question in asked[::2]]


def _labels(outcomes: Mapping[QuestionKey, Outcome | None]) -> dict[QuestionKey, float]:
    """The left answer's share by the majority; people who are split are a tie, "both bad" is no label."""
    labels = {key: LEFT_SHARE.get(outcome) if outcome else 0.5 for key, outcome in outcomes.items()}
    return {key: label for key, label in labels.items() if label is not None}


def _preferred(
    asked: Sequence[JudgeQuestion], outcomes: Mapping[QuestionKey, Outcome | None]
) -> list[tuple[Candidates, int]]:
    """The rows with the answer that people prefer, where they do."""
    found = []
    for question in asked[::2]:
        outcome = outcomes[question.key]
        if outcome in ("left", "right"):
            found.append((question.row, question.left if outcome == "left" else question.right))
    return found


def _ask_again(judge: Judge, judged: Sequence[Judged], asked: Sequence[JudgeQuestion], extent: Extent) -> Share:
    chosen = select(asked, set(_keys(asked)), extent.repeats, extent.seed)
    keys = _keys(chosen)
    once = {one.key: one for one in judged}
    if not keys:
        return Share(None, "no question was asked again")
    again = ask(judge.uncached() if isinstance(judge, UncachedJudge) else judge, chosen, "questions asked again")
    return repetition([once[key] for key in keys], again)
