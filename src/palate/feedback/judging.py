"""A judge compares each two answers of candidates in both orders, and every verdict becomes a vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from palate.artifacts import JsonlWriter, now
from palate.data.mix import drawn_key
from palate.data.scores import columns_of
from palate.feedback.candidates import Candidates
from palate.feedback.judges import ScoreJudge
from palate.feedback.votes import Outcome, Shown, Vote, read_votes
from palate.progress import progress
from palate.records import Judge, Verdict

# Questions between two writes: the most that a kill can lose.
_AT_A_TIME = 32
_SWAPPED: dict[str, Outcome] = {"left": "right", "right": "left", "tie": "tie", "unparsed": "unparsed"}


@dataclass(frozen=True, slots=True)
class Question:
    """Two answers of a row, numbered `left` < `right`, and the order in which they are shown."""

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
    """Each two different answers of each row, in both orders, one after the other.

    Args:
        per_prompt: most pairs of answers per row, drawn by `seed` and the row; None for all.
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
    """The judge's votes on all questions; votes that the file at `path` already has are not asked again.

    Args:
        path: votes file, which is appended to.

    Raises:
        ConfigError: the judge reads a column that no candidate has.
    """
    if isinstance(judge, ScoreJudge):
        judge.check_columns({name for one in asked for name in one.row.columns})
    have = {vote.key: vote for vote in (read_votes(path) if path.exists() else ())}
    keys = [(one.row.id, one.left, one.right, judge.name, one.shown) for one in asked]
    waiting = [one for one, key in zip(asked, keys) if key not in have]
    judging = progress("questions judged", len(asked), done=len(asked) - len(waiting))
    with JsonlWriter(path) as file, judging as judged:
        for start in range(0, len(waiting), _AT_A_TIME):
            for vote in _ask(waiting[start : start + _AT_A_TIME], judge):
                have[vote.key] = vote
                file.write(vote.to_json())
                judged.advance()
    return [have[key] for key in keys]


def _ask(asked: Sequence[Question], judge: Judge) -> list[Vote]:
    verdicts = judge.compare(
        [one.row.prompt for one in asked],
        [one.first for one in asked],
        [one.second for one in asked],
        columns_of([one.row.columns for one in asked]),
    )
    moment = now()
    return [_vote(one, verdict, judge.name, moment) for one, verdict in zip(asked, verdicts, strict=True)]


def _vote(asked: Question, verdict: Verdict, who: str, when: str) -> Vote:
    """A verdict is on the answers as shown, left and right; a vote on the lower and the higher number."""
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
