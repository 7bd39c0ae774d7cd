"""How well people agree, how reliable each of them is, and how often a judge agrees with their majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from palate.feedback.people_votes import PeopleVotes, prompt_clusters
from palate.feedback.votes import Outcome, QuestionKey, Vote
from palate.stats import (
    Aggregated,
    Agreement,
    Interval,
    binomial_exact,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    mace,
    majority,
    percent_agreement,
    rate_interval,
)
from palate.stats.annotation.aggregation import LabelVote

_SIDES: Mapping[str, float] = {"left": 1.0, "right": 0.0, "tie": 0.5}


@dataclass(frozen=True, slots=True)
class PeopleAgreement:
    """Agreement of people with each other.

    Attributes:
        people, questions, votes: how many there are.
        voted_twice: questions with the votes of two people or more; the figures are about these.
        percent: share of agreeing pairs of votes.
        cohen: κ, if there are exactly two people.
        fleiss: κ of the questions with `fleiss_votes` votes, the most frequent number from two on.
        alpha_nominal: Krippendorff's α over left, right, tie and both bad.
        alpha_ordinal: Krippendorff's α over five levels from "left much better" to "right much better".
        fleiss_votes: number of votes of each question in `fleiss`; 0 without one.
        both_bad: votes of this outcome, which have no place on the five levels.
        repeats: votes on a question that the person had voted on before.
        gold: votes on questions whose answer was known.
        left_out: number of votes that count nowhere, by reason.
    """

    people: int
    questions: int
    votes: int
    voted_twice: int
    percent: Agreement
    cohen: Agreement
    fleiss: Agreement
    alpha_nominal: Agreement
    alpha_ordinal: Agreement
    fleiss_votes: int
    both_bad: int
    repeats: int
    gold: int
    left_out: Mapping[str, int]


def people_agreement(found: PeopleVotes) -> PeopleAgreement:
    """Agreement over all questions, with intervals over prompts."""
    by_question = found.by_question()
    people = list(dict.fromkeys(vote.who for vote in found.votes))
    shared = {key: votes for key, votes in by_question.items() if len(votes) > 1}
    ratings = [[vote.outcome for vote in votes] for votes in shared.values()]
    levels = [[_level(vote) for vote in votes] for votes in shared.values()]
    prompts = prompt_clusters(shared)
    most, alike = _most_frequent_number(shared)
    return PeopleAgreement(
        people=len(people),
        questions=len(by_question),
        votes=len(found.votes),
        voted_twice=len(shared),
        percent=percent_agreement(ratings, clusters=prompts),
        cohen=_cohen(people, shared),
        fleiss=fleiss_kappa([[vote.outcome for vote in shared[key]] for key in alike], clusters=prompt_clusters(alike)),
        alpha_nominal=krippendorff_alpha(ratings, clusters=prompts),
        alpha_ordinal=krippendorff_alpha(levels, scale="ordinal", clusters=prompts),
        fleiss_votes=most,
        both_bad=sum(vote.outcome == "both_bad" for vote in found.votes),
        repeats=len(found.repeats),
        gold=len(found.gold),
        left_out=found.left_out,
    )


def _cohen(people: Sequence[str], shared: Mapping[QuestionKey, Sequence[Vote]]) -> Agreement:
    if len(people) != 2:
        return Agreement(None, f"Cohen's kappa needs two people, here {len(people)}")
    by_person = [{vote.who: vote.outcome for vote in votes} for votes in shared.values()]
    first, second = ([votes[who] for votes in by_person] for who in people)
    return cohen_kappa(first, second, clusters=prompt_clusters(shared))


def _most_frequent_number(shared: Mapping[QuestionKey, Sequence[Vote]]) -> tuple[int, list[QuestionKey]]:
    """The most frequent number of votes on a question (the larger of two), and the questions that have it."""
    numbers = Counter(len(votes) for votes in shared.values())
    most = max(numbers, key=lambda number: (numbers[number], number), default=0)
    return most, [key for key, votes in shared.items() if len(votes) == most]


def _level(vote: Vote) -> int | None:
    """−2 … 2, larger if left is better; None for both bad."""
    if vote.outcome not in _SIDES:
        return None
    return round((2 * _SIDES[vote.outcome] - 1) * vote.strength)


@dataclass(frozen=True, slots=True)
class AnnotatorQuality:
    """What is known of one person.

    Attributes:
        who: the name.
        votes: number of votes, without gold and repeats.
        gold: share of right votes on gold questions.
        repeats: share of questions with the same outcome when they were shown again in the other order.
        with_others: share of votes equal to the majority of the other people.
        first_won: share of decided votes for the answer shown first; ½ is unbiased.
        first_p: exact binomial test of `first_won` against ½.
        dawid_skene: expected share of right votes by that model; None if nobody else voted on the person's questions,
            or if its estimates did not converge.
        mace: the person's competence by MACE; None likewise.
    """

    who: str
    votes: int
    gold: Interval | None
    repeats: Interval | None
    with_others: Interval | None
    first_won: Interval | None
    first_p: float | None
    dawid_skene: float | None
    mace: float | None


def annotator_quality(found: PeopleVotes, gold: Iterable[Vote] = ()) -> list[AnnotatorQuality]:
    """The quality of each person, by name.

    Args:
        gold: votes with the known answers of gold questions; gold votes on other questions are not scored.
    """
    known = {vote.question: vote.outcome for vote in gold}
    several = [votes for votes in found.by_question().values() if len(votes) > 1]
    shared = [(vote.question, vote.who, vote.outcome) for votes in several for vote in votes]
    skills, competence = _reliability(dawid_skene, shared), _reliability(mace, shared)
    others = _with_others(found.by_question())
    names = sorted({vote.who for vote in (*found.votes, *found.gold)})
    qualities = []
    for who in names:
        own = [vote for vote in found.votes if vote.who == who]
        first = [vote.first_won for vote in own if vote.first_won is not None]
        right = [(vote, known[vote.question]) for vote in found.gold if vote.who == who and vote.question in known]
        qualities.append(
            AnnotatorQuality(
                who=who,
                votes=len(own),
                gold=_rate([vote.outcome == answer for vote, answer in right]),
                repeats=_rate([one.outcome == two.outcome for one, two in found.repeats if one.who == who]),
                with_others=_rate([same for name, _, same in others if name == who]),
                first_won=_rate(first),
                first_p=binomial_exact(sum(first), len(first)) if first else None,
                dawid_skene=skills.get(who),
                mace=competence.get(who),
            )
        )
    return qualities


def _reliability(
    model: Callable[[Sequence[LabelVote]], Aggregated], votes: Sequence[LabelVote]
) -> Mapping[Hashable, float]:
    """Per person; empty without votes, or if the model's estimates did not converge."""
    found = model(votes) if votes else None
    return found.reliability if found is not None and found.converged else {}


