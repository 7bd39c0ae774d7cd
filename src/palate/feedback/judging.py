"""Collects a judge's votes: it compares every pair of answers to a prompt in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from palate.artifacts import JsonlWriter, now
from palate.data.mix import drawn_key
from palate.data.scores import columns_of
from palate.feedback.candidates import Candidates
from palate.feedback.judges.scores import ScoreJudge
from palate.feedback.votes import Outcome, Shown, Vote, read_votes
from palate.progress import progress
from palate.records import Judge, Verdict

# At most this many votes are lost if the process is killed.
_QUESTIONS_PER_WRITE = 32
_SWAPPED: dict[str, Outcome] = {"left": "right", "right": "left", "tie": "tie", "unparsed": "unparsed"}


@dataclass(frozen=True, slots=True)
class Question:
    """Two answers of a row, with indices `left` < `right`, and the order in which they are shown."""

    row: Candidates
    left: int
    right: int
    shown: Shown

    @property
    def first(self) -> str:
        return self.row.completions[self.left if self.shown == "left_first" else self.right].text

    @property
    def second(self) -> str:
        return self.row.completions[self.right if self.shown == "left_first" else self.left].text


def questions(candidates: Sequence[Candidates], *, per_prompt: int | None = None, seed: int = 0) -> list[Question]:
    """Every pair of different answers of each row, in both orders, which are consecutive.

    Args:
        candidates: the rows.
        per_prompt: maximum number of pairs per row, a random sample that depends on `seed` and the row; None for all.
    """
    asked = []
    for row in candidates:
        texts = [answer.text.strip() for answer in row.completions]
        pairs = [(i, j) for i, j in combinations(range(len(texts)), 2) if texts[i] != texts[j]]
        if per_prompt is not None and len(pairs) > per_prompt:
            pairs = sorted(sorted(pairs, key=lambda pair: drawn_key(seed, f"{row.id} {pair}"))[:per_prompt])
        for i, j in pairs:
            asked += [Question(row, i, j, "left_first"), Question(row, i, j, "right_first")]
    return asked


def collect_votes(asked: Sequence[Question], judge: Judge, path: Path) -> list[Vote]:
    """The judge's votes on all questions, in their order; questions with a vote in the file are not asked again.

    Args:
        asked: the questions.
        judge: gives the verdicts.
        path: votes file; new votes are appended to it.

    Raises:
        ConfigError: the judge needs a column that no candidate has.
    """
    if isinstance(judge, ScoreJudge):
        judge.check_columns({name for question in asked for name in question.row.judge_columns})
    have = {vote.key: vote for vote in (read_votes(path) if path.exists() else ())}
    keys = [(question.row.id, question.left, question.right, judge.name, question.shown) for question in asked]
    waiting = [question for question, key in zip(asked, keys) if key not in have]
    judging = progress("questions judged", len(asked), done=len(asked) - len(waiting))
    with JsonlWriter(path) as file, judging as judged:
        for start in range(0, len(waiting), _QUESTIONS_PER_WRITE):
            for vote in _ask(waiting[start : start + _QUESTIONS_PER_WRITE], judge):
                have[vote.key] = vote
                file.write(vote.to_json())
                judged.advance()
    return [have[key] for key in keys]


def _ask(asked: Sequence[Question], judge: Judge) -> list[Vote]:
    verdicts = judge.compare(
        [question.row.prompt for question in asked],
        [question.first for question in asked],
        [question.second for question in asked],
        columns_of([question.row.judge_columns for question in asked]),
    )
    when = now()
    return [_vote(question, verdict, judge.name, when) for question, verdict in zip(asked, verdicts, strict=True)]


def _vote(asked: Question, verdict: Verdict, who: str, when: str) -> Vote:
    """The vote for a verdict. In a verdict left is the answer shown first, in a vote the one with the lower index."""
    swapped = asked.shown == "right_first"
    probability = verdict.probability_left
    return Vote(
        item=asked.row.id,
        left=asked.left,
        right=asked.right,
        outcome=_SWAPPED[verdict.outcome] if swapped else verdict.outcome,
        who=who,
        when=when,
        shown=asked.shown,
        reason=verdict.reason,
        probability_left=1 - probability if swapped and probability is not None else probability,
    )
