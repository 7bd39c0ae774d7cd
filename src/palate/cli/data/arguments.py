"""The arguments that the verbs of `palate data` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.console import say
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.data.formats.rows import Reading
    from palate.data.load import SourceReport

Datasets = Annotated[
    list[str], typer.Argument(metavar="DATASET...", help="Files, folders, hub ids, registered or built-in names.")
]
DatasetDir = Annotated[str | None, typer.Option("--dataset-dir", help="Folder whose dataset_info.json names datasets.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME=COLUMN", help="A column of your own, as prompt=question.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="VALUE=MEANING", help="What a label means, as 0=response_1, 2=tie or 1=desirable."),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of a hub dataset or of a folder with splits.")]
Subset = Annotated[str | None, typer.Option("--subset", help="Subset of a hub dataset.")]
MaxSamples = Annotated[int | None, typer.Option("--max-samples", min=1, help="Read only the first rows of each.")]
MaxDropped = Annotated[
    float,
    typer.Option("--max-dropped", min=0, max=1, help="Largest share of rows, ties included, that may be unusable."),
]
Prefer = Annotated[
    str, typer.Option("--prefer", help="With two labels, which decides: better, safer, or both where they agree.")
]
Ratings = Annotated[
    str, typer.Option("--ratings", help="Rated answers as pairs: best_worst, best_random or all_pairs.")
]
MinMargin = Annotated[float, typer.Option("--min-margin", help="Least difference of two ratings to make a pair.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every draw.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes, by default one a core; the result is the same with any number."),
]


def chosen_reading(
    prefer: str = "better",
    ratings: str = "best_worst",
    min_margin: float = 0.0,
    seed: int = 0,
    labels: list[str] | None = None,
) -> Reading:
    """The choices that formats leave open, checked."""
    from palate.data.formats.rows import Reading

    for option, value, allowed in (
        ("--prefer", prefer, ("better", "safer", "both")),
        ("--ratings", ratings, ("best_worst", "best_random", "all_pairs")),
    ):
        if value not in allowed:
            raise UsageError(f"{option} {value}: is not one of {', '.join(allowed)}")
    return Reading(
        prefer=prefer,  # type: ignore[arg-type]
        ratings=ratings,  # type: ignore[arg-type]
        min_margin=min_margin,
        seed=seed,
        labels=_named("--label", labels, "0=response_1"),
    )


def say_labels(reports: Iterable[SourceReport]) -> None:
    """What each source's labels were read as, on stderr."""
    for report in reports:
        if report.labels:
            say(f"{report.path}: {report.labels}")


def chosen_columns(pairs: list[str] | None) -> dict[str, str] | None:
    """`--column prompt=question` as a mapping."""
    return _named("--column", pairs, "prompt=question") or None


def _named(option: str, pairs: list[str] | None, example: str) -> dict[str, str]:
    """The values of an option that is given as NAME=VALUE, several times."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        # A label may be `A=B`; what it means has no such sign, nor has the name of a column.
        name, equals, value = pair.rpartition("=") if option == "--label" else pair.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {pair}: write it as {example}")
        found[name.strip()] = value.strip()
    return found
