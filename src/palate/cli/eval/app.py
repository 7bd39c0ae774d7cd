"""`palate eval`: figures about models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, Typer

from palate.cli.arguments import Average, PrecisionName, TemplateName, verb_group
from palate.cli.columns import table, wrapped
from palate.cli.console import print_done, print_progress
from palate.cli.dataset import MaxDropped, reads_dataset
from palate.cli.eval import bench, compare, frontier, must_pass, rank, winrate
from palate.cli.models import model_path
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.evaluation.accuracy.preference import Accuracy
    from palate.evaluation.accuracy.rewards import RewardAccuracy
    from palate.stats import Calibration, Interval

app = Typer(
    cls=verb_group("eval"),
    help="Measure models: accuracy, win rate, ratings, benchmarks, reward against KL, comparison of results.\n\n"
    "Example: palate eval accuracy runs/dpo",
    no_args_is_help=True,
)


@app.command("accuracy")
@reads_dataset(
    Annotated[str | None, Option("--dataset", help="Pairs to evaluate on. Default: the run's own held-out pairs.")],
    optional=True,
    alone=["max_samples"],
)
def accuracy(
    model: Annotated[str, Argument(metavar="RUN|MODEL", help="A finished run, or any model.")],
    request: DatasetRequest,
    reference: Annotated[
        str | None, Option("--reference", help="Model to compare with. Default: the run's own reference.")
    ] = None,
    average: Average = "mean",
    cutoff_len: Annotated[
        int | None,
        Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens. Default: the run's, or 2048."),
    ] = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    beta: Annotated[
        float | None,
        Option("--beta", min=0, help="β of the calibrated probability σ(β·margin). Default: the run's own."),
    ] = None,
    by: Annotated[
        list[str] | None,
        Option("--by", metavar="COLUMN", help="Also by this column of the rows. Default: category, if there is one."),
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


_KINDS = (("policy", "policy"), ("implied", "implied reward"), ("reward", "accuracy"))
_MOST = 20
"""Groups of a grouping that are printed; --json has all of them."""


def accuracy_tables(found: Accuracy | RewardAccuracy) -> Iterator[str]:
    """A table for each grouping, and one of the calibration if it was measured."""
    groupings: Mapping[str, Mapping[str, Any]] = found.groups  # of GroupAccuracy or of GroupReward
    for grouping, groups in groupings.items():
        kinds = [(kind, label) for kind, label in _KINDS if hasattr(next(iter(groups.values())), kind)]
        rows = [
            [name, f"{group.n}", f"{group.prompts}", *(_percent(getattr(group, kind)) for kind, _ in kinds)]
            for name, group in list(groups.items())[:_MOST]
        ]
        names = [grouping, "pairs", "prompts", *(f"{label}, %" for _, label in kinds)]
        text = table(names, rows, right=range(1, len(names)))
        yield f"{text}\n… and {len(groups) - _MOST} more in --json" if len(groups) > _MOST else text
    if found.calibration is not None:
        yield _calibration(found.calibration)


def _calibration(found: Calibration) -> str:
    names = ["confidence", "pairs", "mean, %", "right, %"]
    rows = []
    for one in found.bins:
        ends = f"{100 * one.low:.0f} to {100 * one.high:.0f} %"
        rows.append([ends, f"{one.n}", f"{100 * one.predicted:.1f}", _percent(one.observed)])
    return table(names, rows, right=range(1, len(names)))


def _percent(interval: Interval) -> str:
    """`63.2 (54.0 to 71.5)`."""
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
