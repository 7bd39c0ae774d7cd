"""`palate eval bench`: published benchmarks, with paired statistics before and after training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from palate.charts.text import amount
from palate.cli.arguments import PrecisionName, TemplateName
from palate.cli.console import print_done, print_note, print_progress
from palate.cli.eval.bench_text import bench_text
from palate.cli.judge.options import asks_judge, judge_of
from palate.cli.models import model_paths
from palate.errors import EngineError, UsageError
from palate.feedback.judges.settings import ApiSettings

if TYPE_CHECKING:
    from palate.evaluation.benchmarks.results import BenchmarkResult, ModelResult


Name = Annotated[str, Argument(metavar="NAME", help="Benchmark, e.g. truthfulqa; see the manual's list.")]
Models = Annotated[
    list[str] | None,
    Argument(metavar="RUN|CHECKPOINT|MODEL", help="Runs, checkpoint folders, any models; openai:MODEL@URL."),
]
Data = Annotated[
    list[Path] | None,
    Option("--data", help="File or folder of the benchmark; may be given again. Default: from the hub."),
]
Harness = Annotated[
    str | None, Option("--harness", metavar="TASK", help="A task of lm-evaluation-harness, in place of NAME.")
]
MaxSamples = Annotated[int | None, Option("--max-samples", min=1, help="Ask only this many items, drawn with --seed.")]
Seed = Annotated[int, Option("--seed", min=0, help="Random seed of --max-samples.")]
Prompt = Annotated[
    Literal["plain", "chat", "written"] | None,
    Option(
        "--prompt", help="Answers scored as plain text or in a chat, or written ones. Default: the benchmark's own."
    ),
]
NoReference = Annotated[bool, Option("--no-reference", help="With one run, do not measure its reference as 'before'.")]
CutoffLen = Annotated[
    int | None,
    Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens (4096); longer items are left out."),
]
MaxNewTokens = Annotated[
    int | None, Option("--max-new-tokens", min=1, help="Longest answer that a model writes. Default: the benchmark's.")
]
Output = Annotated[
    Path | None,
    Option(
        "--output", "-o", metavar="FOLDER", help="Folder for bench-NAME.json and kept scores. With --judge: bench-NAME."
    ),
]


def _judged(*names: str, **settings: Any) -> Any:
    return Option(*names, rich_help_panel="Options of benchmarks with a judge", **settings)


JudgeName = Annotated[
    str | None, _judged("--judge", help="Grades, compares or labels the answers; as `palate judge` has it.")
]
JudgePrompt = Annotated[
    str, _judged("--judge-prompt", metavar="NAME|FILE", help="Question to an openai: judge; alpacaeval only.")
]
Answers = Annotated[
    list[Path] | None,
    _judged("--answers", metavar="FILE", help="Recorded answers, as one more model; may be given again."),
]
Baseline = Annotated[
    list[str] | None,
    _judged("--baseline", metavar="MODEL|FILE", help="Compared with. Default: the data's, else the first model."),
]
Pairwise = Annotated[bool, _judged("--pairwise", help="mtbench: verdicts between two models, not grades.")]
References = Annotated[
    Literal["all", "checked", "none"],
    _judged("--references", help="mtbench: reference answers for the judge; 13 of 30 are known to be wrong."),
]
Compat = Annotated[
    Literal["alpaca_eval"] | None,
    _judged("--compat", help="alpacaeval: one order for each item, and its own formula beside palate's."),
]


@asks_judge
def command(
    name: Name,
    settings: ApiSettings,
    models: Models = None,
    harness: Harness = None,
    data: Data = None,
    max_samples: MaxSamples = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    no_reference: NoReference = False,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    cutoff_len: CutoffLen = None,
    max_new_tokens: MaxNewTokens = None,
    output: Output = None,
    judge: JudgeName = None,
    judge_prompt: JudgePrompt = "criteria",
    answers: Answers = None,
    baseline: Baseline = None,
    pairwise: Pairwise = False,
    references: References = "all",
    compat: Compat = None,
) -> None:
    """Measure models on a benchmark: rates with intervals, and the change from before to after on the same items.

    Example: palate eval bench truthfulqa runs/dpo --data mc_task.json
    """
    from palate.evaluation.benchmarks import BenchmarkOptions, JudgeOptions, find_benchmark, run_benchmark
    from palate.evaluation.benchmarks.harness import run_harness
    from palate.evaluation.benchmarks.judged.benchmark import JudgedBenchmark

    if harness is not None:  # the first argument is a model then
        models, name = [name, *(models or [])], harness
    else:
        name = find_benchmark(name).name
    if seed and max_samples is None and harness is None and not isinstance(find_benchmark(name), JudgedBenchmark):
        raise UsageError(f"--seed chooses the items of --max-samples, and {name} is asked as a whole; leave it out")
    asked = replace(settings, prompt=judge_prompt)
    if judge is None and asked != ApiSettings():
        raise UsageError("options of judges over an API need --judge openai:MODEL")
    if judge_prompt != ApiSettings().prompt and name != "alpacaeval":
        raise UsageError(f"--judge-prompt is for alpacaeval; {name} has a question of its own")
    folder = output if judge is None else output or Path(f"bench-{name}")
    options = BenchmarkOptions(
        data=data or (),
        max_samples=max_samples,
        seed=seed,
        prompt=prompt,
        template=template,
        precision=precision,
        cutoff_len=cutoff_len,
        max_new_tokens=max_new_tokens,
        reference=not no_reference,
        output=folder,
        judging=JudgeOptions(
            None if judge is None else judge_of(judge, asked, (folder or Path()) / "votes.jsonl", check=bool(models)),
            answers or (),
            model_paths(baseline) if baseline else (),
            pairwise,
            references,
            compat,
        ),
    )
    run = run_benchmark if harness is None else run_harness
    result = run(name, model_paths(models or []), options, on_progress=print_progress)
    _print_result(result, folder)


def _print_result(result: BenchmarkResult, folder: Path | None) -> None:
    """Print notes and figures, and write the pages; raises EngineError if the judge has not replied about an item."""
    for note in result.notes:
        print_note(note)
    for model in result.models:
        _note_left_out(model, result.items)
        for note in model.notes:
            print_note(f"{model.name}: {note}" if len(result.models) > 1 else note)
    print_done(bench_text(result), result.to_json())
    if folder is not None:
        _write_pages(result, folder)
        print_progress(f"result    {folder / f'bench-{result.benchmark}.json'}")
    missing = [one for model in result.models for one in model.left_out if one.reason == "no_reply"]
    if missing:
        raise EngineError(
            f"{amount(len(missing), 'item has', 'items have')} no reply of the judge; run the same command again, "
            f"what was answered is kept. The first: {missing[0].id}: {missing[0].detail}"
        )


def _write_pages(result: BenchmarkResult, folder: Path) -> None:
    """The page of each win rate, beside its figures."""
    from palate.artifacts import file_name, read_json, write_text
    from palate.evaluation.winrate.folder import REPORT, RESULT
    from palate.report.pages.winrate import winrate_page

    for model in result.models:
        if model.winrate is not None:
            place = folder / file_name(model.name)
            write_text(place / REPORT, winrate_page(read_json(place / RESULT)))


def _note_left_out(model: ModelResult, items: int) -> None:
    if not model.left_out:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(one.reason for one in model.left_out).items())
    first = model.left_out[0]
    print_note(
        f"{model.name}: {len(model.left_out)} of {amount(items, 'item')} are left out ({reasons}); first {first.id}: "
        f"{first.detail}"
    )
