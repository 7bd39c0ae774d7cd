"""One kind of record becomes another where that loses nothing that the new kind could hold, or by a stated rule."""

# ruff: noqa: ARG001  (all of one table's functions have one signature, whether they use it or not)

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import combinations
from typing import Any, TypeVar, cast

from palate.data.formats.rows import RatedAnswers, Reading, same_text
from palate.data.turns.messages import RowError
from palate.errors import UsageError
from palate.records import (
    Demonstration,
    LabelledCompletion,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
)

R = TypeVar("R", bound=Record)

KIND_NAMES: Mapping[type[Record], str] = {
    PreferencePair: "pairs",
    Demonstration: "demonstrations",
    LabelledCompletion: "labelled completions",
    ScoredCompletion: "scored completions",
    Ranking: "rankings",
    RatedAnswers: "rated answers",
    Rollouts: "rollouts",
    Record: "prompts",
}


KINDS: Mapping[str, type[Record]] = {name.replace(" ", "_"): kind for kind, name in KIND_NAMES.items()}
"""Kinds by the names that options use."""


def record_kind(name: str) -> type[Record]:
    """The kind of an option's name; raises `UsageError` for any other."""
    if name not in KINDS:
        raise UsageError(f"unknown kind {name!r}; known are {', '.join(KINDS)}")
    return KINDS[name]


def check_one_kind(kinds: Mapping[str, type[Record]]) -> None:
    """Refuses sources, by path, of several kinds: of a file that held them all one kind alone would be read again."""
    (first, kind), *others = kinds.items()
    for path, other in others:
        if other is not kind:
            raise UsageError(
                f"{path}: holds {KIND_NAMES[other]}, {first} {KIND_NAMES[kind]}; one dataset holds one kind: "
                "make one of each, or convert them with --kind first"
            )


def can_become(kind: type[Record], wanted: type[Record]) -> bool:
    """Whether records of `kind` can be turned into `wanted`."""
    return kind is wanted or wanted is Record or (kind, wanted) in _WAYS


def as_kind(record: Record, wanted: type[R], reading: Reading) -> list[R]:
    """The record as records of the wanted kind; raises `RowError` where this one has nothing to give."""
    if type(record) is wanted:
        return [record]
    if wanted is Record:
        prompt = _whole_prompt(record) if isinstance(record, Demonstration) else record.prompt
        return [cast(R, Record(**{**shared_fields(record), "prompt": prompt}))]
    found = _WAYS[type(record), wanted](record, reading)
    return cast("list[R]", found)


def _whole_prompt(record: Demonstration) -> Messages:
    """A conversation up to its last answer, as it is read where prompts are wanted."""
    turns = [*record.prompt, *record.completion]
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return tuple(turns)


def shared_fields(record: Record, suffix: str = "") -> dict[str, Any]:
    """The fields that every record has; `suffix` tells the rows made of one apart."""
    shared = {field.name: getattr(record, field.name) for field in fields(Record)}
    return {**shared, "id": f"{record.id}{suffix}"}


def _pair_to_demonstration(record: PreferencePair, reading: Reading) -> list[Demonstration]:
    return [Demonstration(**shared_fields(record), completion=record.chosen)]


def _pair_to_labelled(record: PreferencePair, reading: Reading) -> list[LabelledCompletion]:
    return [
        LabelledCompletion(**shared_fields(record, "#chosen"), completion=record.chosen, desirable=True),
        LabelledCompletion(**shared_fields(record, "#rejected"), completion=record.rejected, desirable=False),
    ]


def _pair_to_ranking(record: PreferencePair, reading: Reading) -> list[Ranking]:
    return [Ranking(**shared_fields(record), completions=(record.chosen, record.rejected))]


def _ranking_to_pair(record: Ranking, reading: Reading) -> list[PreferencePair]:
    return [PreferencePair(**shared_fields(record), chosen=record.completions[0], rejected=record.completions[-1])]


def _ranking_to_demonstration(record: Ranking, reading: Reading) -> list[Demonstration]:
    return [Demonstration(**shared_fields(record), completion=record.completions[0])]


def _ranking_to_labelled(record: Ranking, reading: Reading) -> list[LabelledCompletion]:
    return _pair_to_labelled(_ranking_to_pair(record, reading)[0], reading)


def _labelled_to_demonstration(record: LabelledCompletion, reading: Reading) -> list[Demonstration]:
    if not record.desirable:
        raise RowError("undesirable", "the label says that this answer is not to be imitated")
    return [Demonstration(**shared_fields(record), completion=record.completion)]


