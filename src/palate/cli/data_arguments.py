"""The arguments that the verbs of `palate data` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.data.rows import Reading

Datasets = Annotated[
    list[str], typer.Argument(metavar="DATASET...", help="Files, folders, hub ids, registered or built-in names.")
]
DatasetDir = Annotated[str | None, typer.Option("--dataset-dir", help="Folder whose dataset_info.json names datasets.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME=COLUMN", help="A column of your own, as prompt=question.")
]
Split = Annotated[str | None, typer.Option("--split", help="Split of a hub dataset or of a folder with splits.")]
Subset = Annotated[str | None, typer.Option("--subset", help="Subset of a hub dataset.")]
MaxSamples = Annotated[int | None, typer.Option("--max-samples", min=1, help="Read only the first rows of each.")]
Prefer = Annotated[
    str, typer.Option("--prefer", help="With two labels, which decides: better, safer, or both where they agree.")
]
Ratings = Annotated[
    str, typer.Option("--ratings", help="Rated answers as pairs: best_worst, best_random or all_pairs.")
]
MinMargin = Annotated[float, typer.Option("--min-margin", help="Least difference of two ratings to make a pair.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes, by default one a core; the result is the same with any number."),
]


def chosen_reading(prefer: str, ratings: str, min_margin: float, seed: int = 0) -> Reading:
    """The choices that formats leave open, checked."""
    from palate.data.rows import Reading

    for option, value, allowed in (
        ("--prefer", prefer, ("better", "safer", "both")),
        ("--ratings", ratings, ("best_worst", "best_random", "all_pairs")),
    ):
        if value not in allowed:
            raise UsageError(f"{option} {value}: is not one of {', '.join(allowed)}")
    return Reading(prefer=prefer, ratings=ratings, min_margin=min_margin, seed=seed)  # type: ignore[arg-type]


def chosen_columns(pairs: list[str] | None) -> dict[str, str] | None:
    """`--column prompt=question` as a mapping."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, sign, column = pair.partition("=")
        if not sign or not name or not column:
            raise UsageError(f"--column {pair}: write NAME=COLUMN, as prompt=question")
        found[name.strip()] = column.strip()
    return found or None
