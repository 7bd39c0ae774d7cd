"""`palate loop mix`: the training set of a cycle from its sources of preferences."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.arguments import named_numbers, named_values
from palate.cli.columns import table
from palate.cli.console import print_done
from palate.cli.dataset import Exclude, KeepEvaluation, held_out_files
from palate.errors import UsageError


def mix_command(
    sources: Annotated[
        list[str], Argument(metavar="NAME=FILE", help="people, judge, edits, choices, thumbs, or an imported set.")
    ],
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    weights: Annotated[
        list[str] | None,
        Option("--weight", metavar="NAME=W", help="Factor on the weight of a source's rows. Default: 1."),
    ] = None,
    kto: Annotated[bool, Option("--kto", help="For `stage: kto`, which also trains on thumbs.")] = False,
    exclude: Exclude = None,
    keep_evaluation: KeepEvaluation = False,
    seed: Annotated[int, Option("--seed", min=0, help="Random seed of the order of the rows.")] = 0,
) -> None:
    """Make one training set of preferences of people, judges and others; every row keeps who compared.

    Example: palate loop mix people=a.jsonl judge=b.jsonl --weight judge=0.5 -o c
    """
    from palate.loop.sources import SOURCE_KINDS, PreferenceSource, mix_sources

    form = "NAME=FILE, as people=people.jsonl"
    named = named_values("the source", sources, form, at_first=True)
    if len(named) < len(sources):
        raise UsageError("a source is named twice; give each its own name")
    factors = named_numbers("--weight", weights, "NAME=NUMBER, as judge=0.5")
    unknown = next((name for name in factors if name not in named), None)
    if unknown is not None:
        raise UsageError(f"--weight {unknown}: is no source here; sources are {', '.join(named)}")
    given = [
        PreferenceSource(name, SOURCE_KINDS.get(name, "imported"), Path(path), factors.get(name, 1.0))
        for name, path in named.items()
    ]
    done = mix_sources(given, output, seed=seed, kto=kto, exclude=held_out_files(exclude, keep_evaluation))
    columns = ["source", "compared by", "rows", "share", "weight", "share of the loss"]
    rows = [
        [one.source, one.kind, f"{one.rows:,}", f"{one.share:.1%}", f"{one.weight:g}", f"{one.loss_share:.1%}"]
        for one in done.sources
    ]
    left_out = {
        "agree with a row of another source": done.agreed,
        "overruled by people": done.overruled,
        "of sources that contradict each other": done.contradictory,
        **{f"unusable: {reason}": count for reason, count in done.unusable.items()},
    }
    lines = [
        table(columns, rows, right=(2, 3, 4, 5)),
        f"compared by  {', '.join(f'{count:,} {kind}' for kind, count in done.kinds.items())}",
        *(f"left out     {count:,} {reason}" for reason, count in left_out.items() if count),
        f"dataset      {', '.join(map(str, done.datasets))}",
    ]
    print_done("\n".join(lines), {**asdict(done), "kinds": done.kinds})
