"""Settings of a benchmark."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from palate.evaluation.benchmarks.benchmark import Item, PromptForm
from palate.records import Judge

Asked = TypeVar("Asked", bound=Item)
References: TypeAlias = Literal["all", "checked", "none"]


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Settings of a benchmark whose answers are judged.

    Attributes:
        judge: gives the grades or verdicts.
        answers: files of answers that were recorded before, each as one more model.
        baseline: models or files of answers to compare with; none for the benchmark's own.
        pairwise: verdicts between two models where the benchmark has grades, too.
        references: which of the reference answers the judge sees.
        compat: `alpaca_eval` for the protocol and the figures of that program.
    """

    judge: Judge | None = None
    answers: Sequence[Path] = ()
    baseline: Sequence[str] = ()
    pairwise: bool = False
    references: References = "all"
    compat: Literal["alpaca_eval"] | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """Settings of a benchmark.

    Attributes:
        data: local files or folders; none reads the hub.
        max_samples: number of items, drawn with `seed` and kept in the file's order; None for all.
        seed: of that choice, and of sampled answers.
        prompt: `plain` or `chat`; None for the benchmark's own.
        template: chat template by name, for models that are not runs.
        precision: auto, bf16, fp16 or fp32.
        cutoff_len: longest sequence in tokens; None for 4096, and for the model's own limit where answers are judged.
        max_new_tokens: longest answer of a benchmark whose answers are written; None for the benchmark's own.
        reference: whether the reference of a single run is measured first.
        output: folder for the result and the kept scores; None writes nothing, and `bench-NAME` where answers are
            judged, because these are costly.
        judging: settings of a benchmark whose answers are judged.
    """

    data: Sequence[Path] = ()
    max_samples: int | None = None
    seed: int = 0
    prompt: PromptForm | None = None
    template: str | None = None
    precision: str = "auto"
    cutoff_len: int | None = None
    max_new_tokens: int | None = None
    reference: bool = True
    output: Path | None = None
    judging: JudgeOptions = field(default_factory=JudgeOptions)

    def chosen(self, items: Sequence[Asked]) -> list[Asked]:
        """All items, or `max_samples` of them in the file's order."""
        if self.max_samples is None or self.max_samples >= len(items):
            return list(items)
        indices = random.Random(self.seed).sample(range(len(items)), self.max_samples)  # noqa: S311
        return [items[index] for index in sorted(indices)]
