"""`palate eval`: numbers about models that exist."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.arguments import AsJson, verb_group
from palate.cli.columns import text_width, wrapped
from palate.cli.console import result, result_json, say
from palate.cli.eval import frontier
from palate.errors import UsageError

app = typer.Typer(
    cls=verb_group("eval"), help="Measure models: preference accuracy, reward against KL.", no_args_is_help=True
)


@app.callback()
def _root() -> None:
    """Measure models that exist."""


app.command("frontier")(frontier.command)


@app.command("accuracy")
def accuracy(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A finished run, or any model.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Pairs to evaluate on; default: the run's own held-out pairs.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Model to compare with; default: the run's own reference.")
    ] = None,
    average: Annotated[str, typer.Option("--average", help="mean (per token) or sum (whole answers).")] = "mean",
    cutoff_len: Annotated[
        int | None, typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens; the run's, or 2048.")
    ] = None,
    max_samples: Annotated[int | None, typer.Option("--max-samples", min=1, help="Use only the first pairs.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template by name, for a bare model.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Share of held-out pairs where the chosen answer ranks higher: by reference and policy, or by a reward model."""
    if average not in ("mean", "sum"):
        raise UsageError(f"--average {average}: is not one of mean, sum")

    from palate.evaluation.evaluate import evaluate, record_accuracy
    from palate.evaluation.subject import is_run

    measured = evaluate(
        model,
        dataset,
        reference=reference,
        average="mean" if average == "mean" else "sum",
        cutoff_len=cutoff_len,
        max_samples=max_samples,
        template=template,
        precision=precision,
        say=say,
    )
    if as_json:
        result_json(measured.to_json())
    else:
        result(wrapped("\n".join(measured.lines()), hang=4, width=text_width()))
    # Only what all of a run's own pairs say is the run's figure.
    if is_run(model) and dataset is None and reference is None and max_samples is None:
        record_accuracy(model, measured)
