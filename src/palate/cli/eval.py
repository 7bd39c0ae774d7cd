"""`palate eval`: numbers about models that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.evaluation.accuracy import Accuracy
    from palate.evaluation.rewards import RewardAccuracy

app = typer.Typer(help="Measure models: preference accuracy of reference and policy.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Measure models that exist."""


@app.command("accuracy")
def accuracy(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A finished run, or any model.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Pairs to evaluate on; a run's own held-out pairs where absent.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Model to compare with; a run's own reference where absent.")
    ] = None,
    average: Annotated[str, typer.Option("--average", help="mean (per token) or sum (whole answers).")] = "mean",
    cutoff_len: Annotated[int, typer.Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens.")] = 2048,
    max_samples: Annotated[int | None, typer.Option("--max-samples", min=1, help="Use only the first pairs.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="Chat template by name, for a bare model.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Share of held-out pairs where the chosen answer ranks higher: by reference and policy, or by a reward model."""
    if average not in ("mean", "sum"):
        raise UsageError(f"--average {average}: is not one of mean, sum")

    from palate.artifacts import RunDir, write_json
    from palate.evaluation.held_out import held_out_pairs, load_pairs
    from palate.evaluation.measure import Scoring, accuracy_of_models, accuracy_of_rewards
    from palate.evaluation.rewards import is_reward_model
    from palate.evaluation.subject import is_run, model_spec, read_run
    from palate.models.precision import default_device, resolve

    run = read_run(model) if is_run(model) else None
    spec = run.policy if run else model_spec(model, template=template)
    rewards = is_reward_model(spec)
    if rewards and reference is not None:
        raise UsageError(f"{model} is a reward model, which has no reference: leave --reference out")
    if run is None and (dataset is None or (reference is None and not rewards)):
        needed = "--dataset" if rewards else "--dataset and --reference"
        raise UsageError(f"{model} is no run directory: name {needed}, or give a run")
    if dataset is None:
        assert run is not None
        pairs = held_out_pairs(run)[:max_samples]
    else:
        pairs = load_pairs(dataset, max_samples=max_samples)
    device = default_device()
    scoring = Scoring(resolve(precision, device), device, cutoff_len, say)
    measured: Accuracy | RewardAccuracy
    if rewards:
        measured = accuracy_of_rewards(spec, pairs, scoring)
    else:
        against = run.reference if run and reference is None else model_spec(str(reference), template=template)
        measured = accuracy_of_models(against, spec, pairs, scoring, average="mean" if average == "mean" else "sum")
    if run is not None and dataset is None and reference is None:
        write_json(RunDir.open(run.path).accuracy, measured.to_json())
    if as_json:
        result_json(measured.to_json())
    else:
        result("\n".join(measured.lines()))
