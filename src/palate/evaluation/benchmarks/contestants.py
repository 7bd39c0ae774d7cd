"""The models of one comparison, from names: policies, reward models, judges, and a run's reference as "before"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palate.errors import UsageError
from palate.evaluation.accuracy.rewards import is_reward_model
from palate.evaluation.answers.table import distinct_names
from palate.evaluation.benchmarks.benchmark import BenchmarkFacts, Kind
from palate.evaluation.subject import ModelSpec, check_models, find_run, model_spec
from palate.models.loading.resolve import resolve_name

BEFORE = "before"
"""The name of a run's reference in tables."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One model to measure.

    Attributes:
        name: in tables.
        kind: how its scores are made.
        source: folder, hub id or judge, for messages and the result.
        spec: where the model comes from; None for a judge.
    """

    name: str
    kind: Kind
    source: str
    spec: ModelSpec | None = None


def contestants(
    names: Sequence[str],
    benchmark: BenchmarkFacts,
    *,
    template: str | None = None,
    reference: bool = True,
    templates: bool = True,
) -> list[Contestant]:
    """What is measured, in order; the first one is what the others are compared with.

    With one run or checkpoint, its reference comes first, unless `reference` is False or it is a reward model. Every
    model must have a chat template, unless `templates` is False.

    Raises:
        UsageError: a name occurs twice, or the benchmark cannot measure a model of its kind.
        PalateError: a run or model cannot be read.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice; a model is measured once")
    paths = [name for name in names if Path(name).exists()]
    labels = dict(zip(paths, distinct_names(paths), strict=True))
    found = [_contestant(name, labels.get(name, name), template) for name in names]
    if reference and len(found) == 1 and found[0].kind == "policy":
        found = [*_before(names[0]), *found]
    for one in found:
        if one.kind not in benchmark.takes:
            raise UsageError(
                f"{one.source} is a {one.kind}; {benchmark.title} measures a {' or a '.join(benchmark.takes)}"
            )
    if templates:
        check_models(one.spec for one in found if one.spec is not None)
    return found


def _contestant(name: str, label: str, template: str | None) -> Contestant:
    if not Path(name).exists() and ":" in name:
        return Contestant(name, "judge", name)
    spec = replace(model_spec(name, template=template), name=label)
    resolve_name(spec.model)  # fails now on a misspelt run
    return Contestant(label, "reward model" if is_reward_model(spec) else "policy", name, spec)


def _before(name: str) -> list[Contestant]:
    run = find_run(name)
    if run is None:
        return []
    return [Contestant(BEFORE, "policy", run.reference.model, replace(run.reference, name=BEFORE))]
