"""Augments a dataset: writes the old rows, then new rows within the limits of a plan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from palate.artifacts.folders import atomic_folder
from palate.config.reader import read_yaml_file
from palate.data.augment.corrupt import AIMS, CORRUPTIONS, corrupt
from palate.data.augment.made import made_of
from palate.data.augment.reword import paraphrased, reworded, swapped_context
from palate.data.augment.sampled import PRINCIPLES, Sampler, judged_pair, revised, reward_scores
from palate.data.contract import check_output_folder, write_contract
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.load import LoadedData, load_records
from palate.data.mix import drawn_key
from palate.data.scores import WinShare
from palate.data.sources.spec import find_sources
from palate.data.turns.cells import RowError
from palate.errors import ConfigError, UsageError
from palate.progress import progress
from palate.records import DatasetRequest, DatasetSpec, Judge, PreferencePair, RewardFunction

BY_RULE = (*CORRUPTIONS, "reworded", "swapped_context")
BY_MODEL = ("sampled", "paraphrased", "revised")
KINDS = (*BY_RULE, *BY_MODEL)
"""All kinds of new rows."""


@dataclass(frozen=True, slots=True)
class AugmentPlan:
    """How many rows of each kind to make.

    Attributes:
        kinds: amount by kind: up to 1 a share of the rows read, above 1 a number of rows.
        max_share: maximum number of new rows, as a share of the rows read.
        max_of_kind: maximum for one kind, as a share of `max_share`.
        seed: random seed.
        k: answers to sample for each prompt.
        by, min_margin: how a pair is chosen from the sampled answers, see `judged_pair`.
        principles: criteria for revisions.
    """

    kinds: Mapping[str, float]
    max_share: float = 0.5
    max_of_kind: float = 1.0
    seed: int = 0
    k: int = 4
    by: Literal["best_worst", "margin"] = "best_worst"
    min_margin: float = 0.0
    principles: tuple[str, ...] = PRINCIPLES

    @classmethod
    def aimed(cls, gaps: Sequence[str], share: float, **options: Any) -> AugmentPlan:
        """A plan that makes rows for the given gaps: accuracy, helpfulness or safety."""
        unknown = next((gap for gap in gaps if gap not in AIMS), None)
        if unknown is not None:
            raise UsageError(f"cannot aim at {unknown!r}; known are {', '.join(AIMS)}")
        kinds = [kind for gap in gaps for kind in AIMS[gap]]
        return cls({kind: share / len(kinds) for kind in kinds}, **options)


def read_plan(path: str | Path) -> AugmentPlan:
    """Read a plan from a YAML file: `kinds: {dropped_end: 0.1}` and any other field of `AugmentPlan`.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    content = read_yaml_file(path)
    known = [field.name for field in fields(AugmentPlan)]
    if not isinstance(content, dict) or "kinds" not in content:
        raise ConfigError(f"{path}: must have kinds:, a mapping of kinds to shares or numbers of rows")
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{path}: unknown key {unknown!r}; known are {', '.join(known)}")
    try:
        return TypeAdapter(AugmentPlan).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The result of an augmentation.

    Attributes:
        output: folder with augmented.jsonl and data.json.
        read: rows read and copied.
        made: new rows by kind.
        not_made: failed attempts by kind and reason.
    """

    output: Path
    read: int
    made: Mapping[str, int]
    not_made: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class AugmentModels:
    """The models that generate and judge new rows.

    Attributes:
        sampler: writes answers, paraphrases and revisions.
        model: name of `sampler`, stored with each row that it wrote.
        judge: compares answers.
        reward: scores answers; used instead of the judge if both are given.
        others: further models by name; each samples K answers too, and all answers are judged together.
    """

    sampler: Sampler | None = None
    model: str = ""
    judge: Judge | None = None
    reward: RewardFunction | None = None
    others: Mapping[str, Sampler] = field(default_factory=dict)


def augment(
    dataset: DatasetSpec | DatasetRequest, output: str | Path, plan: AugmentPlan, models: AugmentModels | None = None
) -> Augmentation:
    """Write the rows of a dataset of pairs, then new rows made from them.

    Rows from an earlier augmentation are copied, but no new rows are made from them, so that faults do not add up.
    """
    output, models = Path(output), models or AugmentModels()
    request = DatasetRequest.of(dataset)
    sources = find_sources(request)
    check_output_folder(output, sources)
    _check(plan, models)
    loaded = load_records(request, kind=PreferencePair)
    check_labels_used(loaded.sources, request.labels)
    run = _Run(loaded, plan, models)
    new = run.new_rows()
    counts = Counter(str((made_of(pair.extra) or {}).get("how")) for pair in new)
    with atomic_folder(output) as folder:
        write_rows(
            folder / "augmented.jsonl", (palate_row(pair) | {"origin": pair.id} for pair in (*loaded.records, *new))
        )
        write_contract(
            folder / "data.json",
            how="augment",
            files={"rows": folder / "augmented.jsonl"},
            counts={"read": len(loaded.records), "made": dict(counts), "not_made": run.failures()},
            sources=sources,
            options={
                **asdict(plan),
                "model": ", ".join((models.model, *models.others)),
                "judge": models.judge.name if models.judge else "",
            },
            reports=loaded.sources,
            left_out=loaded.dropped,
        )
    return Augmentation(output, len(loaded.records), dict(counts), run.failures())


@dataclass(slots=True)
class _Run:
    """One augmentation; `not_made` counts failed attempts, and rows over a limit, by kind and reason."""

    loaded: LoadedData[PreferencePair]
    plan: AugmentPlan
    models: AugmentModels
    not_made: dict[str, Counter[str]] = field(default_factory=dict)

    def new_rows(self) -> list[PreferencePair]:
        """New rows of all kinds, in the order of the plan."""
        left = int(self.plan.max_share * len(self.loaded.records))
        max_of_kind = int(self.plan.max_of_kind * left)
        new: list[PreferencePair] = []
        for kind, size in self.plan.kinds.items():
            wanted = round(size * len(self.loaded.records)) if size <= 1 else int(size)
            allowed = min(wanted, left, max_of_kind)
            if allowed < wanted:
                self.not_made.setdefault(kind, Counter())["over_limit"] += wanted - allowed
            found = list(self._rows(kind, allowed))
            new += found
            left -= len(found)
        return new

    def failures(self) -> dict[str, dict[str, int]]:
        return {kind: dict(reasons.most_common()) for kind, reasons in self.not_made.items()}

    def _rows(self, kind: str, wanted: int) -> Iterator[PreferencePair]:
        """New rows of one kind: tries the original rows in random order until `wanted` rows are made."""
        originals = [pair for pair in self.loaded.records if made_of(pair.extra) is None]
        with progress(f"{kind} rows", wanted, delay=1.0) as made:
            for pair in sorted(originals, key=lambda pair: drawn_key(self.plan.seed, f"{kind}\0{pair.id}")):
                if made.done >= wanted:
                    return
                try:
                    yield self._new_row(kind, pair, originals)
                except RowError as error:
                    self.not_made.setdefault(kind, Counter())[error.reason] += 1
                else:
                    made.advance()

    def _new_row(self, kind: str, pair: PreferencePair, others: Sequence[PreferencePair]) -> PreferencePair:
        """A new row of this kind made from `pair`; raises RowError if that fails."""
        plan, models = self.plan, self.models
        if kind in CORRUPTIONS:
            return corrupt(pair, kind, others, plan.seed)
        if kind == "reworded":
            return reworded(pair, plan.seed)
        if kind == "swapped_context":
            return swapped_context(pair, others, plan.seed)
        if models.sampler is None:
            raise UsageError(f"{kind} needs a model")
        if kind == "paraphrased":
            return paraphrased(pair, models.sampler, models.model, plan.seed)
        if kind == "revised":
            return revised(pair, models.sampler, models.model, plan.principles, plan.seed, models.judge)
        answers, writers = [], []
        for name, sampler in {models.model: models.sampler, **models.others}.items():
            (written,) = sampler.sample([pair.prompt], plan.k, seed=plan.seed, tools=[pair.tools])
            answers += written
            writers += [name] * len(written)
        scores = self._scores(pair, answers)
        return judged_pair(
            pair, answers, scores, by=plan.by, min_margin=plan.min_margin, writers=writers, seed=plan.seed
        )

    def _scores(self, pair: PreferencePair, answers: Sequence[str]) -> list[float | None]:
        if self.models.reward is not None:
            return reward_scores(self.models.reward, pair, answers)
        if self.models.judge is not None:
            return reward_scores(WinShare(self.models.judge), pair, answers)
        raise UsageError("sampled needs a judge or a reward model")


def _check(plan: AugmentPlan, models: AugmentModels) -> None:
    unknown = next((kind for kind in plan.kinds if kind not in KINDS), None)
    if unknown is not None or not plan.kinds:
        raise UsageError(f"unknown kind of rows {unknown!r}; known are {', '.join(KINDS)}")
    wrong = next((kind for kind, size in plan.kinds.items() if not 0 < size < math.inf), None)
    if wrong is not None:
        raise UsageError(f"{wrong} {plan.kinds[wrong]:g}: give a share up to 1 or a number of rows")
    for name, share in (("max_share", plan.max_share), ("max_of_kind", plan.max_of_kind)):
        if not 0 <= share < math.inf or (name == "max_of_kind" and share > 1):
            raise UsageError(f"{name} is {share:g}; it must be a share")
    if plan.k < 2:
        raise UsageError(f"k is {plan.k}; a pair needs at least 2 sampled answers")
    needs_model = next((kind for kind in plan.kinds if kind in BY_MODEL), None)
    if needs_model is not None and models.sampler is None:
        raise UsageError(f"{needs_model} needs a model to write")
    if "sampled" in plan.kinds and models.judge is None and models.reward is None:
        raise UsageError("sampled needs a judge or a reward model to say which answer is better")
