"""Builds labelled answers from votes, for KTO: preferred answers are desirable, rejected and bad ones undesirable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from palate.data.turns.messages import assistant
from palate.feedback.candidates import Candidates
from palate.feedback.export.aggregate import Aggregate, Decided, decide
from palate.feedback.export.lineage import VoteSource, lineage
from palate.feedback.export.pairs import check_answers, unusable
from palate.feedback.votes import QuestionKey, Vote
from palate.records import LabelledCompletion


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer with the label that all its comparisons agree on.

    Attributes:
        row: the prompt and its answers.
        number: of the answer.
        desirable: the label.
        weight: mean `Decided.weight` of its comparisons.
        decided: the results that it was made from.
        both_bad: whether one of them is `both_bad`.
    """

    row: Candidates
    number: int
    desirable: bool
    weight: float
    decided: tuple[Decided, ...]

    @property
    def both_bad(self) -> bool:
        return any(result.result == "both_bad" for result in self.decided)

    @property
    def cast(self) -> tuple[Vote, ...]:
        """The votes that it was made from."""
        return tuple(vote for result in self.decided for vote in result.cast)

    def record(self, source: VoteSource | None = None) -> LabelledCompletion:
        """The labelled answer to train on, with the number of votes and the lineage in `extra`."""
        conflict = any(result.conflict for result in self.decided)
        known = source or VoteSource()
        origin = lineage(self.row, (self.number,), self.cast, known, conflict=conflict) | {"both_bad": self.both_bad}
        return LabelledCompletion(
            id=f"{self.row.id}#{self.number}",
            prompt=self.row.prompt,
            completion=assistant(self.row.completions[self.number].text),
            desirable=self.desirable,
            weight=self.weight,
            tools=self.row.tools,
            extra={"votes": len(self.cast), "lineage": origin},
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled answers, and what gave none.

    Attributes:
        labels: to train on.
        left_out: comparisons by reason (`tie`, `few_votes`, `flagged`), and answers that won one comparison and
            lost another (`won_and_lost`).
    """

    labels: tuple[LabelledAnswer, ...]
    left_out: Mapping[str, int]


def make_labels(
    candidates: Sequence[Candidates],
    votes: Iterable[Vote],
    *,
    aggregate: Aggregate = "majority",
    min_votes: int = 1,
    flagged: Collection[QuestionKey] = (),
) -> Labels:
    """A label for each answer that was always preferred (desirable), or always rejected or called bad (undesirable).

    Raises:
        DataError: a vote refers to a row or an answer that is not among the candidates.
    """
    decided = decide(votes, aggregate)
    check_answers(candidates, decided)
    left_out: Counter[str] = Counter()
    labels = []
    for row in candidates:
        # Answer → (result, whether it won).
        found: dict[int, list[tuple[Decided, bool]]] = {}
        for result in decided.get(row.id, ()):
            reason = unusable(row.id, result, min_votes, flagged, "tie")
            if reason is not None:
                left_out[reason] += 1
                continue
            found.setdefault(result.left, []).append((result, result.result == "left"))
            found.setdefault(result.right, []).append((result, result.result == "right"))
        for number, given in sorted(found.items()):
            won = {desirable for _, desirable in given}
            if len(won) > 1:
                left_out["won_and_lost"] += 1
                continue
            weight = sum(result.weight for result, _ in given) / len(given)
            labels.append(LabelledAnswer(row, number, won.pop(), weight, tuple(result for result, _ in given)))
    return Labels(tuple(labels), dict(left_out.most_common()))
