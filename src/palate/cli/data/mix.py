"""`palate data mix`: several sources as one dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json
from palate.cli.data.arguments import (
    Columns,
    DatasetDir,
    Datasets,
    Labels,
    MaxSamples,
    MinMargin,
    Prefer,
    Ratings,
    Seed,
    Split,
    Subset,
    chosen_columns,
    chosen_reading,
    say_labels,
)
from palate.errors import UsageError


def mix_command(
    datasets: Datasets,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for mixed.jsonl and data.json.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="SOURCE=W", help="Share of a source; for all sources or none."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Instead of weights: shares in proportion to size^(1/T).")
    ] = None,
    caps: Annotated[list[str] | None, typer.Option("--cap", metavar="SOURCE=N", help="Most rows of a source.")] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Most rows in all.")] = None,
    kind: Annotated[str, typer.Option("--kind", help="What rows become: pairs, demonstrations, rankings …")] = "pairs",
    form: Annotated[str, typer.Option("--as", help="jsonl, parquet or arrow.")] = "jsonl",
    seed: Seed = 0,
    dataset_dir: DatasetDir = None,
    column: Columns = None,
    label: Labels = None,
    split: Split = None,
    subset: Subset = None,
    max_samples: MaxSamples = None,
    prefer: Prefer = "better",
    ratings: Ratings = "best_worst",
    min_margin: MinMargin = 0.0,
    as_json: AsJson = False,
) -> None:
    """Draw from several sources by weights, temperature and caps; evenly interleaved, no row twice, reproducible."""
    if weights and temperature is not None:
        raise UsageError("--weight and --temperature both set the shares; keep one of them")
    by_source = {name: _row_count("--cap", name, number) for name, number in _numbers("--cap", caps).items()}
    reading = chosen_reading(prefer, ratings, min_margin, seed, label)

    from palate.data.mix_files import mix_files

    done = mix_files(
        datasets,
        output,
        weights=_numbers("--weight", weights) or None,
        temperature=temperature,
        caps=by_source or None,
        rows=rows,
        kind=kind,
        form=form,
        seed=seed,
        dataset_dir=dataset_dir,
        columns=chosen_columns(column),
        split=split,
        subset=subset,
        max_samples=max_samples,
        reading=reading,
    )
    if as_json:
        from dataclasses import asdict

        result_json(asdict(done))
        return
    say_labels(done.sources)
    total = sum(done.taken.values())
    lines = [f"{'rows':>9}  {'share':>6}  source"]
    for name, count in done.taken.items():
        left = [f"{done.not_drawn[name]:,} not drawn"] if done.not_drawn[name] else []
        left += [f"{done.unusable[name]:,} unusable, see left_out.jsonl"] if done.unusable[name] else []
        share = f"{count / total:.1%}"
        aside = f" ({', '.join(left)})" if left else ""
        lines.append(f"{count:>9,}  {share:>6}  {name}{aside}")
    result("\n".join([*lines, f"{total:>9,}  rows in {done.output / f'mixed.{form}'}"]))


def _numbers(option: str, entries: Sequence[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in entries or []:
        name, _, number = entry.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name or not math.isfinite(found[name.strip()]):
            raise UsageError(f"{option} {entry}: write SOURCE=NUMBER, as {option} hh.jsonl=2")
    return found


def _row_count(option: str, name: str, number: float) -> int:
    if number < 0 or number != int(number):
        raise UsageError(f"{option} {name}={number:g}: give a whole number of rows, 0 or more")
    return int(number)
