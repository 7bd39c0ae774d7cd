"""`palate eval bench`: published benchmarks, with paired statistics before and after training."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palate.cli.arguments import AsJson, PrecisionName, TemplateName
from palate.cli.columns import table, text_width, two_columns, wrapped
from palate.cli.console import print_json, print_note, print_progress, print_result
from palate.cli.models import model_paths

if TYPE_CHECKING:
    from palate.evaluation.benchmarks.results import BenchmarkResult, Comparison, ModelResult
    from palate.evaluation.benchmarks.statistics import Difference

_LARGE = 300
"""With fewer items, a note says that the paired t test is approximate."""
_MANY = 10
"""With more categories of a metric than this, its rates by category are only in the JSON result."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Benchmark, e.g. truthfulqa; see the manual's list.")]
Models = Annotated[
    list[str], typer.Argument(metavar="RUN|CHECKPOINT|MODEL...", help="Runs, checkpoint folders, any models.")
]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="File or folder of the benchmark; may be given again. Default: from the hub."),
]
MaxSamples = Annotated[
    int | None, typer.Option("--max-samples", min=1, help="Ask only this many items, drawn with --seed.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed of --max-samples.")]
Prompt = Annotated[
    Literal["plain", "chat"] | None,
    typer.Option("--prompt", help="Plain text or the model's chat template. Default: the benchmark's own."),
]
NoReference = Annotated[
    bool, typer.Option("--no-reference", help="With one run, do not measure its reference as 'before'.")
]
CutoffLen = Annotated[
    int, typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens; longer items are left out.")
]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", min=1, help="Longest answer, where the model writes one.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for bench-NAME.json and kept scores.")
]


def command(
    name: Name,
    models: Models,
    data: Data = None,
    max_samples: MaxSamples = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    no_reference: NoReference = False,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    cutoff_len: CutoffLen = 4096,
    max_new_tokens: MaxNewTokens = 256,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measure models on a benchmark: rates with intervals, and the change from before to after on the same items.

    Example: palate eval bench truthfulqa runs/dpo --data mc_task.json
    """
    from palate.evaluation.benchmarks import BenchmarkOptions, run_benchmark

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
        output=output,
    )
    result = run_benchmark(name, model_paths(models), options, say=print_progress)
    for model in result.models:
        _note_left_out(model, result.items)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(_text(result, text_width()))
    if output is not None:
        print_progress(f"result    {output / f'bench-{result.benchmark}.json'}")


def _note_left_out(model: ModelResult, items: int) -> None:
    if not model.left_out:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(one.reason for one in model.left_out).items())
    first = model.left_out[0]
    print_note(
        f"{model.name}: {len(model.left_out)} of {items} items are left out ({reasons}); first {first.id}: "
        f"{first.detail}"
    )


def _text(result: BenchmarkResult, width: int | None) -> str:
    """The result for a person."""
    asked = f"{result.items} items"
    if result.seed is not None:
        asked = f"{result.items} of {result.of} items (seed {result.seed})"
    facts = [
        ("data", ", ".join(file["name"] for file in result.data)),
        ("protocol", result.protocol),
        *(("deviation", text) for text in result.deviations),
        *(("metric", f"{name}: {meaning}") for name, meaning in result.metrics.items() if _has(result, name)),
    ]
    parts = [wrapped(f"{result.title} ({result.paper}): {asked}", hang=2, width=width)]
    parts.append("\n".join(two_columns(facts, width=width, indent=0)))
    parts.append(_rates(result, width))
    parts += [_comparison(comparison, width) for comparison in result.comparisons]
    return "\n\n".join(parts)


def _has(result: BenchmarkResult, metric: str) -> bool:
    return any(rate.metric == metric for model in result.models for rate in model.rates)


def _rates(result: BenchmarkResult, width: int | None) -> str:
    """The rates of each model; by category only without a comparison, whose table has them."""
    listed = [(model, rate) for model in result.models for rate in model.rates]
    counts = Counter((model.name, rate.metric) for model, rate in listed if rate.category is not None)
    few = max(counts.values(), default=0) <= _MANY
    rows = [
        [rate.metric, rate.category or "all", model.name, rate.mean.percent(), str(rate.mean.n)]
        for model, rate in listed
        if rate.category is None or (few and not result.comparisons)
    ]
    found = table(["metric", "items", "model", "rate (95 %)", "n"], rows, right=(4,), width=width)
    if few:
        return found
    line = f"The rates of {max(counts.values())} categories are in the JSON result (--output or --json)."
    return f"{found}\n\n{wrapped(line, hang=2, width=width)}"


def _comparison(comparison: Comparison, width: int | None) -> str:
    listed = comparison.differences
    counts = Counter(one.metric for one in listed if one.category is not None)
    few = max(counts.values(), default=0) <= _MANY
    heading = wrapped(
        f"{comparison.before} → {comparison.after}, paired on {comparison.items} items (95 % intervals; p of "
        "categories adjusted by Holm)",
        hang=2,
        width=width,
    )
    rows = [_row(one) for one in listed if few or one.category is None]
    if not rows:
        return f"{heading}\n\nNo item was scored for both models."
    names = ["metric", "items", "before", "after", "difference, points", "p", "n"]
    lines = [heading, table(names, rows, right=(5, 6), width=width)]
    if any(one.test == "paired_t" and one.difference.n < _LARGE for one in listed if one.category is None):
        note = f"The paired t test assumes {_LARGE} items or more; with fewer, its p is approximate."
        lines.append(wrapped(note, hang=2, width=width))
    return "\n\n".join(lines)


def _row(one: Difference) -> list[str]:
    change = one.difference
    points = _points(change.estimate)
    if math.isfinite(change.low):
        points += f" ({_points(change.low)} to {_points(change.high)})"
    p = one.p if one.p_holm is None else one.p_holm
    shown = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return [
        one.metric,
        one.category or "all",
        one.before.percent(),
        one.after.percent(),
        points,
        shown,
        str(change.n),
    ]


def _points(share: float) -> str:
    """A difference of rates in percentage points, with its sign; never -0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"
