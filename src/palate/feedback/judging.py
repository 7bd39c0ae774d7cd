"""Collects a judge's votes: it compares every pair of answers to a prompt in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from palate.artifacts import JsonlWriter, now, sole_writer
from palate.data.mix import drawn_key
from palate.data.scores import columns_of
from palate.errors import UsageError
from palate.feedback.candidates import Candidates, read_candidates
from palate.feedback.judges.load import load_judge
from palate.feedback.judges.scores import ScoreJudge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.shards import read_shard
from palate.feedback.votes import Outcome, QuestionKey, Shown, Vote, VoterKind, read_votes
from palate.progress import progress
from palate.records import Columns, EachJudge, Judge, Messages, Verdict

# At most this many votes are lost if the process is killed.
_QUESTIONS_PER_WRITE = 32
_SWAPPED: dict[str, Outcome] = {"left": "right", "right": "left", "tie": "tie", "unparsed": "unparsed"}


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """Two answers of a row, with indices `left` < `right`, and the order in which they are shown."""

    row: Candidates
    left: int
    right: int
    shown: Shown

    @property
    def key(self) -> QuestionKey:
        return (self.row.id, self.left, self.right)

    @property
    def first(self) -> str:
        return self.row.completions[self.left if self.shown == "left_first" else self.right].text

    @property
    def second(self) -> str:
        return self.row.completions[self.right if self.shown == "left_first" else self.left].text


def questions(candidates: Sequence[Candidates], *, per_prompt: int | None = None, seed: int = 0) -> list[JudgeQuestion]:
    """Every pair of different answers of each row, in both orders, which are consecutive.

    Args:
        per_prompt: maximum number of pairs per row, a random sample that depends on `seed` and the row; None for all.
    """
    asked = []
    for row in candidates:
        texts = [answer.text for answer in row.completions]
        for i, j in different_pairs(row.id, texts, per_prompt=per_prompt, seed=seed):
            asked += [JudgeQuestion(row, i, j, "left_first"), JudgeQuestion(row, i, j, "right_first")]
    return asked


def different_pairs(
    item: str, texts: Sequence[str], *, per_prompt: int | None = None, seed: int = 0
) -> list[tuple[int, int]]:
    """The pairs of different answers of one row, as in `questions`: (index, higher index)."""
    stripped = [text.strip() for text in texts]
    pairs = [(i, j) for i, j in combinations(range(len(stripped)), 2) if stripped[i] != stripped[j]]
    if per_prompt is not None and len(pairs) > per_prompt:
        pairs = sorted(sorted(pairs, key=lambda pair: drawn_key(seed, f"{item} {pair}"))[:per_prompt])
    return pairs


@dataclass(frozen=True, slots=True)
class JudgedVotes:
    """The result of asking a judge.

    Attributes:
        asked: number of questions.
        votes: those that there are, in the order of the questions.
        missing: the questions without a vote, each with the reason; asking again later may give one.
    """

    asked: int
    votes: list[Vote]
    missing: list[tuple[JudgeQuestion, str]]

    def missing_lines(self, most: int = 10) -> list[str]:
        """The missing votes by item, for a person."""
        lines = [
            f"missing              {one.row.id} answers {one.left} and {one.right}, {one.shown}: {why}"
            for one, why in self.missing[:most]
        ]
        more = len(self.missing) - most
        return [*lines, f"missing              {more:,} more"] if more > 0 else lines


def judge(
    candidates: str | Path | Sequence[Candidates],
    judge: str | Judge,
    output: str | Path,
    *,
    shard: str | None = None,
    per_prompt: int | None = None,
    seed: int = 42,
    prompt: str = "criteria",
    in_flight: int = 8,
    store: str | None = None,
) -> JudgedVotes:
    """Let a judge compare the answers to each prompt, two at a time and in both orders.

    `judge("candidates.jsonl", "length:shorter", "votes.jsonl").votes[0].outcome`

    Args:
        candidates: a candidates file, or what `generate` gave.
        judge: as `palate judge --judge` has it, or an object with the protocol `Judge`.
        output: votes file; new votes are appended, and what has a vote is not asked again.
        shard: `3/8` for every eighth row from the third.
        per_prompt: compare at most this many pairs of answers of a prompt, drawn by `seed`; None for all.
        prompt: of a judge over an API: the name of a built-in one, or a file.
        in_flight: most requests of such a judge at once, for each of its URLs.
        store: URL of the database with its replies; None for PALATE_STORE or palate.db in the current folder.

    Raises:
        PalateError: the candidates or the judge cannot be read, or no prompt has two different answers.
    """
    if per_prompt is not None and per_prompt < 1:
        raise UsageError(f"per_prompt is {per_prompt}; give 1 or more, or None for all pairs of a prompt's answers")
    part = read_shard(shard)
    rows = read_candidates(candidates) if isinstance(candidates, str | Path) else list(candidates)
    asked = questions(rows if part is None else part.of(rows), per_prompt=per_prompt, seed=seed)
    if not asked:
        raise UsageError("no prompt has two different answers; generate with k=2 or more")
    if isinstance(judge, str):
        judge = load_judge(judge, settings=ApiSettings(prompt=prompt, in_flight=in_flight, store=store))
    return collect_votes(asked, judge, Path(output))


def collect_votes(asked: Sequence[JudgeQuestion], judge: Judge, path: Path) -> JudgedVotes:
    """The judge's votes on all questions; questions with a vote in the file are not asked again.

    Args:
        path: votes file; new votes are appended to it. Votes of a jury's members are appended to `members_path(path)`.

    Raises:
        ConfigError: the judge needs a column that no candidate has.
        ArtifactError: another process writes to the file.
    """
    if isinstance(judge, ScoreJudge):
        judge.check_columns({name for question in asked for name in question.row.judge_columns})
    with sole_writer(path):
        return _collect(asked, judge, path)


def _collect(asked: Sequence[JudgeQuestion], judge: Judge, path: Path) -> JudgedVotes:
    have = {vote.key: vote for vote in (read_votes(path) if path.exists() else ())}
    keys = [(*question.key, judge.name, question.shown) for question in asked]
    waiting = [question for question, key in zip(asked, keys) if key not in have]
    kind: VoterKind = getattr(judge, "kind", "judge")
    why: dict[tuple[str, int, int, str, str], str] = {}
    judging = progress("questions judged", len(asked), done=len(asked) - len(waiting))
    with JsonlWriter(path) as file, judging as judged:

        def decided(question: JudgeQuestion, verdict: Verdict) -> None:
            judged.advance()
            vote = _vote(question, verdict, judge.name, kind)
            if verdict.missing:
                why[vote.key] = verdict.reason
                return
            if verdict.members:
                _keep_members(question, verdict, path)
            have[vote.key] = vote
            file.write(vote.to_json())

        if isinstance(judge, EachJudge):
            judge.compare_each(*compared(waiting), lambda index, verdict: decided(waiting[index], verdict))
        else:
            for start in range(0, len(waiting), _QUESTIONS_PER_WRITE):
                some = waiting[start : start + _QUESTIONS_PER_WRITE]
                for question, verdict in zip(some, judge.compare(*compared(some)), strict=True):
                    decided(question, verdict)
    missing = [(question, why.get(key, "not asked")) for question, key in zip(asked, keys) if key not in have]
    return JudgedVotes(len(asked), [have[key] for key in keys if key in have], missing)


def members_path(path: Path) -> Path:
    """The file with the votes of a jury's members: `x.votes.jsonl` → `x.votes.members.jsonl`."""
    return path.with_name(f"{path.stem}.members{path.suffix}")


