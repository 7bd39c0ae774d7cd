"""Ratings of many models from votes on their answers (`palate.stats.winrate.bradley_terry`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.errors import DataError, UsageError
from palate.feedback.candidates import SAME_MODEL, Candidates
from palate.feedback.people_votes import why_left_out
from palate.feedback.votes import Vote, VoterKind, valid_votes
from palate.records import prompt_key
from palate.stats import BradleyTerry, bradley_terry, ratable_groups

UNNAMED = "an answer without the name of its model"
"""Why a vote is left out."""


@dataclass(frozen=True, slots=True)
class ModelVote:
    """One vote on the answers of two models.

    Attributes:
        first, second: the models whose answers were shown first and second.
        score: 1 if the first won, 0 if the second did, ½ for a tie or two bad answers.
        prompt: key of the prompt, the cluster.
        length: characters of the first answer minus those of the second.
    """

    first: str
    second: str
    score: float
    prompt: str
    length: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The votes that count, and those that do not.

    Attributes:
        rows: the verdicts.
        kinds: number of rows by kind of voter.
        left_out: number of votes that do not count, by reason.
    """

    rows: Sequence[ModelVote]
    kinds: Mapping[str, int]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RatedGroup:
    """Models that can be rated together.

    Attributes:
        models: their names.
        prompts: number of different prompts.
        votes: number of verdicts between them.
        result: the ratings; None for a single model.
        apart: why other models are not in the group; empty if there are none.
    """

    models: Sequence[str]
    prompts: int
    votes: int
    result: BradleyTerry | None
    apart: str = ""


def read_verdicts(
    sources: Iterable[tuple[Iterable[Candidates], Iterable[Vote]]], *, kind: VoterKind | None = None
) -> Verdicts:
    """The verdicts of votes, each source with the candidates that its votes are on.

    A model is known by the content hash of its weights, else by its name. Left out and counted: superseded votes,
    those that `why_left_out` names, gold questions and repetitions, votes of other voters than `kind`, votes on unknown
    answers, and comparisons of a model with itself.
    """
    left_out: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    found: list[ModelVote] = []
    names: dict[str, str] = {}
    for candidates, given in sources:
        rows = {row.id: row for row in candidates}
        votes = list(given)
        valid = valid_votes(votes)
        if len(valid) < len(votes):
            left_out["superseded by a later vote"] += len(votes) - len(valid)
        for vote in valid:
            row = rows.get(vote.item)
            reason = _why_unrated(vote, row, kind)
            if reason or row is None:
                left_out[reason] += 1
                continue
            kinds[vote.kind] += 1
            share = 0.5 if vote.score is None else vote.score  # both bad
            first, second = (vote.left, vote.right) if vote.shown == "left_first" else (vote.right, vote.left)
            for number in (first, second):
                names.setdefault(_key(row, number), row.origin(number).model or _key(row, number)[:8])
            lengths = len(row.completions[first].text) - len(row.completions[second].text)
            score = share if first == vote.left else 1 - share
            found.append(ModelVote(_key(row, first), _key(row, second), score, prompt_key(row.prompt), lengths))
    labels = _labels(names)
    named = [replace(row, first=labels[row.first], second=labels[row.second]) for row in found]
    return Verdicts(named, kinds, left_out)


def _why_unrated(vote: Vote, row: Candidates | None, kind: VoterKind | None) -> str:
    """Why a vote is no comparison of two models; empty if it is one."""
    if kind is not None and vote.kind != kind:
        return f"not of a {kind.replace('_', ' ')}"
    reason = why_left_out(vote) or ("gold question" if vote.gold else "repeated question" if vote.repeat else "")
    if reason:
        return reason
    if row is None or vote.right >= len(row.completions):
        return "on an answer that is not in the candidates"
    keys = (_key(row, vote.left), _key(row, vote.right))
    if not all(keys):
        return UNNAMED
    return "a model with itself" if keys[0] == keys[1] or row.columns.get(SAME_MODEL) else ""


def _key(row: Candidates, number: int) -> str:
    origin = row.origin(number)
    return origin.identity or origin.model


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """Key → name; models with the same name get the beginning of their hash."""
    times = Counter(names.values())
    return {key: name if times[name] == 1 or key == name else f"{name} ({key[:8]})" for key, name in names.items()}


def rank(verdicts: Verdicts, *, anchor: str | None = None, length_control: bool = False) -> list[RatedGroup]:
    """Ratings of each group of models that can be rated together, the largest first.

    Args:
        anchor: the model with 1000 points in its group; in other groups it is the one that appears first.
        length_control: also estimate what length gains: γ of tanh(length difference / its root mean square).

    Raises:
        DataError: no vote counts.
        UsageError: the anchor is none of the models.
    """
    rows = verdicts.rows
    if not rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in verdicts.left_out.items())
        remedy = ""
        if UNNAMED in verdicts.left_out:
            remedy = '; name what wrote each answer in the candidates: "completions": [{"text": …, "model": "NAME"}]'
        raise DataError(f"no vote compares two models ({reasons or 'there are no votes'}){remedy}")
    models = {name for row in rows for name in (row.first, row.second)}
    if anchor is not None and anchor not in models:
        raise UsageError(f"--anchor {anchor}: the votes are on {', '.join(sorted(models))}")
    groups = ratable_groups(*zip(*((row.first, row.second, row.score) for row in rows)))
    return [_rated(group, rows, anchor, length_control) for group in groups]


def _rated(group: Sequence[str], rows: Sequence[ModelVote], anchor: str | None, length_control: bool) -> RatedGroup:
    inside = [row for row in rows if row.first in group and row.second in group]
    outside = [row for row in rows if (row.first in group) != (row.second in group)]
    prompts = [row.prompt for row in inside]
    apart = "" if len(inside) == len(rows) else _why_apart(group, outside)
    if not inside:
        return RatedGroup(group, 0, 0, None, apart)
    lengths = np.array([row.length for row in inside], dtype=np.float64)
    spread = float(np.sqrt((lengths**2).mean()))
    result = bradley_terry(
        [row.first for row in inside],
        [row.second for row in inside],
        [row.score for row in inside],
        prompts,
        covariates=[np.tanh(lengths / spread)] if length_control and spread > 0 else [],
        anchor=anchor if anchor in group else None,
    )
    return RatedGroup(group, len(set(prompts)), len(inside), result, apart)


def _why_apart(group: Sequence[str], outside: Sequence[ModelVote]) -> str:
    """Why other models have no finite distance to the group."""
    if not outside:
        return "no comparison with other models"
    won = sum(row.score == (1.0 if row.first in group else 0.0) for row in outside)
    if won in (0, len(outside)):
        word = "won" if won else "lost"
        return f"{word} all of {len(outside)} comparisons with other models"
    return "in the comparisons with it, every other model has won all or lost all"
