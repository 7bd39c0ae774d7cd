"""Measures models on a benchmark with a judge; answers and verdicts are kept apart, and none is made twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palate.artifacts import check_writable, file_name
from palate.charts.text import amount
from palate.errors import DataError, UsageError
from palate.evaluation.benchmarks.benchmark import refuse_repeated
from palate.evaluation.benchmarks.contestants import Contestant, contestants
from palate.evaluation.benchmarks.judged.answers import recorded_answers, written_answers
from palate.evaluation.benchmarks.judged.benchmark import (
    AnswerSet,
    JudgedBenchmark,
    JudgedData,
    Mode,
    Question,
    RecordedAnswer,
)
from palate.evaluation.benchmarks.judged.grades import check_grader, grader_name, question_scores
from palate.evaluation.benchmarks.judged.pairs import Pairing, judged_pairs
from palate.evaluation.benchmarks.options import BenchmarkOptions
from palate.evaluation.benchmarks.results import BenchmarkResult, ModelResult, comparisons, result_path
from palate.evaluation.benchmarks.source import DataFile, find_files, read_file
from palate.evaluation.benchmarks.statistics import rates
from palate.evaluation.winrate.folder import WinRateFolder
from palate.evaluation.winrate.sides import check_weights
from palate.models.precision import default_device, resolve
from palate.records import Judge

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured, with which judge, on which questions, and where everything is kept."""

    benchmark: JudgedBenchmark
    data: JudgedData
    questions: Sequence[Question]
    judge: Judge
    options: BenchmarkOptions
    output: Path
    on_progress: Callable[[str], None]

    def answers(self, contestant: Contestant) -> AnswerSet:
        """The answers of a model, or those recorded in a file."""
        if contestant.kind == "answers":
            return self.recorded(contestant.name, [Path(contestant.source)])
        self.on_progress(
            f"answering {amount(len(self.questions), 'question')} with {contestant.name} ({contestant.source})"
        )
        folder = self.output / "answers"
        return written_answers(contestant, self.questions, self.benchmark, self.options, folder)

    def recorded(self, name: str, paths: Sequence[Path]) -> AnswerSet:
        """Recorded answers; those in several files belong to the categories whose published baseline they are."""
        published = self.benchmark.baselines

        def wanted(question: Question, answer: RecordedAnswer) -> bool:
            return len(paths) == 1 or answer.model == published.get(question.category, answer.model)

        found = recorded_answers(name, paths, self.data.questions, self.benchmark, wanted=wanted)
        return found.to(self.questions)


def run_judged(
    benchmark: JudgedBenchmark, models: Sequence[str], options: BenchmarkOptions, on_progress: Callable[[str], None]
) -> BenchmarkResult:
    """Measure models, and answers that were recorded before, on a benchmark with a judge.

    Raises:
        UsageError: no judge, a judge that cannot do what the benchmark needs, or no baseline.
        DataError: the data is missing or damaged, or no question can be judged.
        EngineError: the judge refuses every request.
    """
    judging = options.judging
    mode: Mode = "pairs" if judging.pairwise or "grades" not in benchmark.protocol else "grades"
    judge = _checked_judge(benchmark, mode, options)
    files, options = _files(benchmark, options)
    data = benchmark.read(files, judging)
    refuse_repeated(data.questions)
    questions = options.chosen(data.questions)
    output = options.output or Path(f"bench-{benchmark.name}")
    check_writable(result_path(output, benchmark.name))
    compared = _contestants(benchmark, models, options)
    plan = _Plan(benchmark, data, questions, judge, options, output, on_progress)
    measured = _graded(plan, compared) if mode == "grades" else _paired(plan, compared)
    categories = {question.id: question.category for question in questions}
    grades = [name for name, metric in benchmark.metrics.items() if metric.grade]
    names = ["score"] if mode == "grades" else ["win_rate"]
    result = BenchmarkResult(
        benchmark=benchmark.name,
        title=benchmark.title,
        paper=benchmark.paper,
        protocol=benchmark.protocol[mode],
        deviations=benchmark.deviations,
        data=[{"name": file.name, "sha256": file.sha256} for file in files],
        items=len(questions),
        of=len(data.questions),
        seed=options.seed if len(questions) < len(data.questions) else None,
        prompt_form="chat",
        precision=resolve(options.precision, default_device()).name,
        categories=categories,
        models=measured,
        comparisons=comparisons(measured, categories, names, grades=grades),
        metrics={name: metric.meaning for name, metric in benchmark.metrics.items()},
        judge=grader_name(judge, judging.references) if mode == "grades" else str((measured[0].winrate or {})["judge"]),
        notes=[*data.notes, *_size_note(benchmark, data)],
        grades=grades,
        lower_is_better=[name for name, metric in benchmark.metrics.items() if metric.lower_is_better],
    )
    result.write(output)
    return result


def _files(benchmark: JudgedBenchmark, options: BenchmarkOptions) -> tuple[list[DataFile], BenchmarkOptions]:
    """The files of `--data`; without questions among them, also the hub's, with the published baseline's answers."""
    files = [read_file(path) for path in find_files(options.data, benchmark.files, benchmark.title)]
    hub, judging = benchmark.hub, options.judging
    if any(file.rows and file.rows[0].has(hub.column) for file in files):
        return files, options
    files.insert(0, read_file(hub.download(hub.questions)))
    if hub.answers is not None and not judging.baseline:
        found = [str(hub.download(hub.answers.format(model))) for model in benchmark.baselines.values()]
        options = replace(options, judging=replace(judging, baseline=found))
    return files, options


