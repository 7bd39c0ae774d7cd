"""`palate eval`: numbers about models that exist."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say
from palate.errors import UsageError

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
    """Share of held-out pairs where reference and policy rank the chosen answer higher, with 95 % intervals."""
    if average not in ("mean", "sum"):
        raise UsageError(f"--average {average}: is not one of mean, sum")

    from palate.artifacts import RunDir, write_json
    from palate.evaluation.accuracy import preference_accuracy
    from palate.evaluation.held_out import encode_pairs, held_out_pairs, load_pairs
    from palate.evaluation.subject import Subject, is_run, model_spec, read_run
    from palate.models.precision import default_device, resolve

    run = read_run(model) if is_run(model) else None
    if run is None and (dataset is None or reference is None):
        raise UsageError(f"{model} is no run directory: name --dataset and --reference, or give a run")
    policy_spec = run.policy if run else model_spec(model, template=template)
    if reference is not None:
        reference_spec = model_spec(reference, template=template)
    else:
        assert run is not None
        reference_spec = run.reference
    if dataset is None:
        assert run is not None
        pairs = held_out_pairs(run)[:max_samples]
    else:
        pairs = load_pairs(dataset, max_samples=max_samples)
    device = default_device()
    resolved = resolve(precision, device)
    scores = []
    for name, spec in (("reference", reference_spec), ("policy", policy_spec)):
        say(f"scoring {len(pairs)} pairs with the {name}, {spec.model}")
        subject = Subject(spec, resolved, device)
        groups = encode_pairs(pairs, subject.template, cutoff_len)
        scores.append(dict(zip((group.id for group in groups), subject.score(groups))))
        del subject
    # Two tokenizers may cut differently; only pairs that both could score are compared.
    shared = [pair for pair in scores[0] if pair in scores[1]]
    measured = preference_accuracy(
        [scores[0][pair] for pair in shared],
        [scores[1][pair] for pair in shared],
        average="mean" if average == "mean" else "sum",
    )
    if run is not None and dataset is None and reference is None:
        write_json(RunDir.open(run.path).accuracy, measured.to_json())
    if as_json:
        result_json(measured.to_json())
    else:
        result("\n".join(measured.lines()))