def _rated_to_pairs(record: RatedAnswers, reading: Reading) -> list[PreferencePair]:
    """Pairs by `reading.ratings`, none of equal scores or equal texts, none under the margin."""
    by_score = sorted(range(len(record.scores)), key=lambda index: -record.scores[index])
    better = [
        (best, worst)
        for best, worst in combinations(by_score, 2)
        if record.scores[best] > record.scores[worst]
        and record.scores[best] - record.scores[worst] >= reading.min_margin
        and not same_text(record.completions[best], record.completions[worst])
    ]
    if not better:
        raise RowError("tie", f"no two answers differ by {reading.min_margin:g} or more: scores {record.scores}")
    if reading.ratings == "all_pairs":
        return [_rated_pair(record, best, worst, f"#{best}>{worst}") for best, worst in better]
    of_best = [pair for pair in better if pair[0] == better[0][0]]
    if reading.ratings == "best_random":
        return [_rated_pair(record, *random.Random(f"{reading.seed}:{record.id}").choice(of_best))]  # noqa: S311
    return [_rated_pair(record, *of_best[-1])]


def _rated_pair(record: RatedAnswers, best: int, worst: int, suffix: str = "") -> PreferencePair:
    dimensions = None
    if record.dimensions:
        high, low = record.dimensions[best], record.dimensions[worst]
        dimensions = {name: (high[name], low[name]) for name in high if name in low} or None
    return PreferencePair(
        **shared_fields(record, suffix),
        chosen=record.completions[best],
        rejected=record.completions[worst],
        margin=record.scores[best] - record.scores[worst],
        dimensions=dimensions,
    )


def _rated_to_ranking(record: RatedAnswers, reading: Reading) -> list[Ranking]:
    """Best first; of answers with one score the first stands for all, since a ranking has no ties."""
    kept: list[Messages] = []
    scores: set[float] = set()
    for index in sorted(range(len(record.scores)), key=lambda index: -record.scores[index]):
        answer = record.completions[index]
        if record.scores[index] not in scores and not any(same_text(answer, better) for better in kept):
            kept.append(answer)
            scores.add(record.scores[index])
    if len(kept) < 2:
        raise RowError("tie", f"all answers have one score: {record.scores}")
    return [Ranking(**shared_fields(record), completions=tuple(kept))]


def _rated_to_demonstration(record: RatedAnswers, reading: Reading) -> list[Demonstration]:
    best = max(range(len(record.scores)), key=lambda index: record.scores[index])
    return [Demonstration(**shared_fields(record), completion=record.completions[best])]


def _rated_to_labelled(record: RatedAnswers, reading: Reading) -> list[LabelledCompletion]:
    return [labelled for pair in _rated_to_pairs(record, reading) for labelled in _pair_to_labelled(pair, reading)]


def _rated_to_scored(record: RatedAnswers, reading: Reading) -> list[ScoredCompletion]:
    """Scores over the top of the scale; a scale that is not known must be 0 … 1 already."""
    top = record.highest or 1.0
    outside = next((score for score in record.scores if not 0 <= score <= top), None)
    if outside is not None:
        raise RowError("score_out_of_range", f"score is {outside:g} on a scale of 0 … {top:g}")
    return [
        ScoredCompletion(**shared_fields(record, f"#{index}"), completion=answer, score=score / top)
        for index, (answer, score) in enumerate(zip(record.completions, record.scores, strict=True))
    ]


def _rollouts_as_rated(record: Rollouts) -> RatedAnswers:
    return RatedAnswers(**shared_fields(record), completions=record.completions, scores=record.rewards)


def _labelled_to_scored(record: LabelledCompletion, reading: Reading) -> list[ScoredCompletion]:
    return [ScoredCompletion(**shared_fields(record), completion=record.completion, score=float(record.desirable))]


_WAYS: Mapping[tuple[type[Record], type[Record]], Callable[[Any, Reading], Any]] = {
    (PreferencePair, Demonstration): _pair_to_demonstration,
    (PreferencePair, LabelledCompletion): _pair_to_labelled,
    (PreferencePair, Ranking): _pair_to_ranking,
    (Ranking, PreferencePair): _ranking_to_pair,
    (Ranking, Demonstration): _ranking_to_demonstration,
    (Ranking, LabelledCompletion): _ranking_to_labelled,
    (LabelledCompletion, Demonstration): _labelled_to_demonstration,
    (LabelledCompletion, ScoredCompletion): _labelled_to_scored,
    (RatedAnswers, PreferencePair): _rated_to_pairs,
    (RatedAnswers, Ranking): _rated_to_ranking,
    (RatedAnswers, Demonstration): _rated_to_demonstration,
    (RatedAnswers, LabelledCompletion): _rated_to_labelled,
    (RatedAnswers, ScoredCompletion): _rated_to_scored,
    (Rollouts, PreferencePair): lambda record, reading: _rated_to_pairs(_rollouts_as_rated(record), reading),
    (Rollouts, Ranking): lambda record, reading: _rated_to_ranking(_rollouts_as_rated(record), reading),
    (Rollouts, Demonstration): lambda record, reading: _rated_to_demonstration(_rollouts_as_rated(record), reading),
}