def _checked_judge(benchmark: JudgedBenchmark, mode: Mode, options: BenchmarkOptions) -> Judge:
    judge = options.judging.judge
    if judge is None:
        raise UsageError(f"{benchmark.title} needs a judge; name one with --judge, for example openai:MODEL")
    if options.prompt not in (None, "chat"):
        raise UsageError(f"--prompt {options.prompt}: {benchmark.title} has only chat")
    if options.judging.compat is not None and benchmark.name != "alpacaeval":
        raise UsageError(f"--compat {options.judging.compat} is for AlpacaEval, not for {benchmark.title}")
    if "grades" not in benchmark.protocol and (options.judging.pairwise or options.judging.references != "all"):
        raise UsageError(f"--pairwise and --references are for MT-Bench, not for {benchmark.title}")
    if mode == "grades":
        if options.judging.baseline:
            raise UsageError(f"--baseline: grades of {benchmark.title} need none; it is for --pairwise")
        check_grader(judge)
    return judge


def _contestants(benchmark: JudgedBenchmark, models: Sequence[str], options: BenchmarkOptions) -> list[Contestant]:
    """The models in the order of the call, a single run's reference before it, then the files of answers."""
    answers = options.judging.answers
    total = len(models) + len(answers)
    if not total:
        raise UsageError(f"name the models to measure with {benchmark.title}, or files of answers with --answers")
    engines = [name for name in models if name.startswith("openai:")]
    found = contestants(
        [name for name in models if name not in engines],
        benchmark,
        template=options.template,
        reference=options.reference and total == 1,
    )
    found += [Contestant(name, "engine", name) for name in dict.fromkeys(engines)]
    if len(models) > 1:
        found.sort(key=lambda one: models.index(one.source))
    found += [Contestant(path.stem, "answers", str(path)) for path in answers]
    names = [file_name(one.name) for one in found]
    twice = next((one for one, name in zip(found, names) if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two models are called {twice.name} in the result; rename a folder or a file of answers")
    return found


def _graded(plan: _Plan, compared: Sequence[Contestant]) -> list[ModelResult]:
    categories = {question.id: question.category for question in plan.questions}
    answers = [plan.answers(one) for one in compared]
    found = []
    for one, given in zip(compared, answers):
        plan.on_progress(f"grading {one.name} with {plan.judge.name}")
        scores, left_out = question_scores(plan.questions, given, plan.judge, plan.benchmark, plan.data)
        if not scores:
            first = left_out[0]
            raise DataError(f"{one.name}: no question has a grade; first {first.id}: {first.detail}")
        grades = [name for name, metric in plan.benchmark.metrics.items() if metric.grade]
        listed = rates(scores, categories, ["score"], grades=grades)
        listed += rates(scores, {}, [name for name in grades if name != "score"], grades=grades)
        notes = [*given.notes]
        for what, ids in (("ends at the longest length", given.truncated), ("is empty", given.empty)):
            if ids:
                notes.append(f"an answer {what} in {amount(len(ids), 'question')} ({', '.join(ids[:3])})")
        texts = {key: "\n\n".join(turn.text for turn in turns) for key, turns in given.answers.items()}
        found.append(
            ModelResult(one.name, one.kind, one.source, given.identity, None, scores, texts, left_out, listed, notes)
        )
    return found


def _paired(plan: _Plan, compared: Sequence[Contestant]) -> list[ModelResult]:
    # First, since the models may take hours to answer.
    judge = plan.benchmark.own_judge(plan.judge, plan.data)
    baseline = _baseline(plan)
    if baseline is None and len(compared) < 2:
        raise UsageError(f"{plan.benchmark.title} compares with a baseline; name it with --baseline, or a second model")
    answers = [plan.answers(one) for one in compared]
    if baseline is None:
        baseline, compared, answers = answers[0], compared[1:], answers[1:]
    found = []
    for one, given in zip(compared, answers):
        identities = [frozenset({side.identity} if side.identity else ()) for side in (given, baseline)]
        check_weights((one.name, baseline.name), (identities[0], identities[1]))
        plan.on_progress(f"comparing {one.name} with {baseline.name}, judge {judge.name}")
        folder = WinRateFolder(plan.output / file_name(one.name))
        pairing = Pairing(given, baseline, one.kind == "answers", one.source, folder)
        found.append(judged_pairs(pairing, plan.questions, plan.benchmark, plan.data, judge, plan.options))
    return found


def _baseline(plan: _Plan) -> AnswerSet | None:
    """The answers to compare with: those named, else those that the data brings along; None without any."""
    names = plan.options.judging.baseline
    if not names:
        return plan.data.baseline and plan.data.baseline.to(plan.questions)
    paths = [Path(name) for name in names]
    if all(path.is_file() for path in paths):
        return plan.recorded(paths[0].stem if len(paths) == 1 else BASELINE, paths)
    if len(names) > 1:
        raise UsageError("--baseline: name one model, or files of recorded answers")
    options = replace(plan.options, reference=False, judging=replace(plan.options.judging, answers=()))
    [contestant] = _contestants(plan.benchmark, names, options)
    return plan.answers(replace(contestant, name=f"{BASELINE}-{contestant.name}"))


def _size_note(benchmark: JudgedBenchmark, data: JudgedData) -> list[str]:
    count = len(data.questions)
    if count == benchmark.size:
        return []
    return [f"the data has {amount(count, 'question')}, {benchmark.title} has {benchmark.size}"]
