"""`palate eval compare`: two results on the same items, with intervals of the difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from palate.charts.text import amount, p_value
from palate.cli.columns import table, wrapped
from palate.cli.console import print_json, print_note, print_result, wants_json
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.evaluation.logs.compare import MetricComparison, ResultComparison

First = Annotated[Path, Argument(metavar="LOG", help="The result before: a file or a folder.")]
Second = Annotated[Path, Argument(metavar="LOG", help="The result after, on the same items.")]
Adjust = Annotated[
    Literal["holm", "bh"],
    Option("--adjust", help="p-values of several metrics: holm for claims, bh (false discovery rate) to explore."),
]
Seed = Annotated[int, Option("--seed", help="Seed of the bootstrap.")]

_ADJUSTED = {"holm": "p Holm", "bh": "p BH"}
_IDS = 8
"""Ids of unmatched items that are printed; --json has all of them."""


def command(first: First, second: Second, adjust: Adjust = "holm", seed: Seed = 0) -> None:
    """Compare two results item by item: of palate, lm-evaluation-harness (--log_samples) or Inspect (.eval, .json).

    Example: palate eval compare before/samples.jsonl after/samples.jsonl
    """
    if first.exists() and second.exists() and first.samefile(second):
        raise UsageError(f"{first} is compared with itself; name the result before and the result after")
    from palate.evaluation.logs.compare import compare_items
    from palate.evaluation.logs.read import read_log

    found = compare_items(read_log(first), read_log(second), adjustment=adjust, seed=seed)
    if wants_json():
        print_json({"first_path": str(first), "second_path": str(second), **found.to_json()})
        return
    for line in _notes(found):
        print_note(line)
    print_result(f"{wrapped(_heading(found), hang=4)}\n\n{_table(found)}\n\n{_tests(found)}")


def _heading(found: ResultComparison) -> str:
    lines = [f"A   {found.first}", f"B   {found.second}", f"n   {amount(found.items, 'item')} in both results"]
    for name, ids in (("A", found.only_first), ("B", found.only_second)):
        if ids:
            more = f" and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
            lines.append(f"    {len(ids)} only in {name}, left out: {', '.join(ids[:_IDS])}{more}")
    return "\n".join(lines)


def _table(found: ResultComparison) -> str:
    names = ["metric", "A", "B", "B − A", "95 %", "p", _ADJUSTED[found.adjustment], "MDE"]
    rows = []
    for one in found.metrics:
        result, change = one.found, one.found.difference
        both = [f"{result.first:.3f}", f"{result.second:.3f}"]
        difference = [f"{change.estimate:+.3f}", f"{change.low:+.3f} to {change.high:+.3f}"]
        detectable = "–" if result.detectable is None else f"{result.detectable:.3f}"
        rows.append([one.metric, *both, *difference, p_value(result.p_value), p_value(one.adjusted), detectable])
    return table(names, rows, right=range(1, len(names)))


def _tests(found: ResultComparison) -> str:
    """How each metric was tested, and what the columns mean."""
    lines = [_test(one) for one in found.metrics]
    if len(found.metrics) > 1:
        lines.append(f"{_ADJUSTED[found.adjustment]}: adjusted for {len(found.metrics)} tests")
    lines.append("MDE: minimum detectable effect, the true difference that these items show in 80 % of studies")
    return wrapped("\n".join(lines), hang=2)


def _test(one: MetricComparison) -> str:
    result = one.found
    interval = "Newcombe's interval" if result.test == "McNemar mid-p" else "t interval"
    of = amount(result.n, "item") + (f" in {amount(result.units, 'cluster')}" if result.test == "cluster t" else "")
    text = f"{one.metric}: {result.test}, {interval}, {of}; higher in {result.higher}, lower in {result.lower}"
    if result.bootstrap is not None:
        text += f"; BCa bootstrap {result.bootstrap.low:+.3f} to {result.bootstrap.high:+.3f}"
    return text


def _notes(found: ResultComparison) -> list[str]:
    """Lines that a reader should know before trusting the table."""
    from palate.stats import FEW_CLUSTERS

    notes = list(found.notes)
    for which, names in (("first", found.metrics_only_first), ("second", found.metrics_only_second)):
        if names:
            notes.append(f"only in the {which} result, not compared: {', '.join(names)}")
    if found.not_compared:
        notes.append(f"no item has a value in both results, not compared: {', '.join(found.not_compared)}")
    for one in found.metrics:
        if one.missing_first or one.missing_second:
            counts = f"{one.missing_first} in the first result, {one.missing_second} in the second"
            notes.append(f"{one.metric}: items without a value are left out: {counts}")
        if one.found.test == "cluster t" and one.found.units <= FEW_CLUSTERS:
            notes.append(f"{one.metric}: intervals from {one.found.units} clusters are rough")
    return notes
