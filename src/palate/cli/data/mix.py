"""`palate data mix` and `join`: several sources as one dataset, and the shards of a candidates file in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.charts.text import amount
from palate.cli.arguments import named_numbers
from palate.cli.console import print_done
from palate.cli.dataset import Datasets, Exclude, KeepEvaluation, held_out_files, print_labels, reads_dataset
from palate.errors import UsageError
from palate.records import DatasetRequest


@reads_dataset(Datasets)
def mix_command(
    request: DatasetRequest,
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder for mixed.jsonl and data.json.")],
    weights: Annotated[
        list[str] | None,
        Option("--weight", metavar="SOURCE=W", help="Share of a source; give one for every source, or none."),
    ] = None,
    temperature: Annotated[
        float | None, Option("--temperature", help="Instead of weights: shares in proportion to size^(1/T).")
    ] = None,
    caps: Annotated[list[str] | None, Option("--cap", metavar="SOURCE=N", help="Most rows of a source.")] = None,
    rows: Annotated[int | None, Option("--rows", min=1, help="Most rows in all.")] = None,
    kind: Annotated[str, Option("--kind", help="What rows become: pairs, demonstrations, rankings …")] = "pairs",
    form: Annotated[str, Option("--as", help="jsonl, parquet or arrow.")] = "jsonl",
    exclude: Exclude = None,
    keep_evaluation: KeepEvaluation = False,
) -> None:
    """Combine datasets by weights, temperature and caps: evenly interleaved, no row twice, reproducible.

    Example: palate data mix a.jsonl b.jsonl --weight a=2 --weight b=1 -o mixed
    """
    if weights and temperature is not None:
        raise UsageError("--weight and --temperature both set the shares; keep one of them")
    by_source: dict[str, int] = {}
    for name, number in named_numbers("--cap", caps, "SOURCE=NUMBER, as hh.jsonl=5000").items():
        if number < 0 or not number.is_integer():
            raise UsageError(f"--cap {name}={number:g}: give a whole number of rows, 0 or more")
        by_source[name] = int(number)

    from palate.data.mix_files import mix_files

    done = mix_files(
        request,
        output,
        weights=named_numbers("--weight", weights, "SOURCE=NUMBER, as hh.jsonl=2") or None,
        temperature=temperature,
        caps=by_source or None,
        rows=rows,
        kind=kind,
        form=form,
        exclude=held_out_files(exclude, keep_evaluation),
    )
    print_labels(done.sources)
    total = sum(done.taken.values())
    lines = [f"{'rows':>9}  {'share':>6}  source"]
    for name, count in done.taken.items():
        left = [f"{done.not_drawn[name]:,} not drawn"] if done.not_drawn[name] else []
        left += [f"{done.held_out[name]:,} held out for evaluation"] if done.held_out[name] else []
        left += [f"{done.unusable[name]:,} unusable, see left_out.jsonl"] if done.unusable[name] else []
        share = f"{count / total:.1%}"
        aside = f" ({', '.join(left)})" if left else ""
        lines.append(f"{count:>9,}  {share:>6}  {name}{aside}")
    print_done("\n".join([*lines, f"{total:>9,}  rows in {done.output / f'mixed.{form}'}"]), done)


def join_command(
    shards: Annotated[list[Path], Argument(metavar="SHARD.jsonl...", help="All shards, in any order.")],
    output: Annotated[Path, Option("--output", "-o", metavar="FILE.jsonl", help="The joined file.")],
) -> None:
    """Join the shards of `palate generate --shard` into the file of a run without shards.

    Example: palate data join shards/*.jsonl --output candidates.jsonl
    """
    from palate.feedback.shards import join_shards

    rows = join_shards(shards, output)
    text = f"{output}: {amount(rows, 'row')} of {amount(len(shards), 'shard')}"
    print_done(text, {"path": str(output), "rows": rows, "shards": len(shards)})
