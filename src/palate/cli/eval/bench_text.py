"""What `palate eval bench` prints: rates, comparisons, and figures of judged benchmarks."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from palate.charts.text import amount, p_value
from palate.cli.columns import table, two_columns, wrapped

if TYPE_CHECKING:
    from palate.evaluation.benchmarks.results import BenchmarkResult, ModelComparison, ModelResult, Published
    from palate.evaluation.benchmarks.statistics import Difference
    from palate.stats import Interval

_LARGE = 300
"""With fewer items, a note says that the paired t test is approximate."""
_MANY = 10
"""With more categories of a metric than this, its rates by category are only in the JSON result."""


def bench_text(result: BenchmarkResult) -> str:
    """Data and protocol, rates of each model, and comparisons."""
    asked = f"{amount(result.items, 'item')}"
    if result.seed is not None:
        asked = f"{result.items} of {amount(result.of, 'item')} (seed {result.seed})"
    measured = {rate.metric for model in result.models for rate in model.rates}
    facts = [
        ("data", ", ".join(file["name"] for file in result.data)),
        ("protocol", result.protocol),
        *([("judge", result.judge)] if result.judge is not None else []),
        *(("deviation", text) for text in result.deviations),
        *(("metric", f"{name}: {meaning}") for name, meaning in result.metrics.items() if name in measured),
    ]
    parts = [wrapped(f"{result.title} ({result.paper}): {asked}", hang=2)]
    parts.append(two_columns(facts, indent=0))
    parts.append(_rates(result))
    for model in result.models:
        parts += _judged_figures(model)
    parts += [_comparison(comparison, result) for comparison in result.comparisons]
    return "\n\n".join(parts)


def _judged_figures(model: ModelResult) -> list[str]:
    """The figures of a win rate, and those of the benchmark's own definition."""
    parts = []
    if model.winrate is not None:
        from palate.report.pages.winrate import figure_rows

        heading = f"{model.name} (A) against {model.winrate['b']['name']} (B)"
        parts.append("\n".join([heading, two_columns(figure_rows(model.winrate))]))
    if model.published:
        heading = f"{model.name}, as the benchmark's own program defines it"
        parts.append("\n".join([heading, two_columns([_published(one) for one in model.published])]))
    return parts


def _published(one: Published) -> tuple[str, str]:
    value = f"{100 * one.estimate:.1f} %" if one.interval is None else one.interval.percent()
    return one.name, f"{value}; {one.note}"


def _rates(result: BenchmarkResult) -> str:
    """The rates of each model; by category only without a comparison, whose table has them."""
    listed = [(model, rate) for model in result.models for rate in model.rates]
    counts = Counter((model.name, rate.metric) for model, rate in listed if rate.category is not None)
    few = max(counts.values(), default=0) <= _MANY
    rows = []
    for model, rate in listed:
        if rate.category is None or (few and not result.comparisons):
            mean = _mean(rate.mean, rate.metric in result.grades)
            rows.append([rate.metric, rate.category or "all", model.name, mean, str(rate.mean.n)])
    name = "mean (95 %)" if any(rate.metric in result.grades for _, rate in listed) else "rate (95 %)"
    found = table(["metric", "items", "model", name, "n"], rows, right=(4,))
    if few:
        return found
    line = f"The rates of {max(counts.values())} categories are in the JSON result (--output or --json)."
    return f"{found}\n\n{wrapped(line, hang=2)}"


def _mean(mean: Interval, grade: bool) -> str:
    if not grade:
        return mean.percent()
    ends = f" ({mean.low:.2f} to {mean.high:.2f})" if math.isfinite(mean.low) else ""
    return f"{mean.estimate:.2f}{ends}"


def _comparison(comparison: ModelComparison, result: BenchmarkResult) -> str:
    listed = comparison.differences
    counts = Counter(one.metric for one in listed if one.category is not None)
    few = max(counts.values(), default=0) <= _MANY
    heading = wrapped(
        f"{comparison.before} → {comparison.after}, paired on {amount(comparison.items, 'item')} (95 % intervals; p of "
        "categories adjusted by Holm)",
        hang=2,
    )
    rows = [_row(one, one.metric in result.grades) for one in listed if few or one.category is None]
    if not rows:
        return f"{heading}\n\nNo item was scored for both models."
    points = "difference, grades" if any(one.metric in result.grades for one in listed) else "difference, points"
    names = ["metric", "items", "before", "after", points, "p", "n"]
    lines = [heading, table(names, rows, right=(5, 6))]
    if any(one.test == "paired_t" and one.difference.n < _LARGE for one in listed if one.category is None):
        note = f"The paired t test assumes {_LARGE} items or more; with fewer, its p is approximate."
        lines.append(wrapped(note, hang=2))
    return "\n\n".join(lines)


def _row(one: Difference, grade: bool) -> list[str]:
    change, shown = one.difference, _grade if grade else _points
    points = shown(change.estimate)
    if math.isfinite(change.low):
        points += f" ({shown(change.low)} to {shown(change.high)})"
    p = p_value(one.p if one.p_holm is None else one.p_holm)
    means = _mean(one.before, grade), _mean(one.after, grade)
    return [one.metric, one.category or "all", *means, points, p, str(change.n)]


def _points(share: float) -> str:
    """A difference of rates in percentage points, with its sign; never -0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _grade(change: float) -> str:
    """A difference of grades, with its sign; never -0.00."""
    return f"{round(change, 2) + 0.0:+.2f}"
