"""`palate eval`: numbers about models that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json, say
from palate.errors import UsageError

if TYPE_CHECKING:
    import torch

    from palate.evaluation.accuracy import Accuracy, Average
    from palate.evaluation.rewards import RewardAccuracy
    from palate.evaluation.subject import ModelSpec
    from palate.models.precision import Precision
    from palate.records import PreferencePair

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
    how = (resolve(precision, device), device, cutoff_len)
    measured: Accuracy | RewardAccuracy
    if rewards:
        measured = _of_rewards(spec, pairs, *how)
    else:
        against = run.reference if run and reference is None else model_spec(str(reference), template=template)
        measured = _of_models(against, spec, pairs, *how, average="mean" if average == "mean" else "sum")
    if run is not None and dataset is None and reference is None:
        write_json(RunDir.open(run.path).accuracy, measured.to_json())
    if as_json:
        result_json(measured.to_json())
    else:
        result("\n".join(measured.lines()))


def _of_models(
    reference: ModelSpec,
    policy: ModelSpec,
    pairs: list[PreferencePair],
    precision: Precision,
    device: torch.device,
    cutoff_len: int,
    *,
    average: Average,
) -> Accuracy:
    """Both models' scores of the pairs that both can score, one model in memory at a time."""
    from palate.evaluation.accuracy import preference_accuracy
    from palate.evaluation.held_out import encode_pairs
    from palate.evaluation.subject import Subject

    scores = []
    for name, spec in (("reference", reference), ("policy", policy)):
        say(f"scoring {len(pairs)} pairs with the {name}, {spec.model}")
        subject = Subject(spec, precision, device)
        groups = encode_pairs(pairs, subject.template, cutoff_len)
        scores.append(dict(zip((group.id for group in groups), subject.score(groups))))
        del subject
    # Two tokenizers may cut differently; only pairs that both could score are compared.
    shared = [pair for pair in scores[0] if pair in scores[1]]
    before, after = ([one[pair] for pair in shared] for one in scores)
    return preference_accuracy(before, after, average=average)


def _of_rewards(
    spec: ModelSpec, pairs: list[PreferencePair], precision: Precision, device: torch.device, cutoff_len: int
) -> RewardAccuracy:
    """A reward model's rewards of the pairs."""
    from palate.evaluation.held_out import encode_pairs
    from palate.evaluation.rewards import RewardSubject, reward_accuracy

    say(f"scoring {len(pairs)} pairs with the reward model, {spec.model}")
    subject = RewardSubject(spec, precision, device)
    return reward_accuracy(subject.score(encode_pairs(pairs, subject.template, cutoff_len)))
