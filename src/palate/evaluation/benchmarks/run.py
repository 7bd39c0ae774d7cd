"""Measures models on a benchmark, one in memory at a time, and compares them on the same items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from palate.artifacts import check_writable
from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks.benchmark import Benchmark, Item, Outcome, PromptForm, refuse_repeated
from palate.evaluation.benchmarks.contestants import Contestant, contestants
from palate.evaluation.benchmarks.judged.benchmark import JudgedBenchmark
from palate.evaluation.benchmarks.judged.run import run_judged
from palate.evaluation.benchmarks.labels import Labeller
from palate.evaluation.benchmarks.options import BenchmarkOptions, JudgeOptions
from palate.evaluation.benchmarks.results import BenchmarkResult, ModelResult, comparisons, result_path
from palate.evaluation.benchmarks.scorers import KeptOutcomes, Prepared, ScoringSettings, load_scorer, outcomes_of
from palate.evaluation.benchmarks.source import find_files, read_file, read_hub
from palate.evaluation.benchmarks.statistics import rates
from palate.evaluation.benchmarks.suite.table import find_benchmark
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding
from palate.models.precision import default_device, resolve
from palate.progress import progress
from palate.records import Dropped

BATCH = 32
"""Items that are scored, and kept on disk, together."""
CUTOFF_LEN, MAX_NEW_TOKENS = 4096, 256


def run_benchmark(
    name: str,
    models: Sequence[str],
    options: BenchmarkOptions | None = None,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> BenchmarkResult:
    """Measure models on a benchmark.

    `run_benchmark("truthfulqa", ["runs/dpo"], BenchmarkOptions(data=[Path("mc_task.json")]))`

    Args:
        models: runs, checkpoints, folders, hub ids; judges, or engines, where the benchmark takes them.

    Raises:
        UsageError: no such benchmark or prompt form, or a model of the wrong kind.
        DataError: the data is missing or damaged, or no item can be scored.
        PalateError: a model cannot be loaded.
    """
    options = options or BenchmarkOptions()
    benchmark = find_benchmark(name)
    if isinstance(benchmark, JudgedBenchmark):
        return run_judged(benchmark, models, options, on_progress)
    return _run_scored(benchmark, models, options, on_progress)


def _run_scored(
    benchmark: Benchmark, models: Sequence[str], options: BenchmarkOptions, on_progress: Callable[[str], None]
) -> BenchmarkResult:
    judge = options.judging.judge
    if options.judging != JudgeOptions(judge):
        raise UsageError(f"{benchmark.title} compares no answers: leave out --answers, --baseline and the like")
    if not models:
        raise UsageError(f"name the models to measure with {benchmark.title}")
    labeller = Labeller(judge, benchmark) if judge is not None else None
    form = _form(benchmark, options, judged=labeller is not None)
    compared = contestants(models, benchmark, template=options.template, reference=options.reference)
    paths = find_files(options.data, benchmark.files, benchmark.title)
    files = [read_file(path) for path in paths]
    if not any(file.rows for file in files):  # none, or only a file of answers
        files.insert(0, read_hub(benchmark.hub))
    every = benchmark.read(files)
    refuse_repeated(every)
    items = options.chosen(every)
    if options.output is not None:
        check_writable(result_path(options.output, benchmark.name))
    kept = KeptOutcomes(options.output and options.output / f"bench-{benchmark.name}.scores.jsonl")
    device = default_device()
    settings = ScoringSettings(
        resolve(options.precision, device),
        device,
        options.cutoff_len or CUTOFF_LEN,
        form,
        benchmark.separator,
        Decoding(options.max_new_tokens or MAX_NEW_TOKENS, temperature=0.0, seed=options.seed),
    )
    measured = []
    for number, contestant in enumerate(compared, 1):
        on_progress(f"{number} of {len(compared)}: {contestant.name} ({contestant.source})")
        measured.append(_measure(contestant, items, benchmark, settings, kept, labeller))
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
        comparisons=comparisons(measured, {item.id: item.category for item in items}, list(benchmark.metrics)),
        metrics={metric: described.meaning for metric, described in benchmark.metrics.items()},
        judge=None if labeller is None else labeller.name,
        lower_is_better=[metric for metric, described in benchmark.metrics.items() if described.lower_is_better],
    )
    if options.output is not None:
        result.write(options.output)
    return result


def _form(benchmark: Benchmark, options: BenchmarkOptions, *, judged: bool) -> PromptForm:
    """The prompt form: the one asked for, else the benchmark's own; a judge labels written answers only."""
    own: PromptForm = "written" if judged else next(iter(benchmark.protocol))
    form = own if options.prompt is None else options.prompt
    if form not in benchmark.protocol:
        raise UsageError(f"--prompt {form}: {benchmark.title} has only {', '.join(benchmark.protocol)}")
    if judged and form != "written":
        raise UsageError(f"--judge is for written answers; leave out --prompt {form}")
    needed = form == "written" and benchmark.labelling is not None and benchmark.labelling.needed
    if needed and not judged:
        raise UsageError(f"written answers to {benchmark.title} need a judge; name one with --judge openai:MODEL")
    if options.max_new_tokens is not None and form != "written":
        raise UsageError("--max-new-tokens is for written answers; here the model writes none, so leave it out")
    if options.template is not None and form == "plain":
        raise UsageError("--template: plain text has no chat template; add --prompt chat, or leave it out")
    return form


def _measure(
    contestant: Contestant,
    items: Sequence[Item],
    benchmark: Benchmark,
    settings: ScoringSettings,
    kept: KeptOutcomes,
    labeller: Labeller | None,
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
    outcomes: list[Outcome | Dropped] = []
    with progress(f"{benchmark.title} with {contestant.name}", len(ready), delay=1.0) as asked:
        for start in range(0, len(ready), BATCH):
            batch = ready[start : start + BATCH]
            outcomes += outcomes_of(batch, scorer, kept)
            asked.advance(len(batch))
    scores: dict[str, Mapping[str, float]] = {}
    answers: dict[str, str] = {}
    for item, outcome in _judged([one.item for one in ready], outcomes, labeller):
        if isinstance(outcome, Dropped):
            left_out.append(outcome)
            continue
        if outcome.text is not None:
            answers[item.id] = outcome.text
        if found := benchmark.measure(item, outcome):
            scores[item.id] = found
        else:
            left_out.append(Dropped(item.id, "no_answer", f"{item.where}: gave nothing that can be scored"))
    if not scores:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(d.reason for d in left_out).items())
        raise DataError(
            f"{contestant.name}: no item of {benchmark.title} can be scored ({reasons}); "
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


def _judged(
    items: Sequence[Item], outcomes: Sequence[Outcome | Dropped], labeller: Labeller | None
) -> list[tuple[Item, Outcome | Dropped]]:
    """Each item with its outcome, with a judge's labels if it wrote an answer; or why there is none."""
    found = {item.id: outcome for item, outcome in zip(items, outcomes, strict=True)}
    if labeller is not None:
        written = [
            (item, one) for item in items if isinstance(one := found[item.id], Outcome) and (one.text or "").strip()
        ]
        asked, answers = [item for item, _ in written], [outcome for _, outcome in written]
        found |= zip((item.id for item in asked), labeller.label(asked, answers), strict=True)
    return [(item, found[item.id]) for item in items]