def _rate(right: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Interval | None:
    return rate_interval(right, clusters=clusters) if right else None


def _with_others(by_question: Mapping[QuestionKey, Sequence[Vote]]) -> list[tuple[str, QuestionKey, bool]]:
    """(person, question, whether the vote equals the only majority of the others) wherever there is such a majority."""
    found = []
    for key, votes in by_question.items():
        for number, vote in enumerate(votes):
            answer = _majority([other.outcome for other in (*votes[:number], *votes[number + 1 :])])
            if answer is not None:
                found.append((vote.who, key, vote.outcome == answer))
    return found


def _majority(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome with the most votes; None without a vote or with a tie of outcomes."""
    ranked = Counter(outcomes).most_common(2)
    return ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """A judge against the majority of people.

    Attributes:
        agreement: share of questions with the same outcome (left, right, tie) as the majority.
        kappa: Cohen's κ of judge and majority.
        people: share of people's votes that equal the majority of the other people: leave-one-out.
        questions: with a majority of people.
        no_majority: questions where two outcomes have equally many votes, which are left out.
        both_bad: questions whose majority is "both bad", which are left out.
        unparsed: questions with a majority, but with an unreadable verdict in one of the two orders; left out.
        missing: questions with a majority on which the judge gave no verdict; left out.
    """

    agreement: Agreement
    kappa: Agreement
    people: Agreement
    questions: int
    no_majority: int
    both_bad: int
    unparsed: int
    missing: int


def majority_outcomes(found: PeopleVotes) -> dict[QuestionKey, Outcome | None]:
    """The outcome with the most votes for each question; None where two have equally many."""
    if not found.votes:
        return {}
    winners = majority([(vote.question, vote.who, vote.outcome) for vote in found.votes]).winners()
    return {key: cast("Outcome | None", winners[key]) for key in found.by_question()}


def judge_agreement(found: PeopleVotes, verdicts: Mapping[QuestionKey, float | None]) -> JudgeAgreement:
    """Agreement of a judge with people.

    Args:
        verdicts: per question the left answer's share of a win over both orders (contradicting orders are ½); None if
            a verdict could not be read.
    """
    outcomes = majority_outcomes(found)
    decided = {key: outcome for key, outcome in outcomes.items() if outcome in _SIDES}
    read = {key: share for key in decided if (share := verdicts.get(key)) is not None}
    said = [side_of(share) for share in read.values()]
    meant = [decided[key] for key in read]
    prompts = prompt_clusters(read)
    sides = {key: [vote for vote in votes if vote.outcome in _SIDES] for key, votes in found.by_question().items()}
    others = _with_others(sides)
    alone = _rate([same for _, _, same in others], prompt_clusters([key for _, key, _ in others]))
    return JudgeAgreement(
        agreement=percent_agreement(list(zip(said, meant)), clusters=prompts),
        kappa=cohen_kappa(said, meant, clusters=prompts),
        people=Agreement(alone, "" if alone else "no question has the votes of two people"),
        questions=len(decided),
        no_majority=sum(outcome is None for outcome in outcomes.values()),
        both_bad=sum(outcome == "both_bad" for outcome in outcomes.values()),
        unparsed=sum(key in verdicts and verdicts[key] is None for key in decided),
        missing=sum(key not in verdicts for key in decided),
    )


def side_of(share: float) -> Outcome:
    """The outcome of a left answer's share of a win."""
    if share == 0.5:
        return "tie"
    return "left" if share > 0.5 else "right"
