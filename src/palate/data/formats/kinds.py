"""Converts records of one kind into another kind, such as pairs into demonstrations."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any, TypeVar, cast

from palate.data.formats.rows import RatedAnswers, before_last_answer, same_text
from palate.data.turns.cells import RowError
from palate.errors import UsageError
from palate.records import (
    DatasetRequest,
    Demonstration,
    LabelledCompletion,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
    completions_of,
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
"""Kinds by the names used in options (`labelled_completions`)."""


def record_kind(name: str) -> type[Record]:
    """The kind with a name of `KINDS`; raises `UsageError` for an unknown name."""
    if name not in KINDS:
        raise UsageError(f"unknown kind {name!r}; known are {', '.join(KINDS)}")
    return KINDS[name]


def check_one_kind(kinds: Mapping[str, type[Record]]) -> None:
    """Raises `UsageError` if sources have different kinds: a file is read as one kind, so the others would be lost.

    Args:
        kinds: the kind of each source by its path.
    """
    first, kind = next(iter(kinds.items()))
    for path, other in kinds.items():
        if other is not kind:
            raise UsageError(
                f"{path}: holds {KIND_NAMES[other]}, {first} {KIND_NAMES[kind]}; one dataset holds one kind: "
                "make one of each, or convert them with --kind first"
            )


def can_become(kind: type[Record], target: type[Record]) -> bool:
    """Whether records of `kind` can be converted into `target`."""
    return kind is target or target is Record or target in _TARGETS.get(kind, ())


def as_kind(record: Record, target: type[R], request: DatasetRequest) -> list[R]:
    """Converts a record into records of the `target` kind, which `can_become` must allow.

    Raises:
        RowError: this record gives none, for example because all of its answers are rated equally.
    """
    if type(record) is target:
        return [record]
    if target is Record:
        prompt = record.prompt
        if isinstance(record, Demonstration):
            prompt = before_last_answer(prompt + record.completion)
        return [cast(R, Record(**{**shared_fields(record), "prompt": prompt}))]
    if isinstance(record, Rollouts):
        record = RatedAnswers(**shared_fields(record), completions=record.completions, scores=record.rewards)
    return cast("list[R]", _CONVERTERS[target](record, request))


def shared_fields(record: Record, suffix: str = "") -> dict[str, Any]:
    """The fields that every record has; `suffix` is added to the id if one record becomes several."""
    shared = {field.name: getattr(record, field.name) for field in fields(Record)}
    return {**shared, "id": f"{record.id}{suffix}"}


def _to_demonstration(record: Record, _: DatasetRequest) -> list[Record]:
    """The best answer of the record."""
    if isinstance(record, LabelledCompletion) and not record.desirable:
        raise RowError("undesirable", "the label says that this answer is not to be imitated")
    best = record.best_first[0] if isinstance(record, RatedAnswers) else 0
    return [Demonstration(**shared_fields(record), completion=completions_of(record)[best])]


def _to_labelled(record: PreferencePair | Ranking | RatedAnswers, request: DatasetRequest) -> list[Record]:
    """Both answers of each pair, chosen as desirable and rejected as undesirable."""
    return [
        LabelledCompletion(**shared_fields(pair, f"#{name}"), completion=answer, desirable=name == "chosen")
        for pair in as_kind(record, PreferencePair, request)
        for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))
    ]


def _to_pairs(record: Ranking | RatedAnswers, request: DatasetRequest) -> list[PreferencePair]:
    """The best answer of a ranking with the worst one; of rated answers pairs by `request.ratings`.

    Answers of equal scores or texts, or with a difference below `request.min_margin`, are not paired.
    """
    if isinstance(record, Ranking):
        return [PreferencePair(**shared_fields(record), chosen=record.completions[0], rejected=record.completions[-1])]
    better = [
        (best, worst)
        for best, worst in combinations(record.best_first, 2)
        if record.scores[best] > record.scores[worst]
        and record.scores[best] - record.scores[worst] >= request.min_margin
        and not same_text(record.completions[best], record.completions[worst])
    ]
    if not better:
        raise RowError("tie", f"no two answers differ by {request.min_margin:g} or more: scores {record.scores}")
    if request.ratings == "all_pairs":
        return [_rated_pair(record, best, worst, f"#{best}>{worst}") for best, worst in better]
    with_best = [pair for pair in better if pair[0] == better[0][0]]
    if request.ratings == "best_random":
        return [_rated_pair(record, *random.Random(f"{request.seed}:{record.id}").choice(with_best))]  # noqa: S311
    return [_rated_pair(record, *with_best[-1])]


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


def _to_ranking(record: PreferencePair | RatedAnswers, _: DatasetRequest) -> list[Record]:
    """Best first. Only the first of several answers with one score or one text is kept: a ranking has no ties."""
    if isinstance(record, PreferencePair):
        return [Ranking(**shared_fields(record), completions=(record.chosen, record.rejected))]
    kept: list[Messages] = []
    scores: set[float] = set()
    for index in record.best_first:
        answer = record.completions[index]
        if record.scores[index] not in scores and not any(same_text(answer, better) for better in kept):
            kept.append(answer)
            scores.add(record.scores[index])
    if len(kept) < 2:
        raise RowError("tie", f"all answers have one score: {record.scores}")
    return [Ranking(**shared_fields(record), completions=tuple(kept))]


def _to_scored(record: LabelledCompletion | RatedAnswers, _: DatasetRequest) -> list[Record]:
    """Scores divided by the top of the scale; without a known top they must be in 0 … 1. A label is 1 or 0."""
    if isinstance(record, LabelledCompletion):
        score = float(record.desirable)
        return [ScoredCompletion(**shared_fields(record), completion=record.completion, score=score)]
    top = record.highest or 1.0
    outside = next((score for score in record.scores if not 0 <= score <= top), None)
    if outside is not None:
        raise RowError("score_out_of_range", f"score is {outside:g} on a scale of 0 … {top:g}")
    return [
        ScoredCompletion(**shared_fields(record, f"#{index}"), completion=answer, score=score / top)
        for index, (answer, score) in enumerate(zip(record.completions, record.scores, strict=True))
    ]


_CONVERTERS: Mapping[type[Record], Callable[[Any, DatasetRequest], Sequence[Record]]] = {
    PreferencePair: _to_pairs,
    Demonstration: _to_demonstration,
    LabelledCompletion: _to_labelled,
    Ranking: _to_ranking,
    ScoredCompletion: _to_scored,
}

_TARGETS: Mapping[type[Record], tuple[type[Record], ...]] = {
    PreferencePair: (Demonstration, LabelledCompletion, Ranking),
    Ranking: (PreferencePair, Demonstration, LabelledCompletion),
    LabelledCompletion: (Demonstration, ScoredCompletion),
    RatedAnswers: (PreferencePair, Ranking, Demonstration, LabelledCompletion, ScoredCompletion),
    Rollouts: (PreferencePair, Ranking, Demonstration),
}
"""The kinds that each kind can be converted into, apart from itself and prompts."""