def compared(asked: Sequence[JudgeQuestion]) -> tuple[list[Messages], list[str], list[str], Columns]:
    """The arguments of `Judge.compare` for these questions."""
    return (
        [question.row.prompt for question in asked],
        [question.first for question in asked],
        [question.second for question in asked],
        columns_of([question.row.judge_columns for question in asked]),
    )


def _keep_members(question: JudgeQuestion, verdict: Verdict, path: Path) -> None:
    with JsonlWriter(members_path(path)) as file:
        for who, given in verdict.members:
            file.write(_vote(question, given, who, "judge").to_json())


def _vote(asked: JudgeQuestion, verdict: Verdict, who: str, kind: VoterKind) -> Vote:
    """The vote for a verdict. In a verdict left is the answer shown first, in a vote the one with the lower index."""
    swapped = asked.shown == "right_first"
    probability = verdict.probability_left
    scores = {name: (b, a) if swapped else (a, b) for name, (a, b) in verdict.dimensions.items()}
    return Vote(
        item=asked.row.id,
        left=asked.left,
        right=asked.right,
        outcome=_SWAPPED[verdict.outcome] if swapped else verdict.outcome,
        who=who,
        when=now(),
        shown=asked.shown,
        reason=verdict.reason,
        probability_left=1 - probability if swapped and probability is not None else probability,
        kind=kind,
        dimensions=scores,
    )
