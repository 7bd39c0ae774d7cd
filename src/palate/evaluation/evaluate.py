"""Preference accuracy of whatever a user names: a run with all that it knows, two bare models, or a reward model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from palate.artifacts import RunDir, write_json
from palate.data import load_records
from palate.data.formats.source_labels import check_labels_used
from palate.errors import UsageError
from palate.evaluation.accuracy import Accuracy, Average
from palate.evaluation.held_out import held_out_pairs
from palate.evaluation.measure import Scoring, accuracy_of_models, accuracy_of_rewards
from palate.evaluation.rewards import RewardAccuracy, is_reward_model
from palate.evaluation.subject import RunSpec, is_run, model_spec, read_run
from palate.models.precision import default_device, resolve
from palate.records import DatasetRequest, DatasetSpec, PreferencePair

# Tokens of prompt + answer, where no run says what it trained with.
CUTOFF_LEN = 2048


def evaluate(
    model: str | Path,
    dataset: DatasetSpec | DatasetRequest | None = None,
    *,
    reference: str | Path | None = None,
    average: Average = "mean",
    cutoff_len: int | None = None,
    max_samples: int | None = None,
    template: str | None = None,
    precision: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Accuracy | RewardAccuracy:
    """How often a model ranks the better answer of a pair higher, beside its reference; of a reward model, by reward.

    `evaluate("runs/dpo").policy.estimate`

    Args:
        model: a finished run, or any model.
        dataset: pairs, by name or as a request; a run's own held-out pairs where absent.
        reference: the model to compare with; a run's own where absent.
        average: `mean` compares log-probabilities per token, `sum` those of whole answers.
        cutoff_len: longest prompt + answer, in tokens; as the run was trained where absent, else 2048.
        max_samples: use only the first pairs.
        template: chat template by name, for a bare model.
        precision: auto, bf16, fp16 or fp32.
        say: told what is being done, and how many pairs could not be scored.

    Raises:
        UsageError: what is named does not say which pairs, or what to compare with.
        PalateError: a run, model or dataset cannot be read.
    """
    name = str(model)
    run = read_run(name) if is_run(name) else None
    spec = run.policy if run else model_spec(name, template=template)
    rewards = is_reward_model(spec)
    if rewards and reference is not None:
        raise UsageError(f"{name} is a reward model, which has no reference: leave --reference out")
    if run is None and (dataset is None or (reference is None and not rewards)):
        needed = "--dataset" if rewards else "--dataset and --reference"
        raise UsageError(f"{name} is no run directory: name {needed}, or give a run")
    pairs = _pairs(run, dataset, max_samples, say)
    limit = cutoff_len or (int(run.config["cutoff_len"]) if run else CUTOFF_LEN)
    device = default_device()
    how = Scoring(resolve(precision, device), device, limit, say)
    if rewards:
        return accuracy_of_rewards(spec, pairs, how)
    against = run.reference if run and reference is None else model_spec(str(reference), template=template)
    return accuracy_of_models(against, spec, pairs, how, average=average)


def record_accuracy(run: str | Path, measured: Accuracy | RewardAccuracy) -> Path:
    """Write accuracy.json into a run directory, where its report and comparisons find it."""
    return write_json(RunDir.open(run).accuracy, measured.to_json())


def _pairs(
    run: RunSpec | None,
    dataset: DatasetSpec | DatasetRequest | None,
    max_samples: int | None,
    say: Callable[[str], None],
) -> list[PreferencePair]:
    if dataset is None:
        assert run is not None
        return held_out_pairs(run)[:max_samples]
    request = DatasetRequest.of(dataset)
    if max_samples is not None:
        request = replace(request, max_samples=max_samples)
    loaded = load_records(request, kind=PreferencePair)
    check_labels_used(loaded.sources, request.labels)
    if loaded.dropped:
        first = loaded.dropped[0]
        say(f"{len(loaded.dropped)} of {loaded.rows_read} rows are no pairs, first {first.id}: {first.reason}")
    return loaded.records
