"""The result of a benchmark: every item's scores by model, rates, and paired comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.artifacts import write_json
from palate.evaluation.benchmarks.statistics import Difference, Rate, differences
from palate.records import Dropped
from palate.stats import Interval

FORMAT = 1
"""Version of the result file."""


@dataclass(frozen=True, slots=True)
class Published:
    """A figure in the definition of the benchmark's own program, where it is not palate's.

    Attributes:
        name, estimate: a share of 1.
        interval: of it; None if there is none that holds, and `note` says why.
    """

    name: str
    estimate: float
    interval: Interval | None
    note: str


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model's results.

    Attributes:
        name: in tables.
        kind: `policy`, `reward model` or `judge`.
        source: folder, hub id or judge.
        identity: content hash of its weights; None for a judge.
        limit: longest sequence in tokens.
        scores: item id → metric → score.
        answers: item id → what the model wrote, where it writes answers.
        left_out: items without scores, each with its reason.
        rates: of its own scored items.
        notes: what a reader must know before believing the figures.
        winrate: of a judged benchmark with verdicts, the figures of `palate eval winrate` without single items.
        published: figures in the definition of the benchmark's own program.
    """

    name: str
    kind: str
    source: str
    identity: str | None
    limit: int | None
    scores: Mapping[str, Mapping[str, float]]
    answers: Mapping[str, str]
    left_out: Sequence[Dropped]
    rates: Sequence[Rate]
    notes: Sequence[str] = ()
    winrate: Mapping[str, Any] | None = None
    published: Sequence[Published] = ()


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Two models on the items that both scored: the first model of the call, and another one."""

    before: str
    after: str
    items: int
    differences: Sequence[Difference]


def comparisons(
    measured: Sequence[ModelResult],
    categories: Mapping[str, str],
    metrics: Sequence[str],
    *,
    grades: Collection[str] = (),
) -> list[ModelComparison]:
    """Each further model against the first."""
    first = measured[0]
    return [
        ModelComparison(
            first.name,
            other.name,
            sum(item in other.scores for item in first.scores),
            differences(first.scores, other.scores, categories, metrics, grades=grades),
        )
        for other in measured[1:]
    ]


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """A finished benchmark.

    Attributes:
        benchmark, title, paper: what was measured.
        protocol: how a question was put to the models.
        deviations: from the published protocol.
        data: name and SHA-256 of each file.
        items: number of items asked.
        of: number of items in the data.
        seed: of the choice of items, if not all were asked.
        prompt_form: `plain` or `chat`.
        precision: of the forward passes.
        categories: item id → category.
        models: in the order of the call, "before" first.
        comparisons: of each further model with the first.
        metrics: name → meaning.
        judge: its name; None where nothing is judged.
        notes: on the data.
        grades: metrics that are grades from 1 to 10, not shares.
        lower_is_better: metrics of which a lower value is the better one; None if that is not known.
    """

    benchmark: str
    title: str
    paper: str
    protocol: str
    deviations: Sequence[str]
    data: Sequence[Mapping[str, str]]
    items: int
    of: int
    seed: int | None
    prompt_form: str
    precision: str
    categories: Mapping[str, str]
    models: Sequence[ModelResult]
    comparisons: Sequence[ModelComparison]
    metrics: Mapping[str, str] = field(default_factory=dict)
    judge: str | None = None
    notes: Sequence[str] = ()
    grades: Sequence[str] = ()
    lower_is_better: Sequence[str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything for `write_json`, with one entry for each item of each model: `{id, category, scores, answer}`."""
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in ("models", "categories")}
        return {"format": FORMAT, **facts, "models": [self._model(model) for model in self.models]}

    def _model(self, model: ModelResult) -> dict[str, Any]:
        facts = {name: getattr(model, name) for name in ("name", "kind", "source", "identity", "limit", "rates")}
        judged = {name: getattr(model, name) for name in ("notes", "winrate", "published")}
        items = [
            {
                "id": item,
                "category": self.categories.get(item, ""),
                "scores": scores,
                **({"answer": model.answers[item]} if item in model.answers else {}),
            }
            for item, scores in model.scores.items()
        ]
        given = {name: value for name, value in judged.items() if value}
        return {**facts, **given, "left_out": model.left_out, "items": items}

    def write(self, folder: Path) -> Path:
        """Write `bench-NAME.json`; returns its path."""
        return write_json(result_path(folder, self.benchmark), self.to_json())


def result_path(folder: Path, benchmark: str) -> Path:
    return folder / f"bench-{benchmark}.json"
