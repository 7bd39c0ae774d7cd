"""Measures models on a benchmark, one in memory at a time, and compares them on the same items."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.artifacts import check_writable
from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks.benchmark import Benchmark, Item, Outcome, PromptForm
from palate.evaluation.benchmarks.contestants import Contestant, contestants
from palate.evaluation.benchmarks.kept import KeptOutcomes, batch_key
from palate.evaluation.benchmarks.results import BenchmarkResult, Comparison, ModelResult, result_path
from palate.evaluation.benchmarks.scorers import Prepared, Scorer, ScoringSettings, load_scorer
from palate.evaluation.benchmarks.source import find_files, read_file, read_hub
from palate.evaluation.benchmarks.statistics import differences, rates
from palate.evaluation.benchmarks.suite.table import find_benchmark
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding
from palate.models.precision import default_device, resolve
from palate.progress import progress
from palate.records import Dropped

BATCH = 32
"""Items that are scored, and kept on disk, together."""


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """Settings of a benchmark.

    Attributes:
        data: local files or folders; none reads the hub.
        max_samples: number of items, drawn with `seed` and kept in the file's order; None for all.
        seed: of that choice.
        prompt: `plain` or `chat`; None for the benchmark's own.
        template: chat template by name, for models that are not runs.
        precision: auto, bf16, fp16 or fp32.
        cutoff_len: longest sequence in tokens.
        max_new_tokens: longest answer of a benchmark whose answers are written.
        reference: whether the reference of a single run is measured first.
        output: folder for the result and the kept scores; None writes nothing.
    """

    data: Sequence[Path] = ()
    max_samples: int | None = None
    seed: int = 0
    prompt: PromptForm | None = None
    template: str | None = None
    precision: str = "auto"
    cutoff_len: int = 4096
    max_new_tokens: int = 256
    reference: bool = True
    output: Path | None = None


def run_benchmark(
    name: str,
    models: Sequence[str],
    options: BenchmarkOptions | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> BenchmarkResult:
    """Measure models on a benchmark.

    `run_benchmark("truthfulqa", ["runs/dpo"], BenchmarkOptions(data=[Path("mc_task.json")]))`

    Args:
        name: of the benchmark.
        models: runs, checkpoints, folders, hub ids; judges where the benchmark takes them.
        say: receives progress lines.

    Raises:
        UsageError: no such benchmark or prompt form, or a model of the wrong kind.
        DataError: the data is missing or damaged, or no item can be scored.
        PalateError: a model cannot be loaded.
    """
    options = options or BenchmarkOptions()
    benchmark = find_benchmark(name)
    form = options.prompt if options.prompt is not None else next(iter(benchmark.protocol))
    if form not in benchmark.protocol:
        raise UsageError(f"--prompt {form}: {benchmark.title} has only {', '.join(benchmark.protocol)}")
    compared = contestants(models, benchmark, template=options.template, reference=options.reference)
    paths = find_files(options.data, benchmark.files, benchmark.title)
    files = [read_file(path) for path in paths]
    if not any(file.rows for file in files):  # none, or only a file of answers
        files.insert(0, read_hub(benchmark.hub))
    every = benchmark.read(files)
    _refuse_repeated(every)
    items = _chosen(every, options)
    if options.output is not None:
        check_writable(result_path(options.output, benchmark.name))
    kept = KeptOutcomes(options.output and options.output / f"bench-{benchmark.name}.scores.jsonl")
    device = default_device()
    settings = ScoringSettings(
        resolve(options.precision, device),
        device,
        options.cutoff_len,
        form,
        benchmark.separator,
        benchmark.asks == "answers",
        Decoding(options.max_new_tokens, temperature=0.0, seed=options.seed),
    )
    measured = []
    for number, contestant in enumerate(compared, 1):
        say(f"{number} of {len(compared)}: {contestant.name} ({contestant.source})")
        measured.append(_measure(contestant, items, benchmark, settings, kept))
        give_back_memory()
    result = BenchmarkResult(
        benchmark=benchmark.name,
        title=benchmark.title,
        paper=benchmark.paper,
        protocol=benchmark.protocol[form],
        deviations=benchmark.deviations,
        data=[{"name": file.name, "sha256": file.sha256} for file in files],
        items=len(items),
        of=len(every),
        seed=options.seed if len(items) < len(every) else None,
        prompt_form=form,
        precision=settings.precision.name,
        categories={item.id: item.category for item in items},
        models=measured,
        comparisons=_comparisons(measured, items, list(benchmark.metrics)),
        metrics={metric: described.meaning for metric, described in benchmark.metrics.items()},
    )
    if options.output is not None:
        result.write(options.output)
    return result


def _refuse_repeated(items: Sequence[Item]) -> None:
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            raise DataError(f"{item.where}: has the id {item.id} of {seen[item.id]} again; remove one of them")
        seen[item.id] = item.where


def _chosen(items: Sequence[Item], options: BenchmarkOptions) -> list[Item]:
    if options.max_samples is None or options.max_samples >= len(items):
        return list(items)
    indices = random.Random(options.seed).sample(range(len(items)), options.max_samples)  # noqa: S311
    return [items[index] for index in sorted(indices)]


def _measure(
    contestant: Contestant,
    items: Sequence[Item],
    benchmark: Benchmark,
    settings: ScoringSettings,
    kept: KeptOutcomes,
) -> ModelResult:
    """One model's result; the model is loaded here and freed with the end of the function."""
    scorer = load_scorer(contestant, settings)
    ready: list[Prepared] = []
    left_out: list[Dropped] = []
    for item, one in zip(items, scorer.prepare(items), strict=True):
        if isinstance(one, Dropped):
            left_out.append(Dropped(item.id, one.reason, f"{item.where}: {one.detail}"))
        else:
            ready.append(one)
    scores: dict[str, Mapping[str, float]] = {}
    answers: dict[str, str] = {}
    with progress(f"{benchmark.title} with {contestant.name}", len(ready), delay=1.0) as asked:
        for start in range(0, len(ready), BATCH):
            batch = ready[start : start + BATCH]
            for one, outcome in zip(batch, _outcomes(batch, scorer, kept), strict=True):
                found = benchmark.measure(one.item, outcome) if outcome is not None else {}
                if outcome is not None and outcome.text is not None:
                    answers[one.item.id] = outcome.text
                if found:
                    scores[one.item.id] = found
                else:
                    reason = "unparsed" if outcome is None else "no_answer"
                    left_out.append(Dropped(one.item.id, reason, f"{one.item.where}: gave nothing that can be scored"))
            asked.advance(len(batch))
    if not scores:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(d.reason for d in left_out).items())
        raise DataError(
            f"{contestant.name}: none of {len(items)} items of {benchmark.title} can be scored ({reasons}); "
            f"the longest sequence is {scorer.limit} tokens (--cutoff-len, or the model's own limit)"
        )
    categories = {item.id: item.category for item in items}
    return ModelResult(
        name=contestant.name,
        kind=contestant.kind,
        source=contestant.source,
        identity=(scorer.settings or {}).get("identity"),
        limit=scorer.limit,
        scores=scores,
        answers=answers,
        left_out=left_out,
        rates=rates(scores, categories, list(benchmark.metrics)),
    )


def _outcomes(batch: Sequence[Prepared], scorer: Scorer, kept: KeptOutcomes) -> Sequence[Outcome | None]:
    """The outcomes of a batch: kept ones, or new ones, which are kept unless one of them is missing."""
    if scorer.settings is None:
        return scorer.score(batch)
    key = batch_key(scorer.settings, [one.content for one in batch])
    found = kept.read(key)
    if found is not None:
        return found
    made = scorer.score(batch)
    complete = [outcome for outcome in made if outcome is not None]
    if len(complete) == len(made):
        kept.write(key, complete)
    return made


def _comparisons(measured: Sequence[ModelResult], items: Sequence[Item], metrics: Sequence[str]) -> list[Comparison]:
    categories = {item.id: item.category for item in items}
    first = measured[0]
    return [
        Comparison(
            first.name,
            other.name,
            sum(item in other.scores for item in first.scores),
            differences(first.scores, other.scores, categories, metrics),
        )
        for other in measured[1:]
    ]
