"""`palate eval`: figures about models."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from palate.cli.arguments import Average, PrecisionName, TemplateName, verb_group
from palate.cli.columns import wrapped
from palate.cli.console import print_done, print_progress
from palate.cli.dataset import MaxDropped, reads_dataset
from palate.cli.eval import bench, compare, frontier, must_pass, rank, winrate
from palate.cli.eval.accuracy_tables import accuracy_tables
from palate.cli.models import model_path
from palate.records import DatasetRequest

app = typer.Typer(
    cls=verb_group("eval"),
    help="Measure models: accuracy, win rate, ratings, benchmarks, reward against KL, comparison of results.\n\n"
    "Example: palate eval accuracy runs/dpo",
    no_args_is_help=True,
)


@app.command("accuracy")
@reads_dataset(
    Annotated[
        str | None, typer.Option("--dataset", help="Pairs to evaluate on. Default: the run's own held-out pairs.")
    ],
    optional=True,
    alone=["max_samples"],
)
def accuracy(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A finished run, or any model.")],
    request: DatasetRequest,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Model to compare with. Default: the run's own reference.")
    ] = None,
    average: Average = "mean",
    cutoff_len: Annotated[
        int | None,
        typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens. Default: the run's, or 2048."),
    ] = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    beta: Annotated[
        float | None,
        typer.Option("--beta", min=0, help="β of the calibrated probability σ(β·margin). Default: the run's own."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", metavar="COLUMN", help="Also by this column of the rows. Default: category, if there is one."
        ),
    ] = None,
    max_dropped: MaxDropped = 0.5,
) -> None:
    """Share of held-out pairs whose chosen answer ranks higher: by policy and reference, or by a reward model.

    Example: palate eval accuracy runs/dpo
    """
    from palate.evaluation.accuracy.evaluate import evaluate, record_accuracy
    from palate.evaluation.subject import is_run

    loaded = model_path(model)
    measured = evaluate(
        loaded,
        replace(request, max_dropped=max_dropped) if request.dataset else None,
        reference=model_path(reference),
        average=average,
        cutoff_len=cutoff_len,
        max_samples=request.max_samples,
        template=template,
        precision=precision,
        beta=beta,
        by=by or None,
        on_progress=print_progress,
    )
    parts = [wrapped("\n".join(measured.lines()), hang=4), *accuracy_tables(measured)]
    print_done("\n\n".join(parts), measured.to_json())
    # Only a figure over all of a run's own pairs is recorded as the run's; a version of the registry never changes.
    if loaded == model and is_run(model) and not request.dataset and reference is None and request.max_samples is None:
        record_accuracy(model, measured)


app.command("bench")(bench.command)
app.command("must-pass")(must_pass.command)
app.command("frontier")(frontier.command)
app.command("winrate")(winrate.command)
app.command("rank")(rank.command)
app.command("compare")(compare.command)
