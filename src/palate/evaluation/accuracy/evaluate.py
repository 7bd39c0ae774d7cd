"""Preference accuracy of a run on its own held-out pairs, of two models, or of a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from palate.artifacts import RunDir, write_json
from palate.config.load import config_from_values
from palate.config.run import DpoConfig, KtoConfig
from palate.data import load_records
from palate.data.formats.source_labels import check_labels_used
from palate.errors import UsageError
from palate.evaluation.accuracy.grouping import check_columns
from palate.evaluation.accuracy.held_out import held_out_pairs
from palate.evaluation.accuracy.measure import ScoringOptions, accuracy_of_models, accuracy_of_rewards
from palate.evaluation.accuracy.preference import Accuracy, Average
from palate.evaluation.accuracy.rewards import RewardAccuracy, is_reward_model
from palate.evaluation.subject import RunSpec, is_run, model_spec, read_run
from palate.models.precision import default_device, resolve
from palate.records import DatasetRequest, DatasetSpec, PreferencePair

CUTOFF_LEN = 2048
"""Default for models outside runs, in tokens of prompt + answer."""


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
    beta: float | None = None,
    by: Sequence[str] | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Accuracy | RewardAccuracy:
    """Preference accuracy of a model and its reference: how often each ranks the chosen answer higher.

    `evaluate("runs/dpo").policy.estimate`

    Args:
        model: a finished run, any model, or a reward model.
        dataset: pairs, by name or as a request; by default a run's own held-out pairs.
        average: `mean` compares log-probabilities per token, `sum` those of whole answers.
        cutoff_len: maximum length of prompt + answer, in tokens; by default the run's, else 2048.
        max_samples: use only the first pairs.
        template: name of a chat template, for a model that is not a run.
        beta: β of the implied preference probability σ(β · margin), for its calibration; by default the run's own. A
            reward model has none.
        by: columns of the pairs for which accuracies are given; by default `category`, where pairs have it.
        on_progress: receives progress lines, and the number of rows that are not pairs.

    Raises:
        UsageError: the pairs or the reference are missing.
        PalateError: a run, model or dataset cannot be read.
    """
    name = str(model)
    run = read_run(name) if is_run(name) else None
    spec = run.policy if run else model_spec(name, template=template)
    rewards = is_reward_model(spec)
    if rewards and reference is not None:
        raise UsageError(f"{name} is a reward model, which has no reference: leave --reference out")
    if rewards and beta is not None:
        raise UsageError(f"{name} is a reward model, whose probabilities have no β: leave --beta out")
    if run is None and (dataset is None or (reference is None and not rewards)):
        needed = "--dataset" if rewards else "--dataset and --reference"
        raise UsageError(f"{name} is not a run directory: name {needed}, or give a run")
    pairs = pairs_to_score(run, dataset, max_samples, on_progress)
    check_columns(pairs, by)
    limit = cutoff_len or (int(run.config["cutoff_len"]) if run else CUTOFF_LEN)
    device = default_device()
    options = ScoringOptions(resolve(precision, device), device, limit, on_progress, by)
    if rewards:
        return accuracy_of_rewards(spec, pairs, options)
    reference_spec = run.reference if run and reference is None else model_spec(str(reference), template=template)
    if spec.model == reference_spec.model and spec.adapters == reference_spec.adapters:
        raise UsageError(f"{name} is compared with itself; name the model before training with --reference")
    if beta is None and run is not None and reference is None:
        beta = implied_beta(run)
    if beta is None:
        on_progress("no calibration: β is not known, or the objective does not use log π/π_ref; name one with --beta")
    return accuracy_of_models(reference_spec, spec, pairs, options, average=average, beta=beta)


def implied_beta(run: RunSpec) -> float | None:
    """β of a run whose rewards are β · log π/π_ref of whole answers; None for other objectives and stages.

    In a mixture of objectives it is that of the first.
    """
    config = config_from_values(run.config, origin=str(run.path)).config
    if not isinstance(config, DpoConfig | KtoConfig):
        return None
    first = config.objectives[0]
    if not first.row.needs_reference or first.row.averages(first.options) or "pref_beta" not in first.options:
        return None
    return first.row.reward_scale(first.options)


def record_accuracy(run: str | Path, measured: Accuracy | RewardAccuracy) -> Path:
    """Write accuracy.json into a run directory, for its report and comparisons; returns the path."""
    return write_json(RunDir.open(run).accuracy, measured.to_json())


def pairs_to_score(
    run: RunSpec | None,
    dataset: DatasetSpec | DatasetRequest | None,
    max_samples: int | None,
    on_progress: Callable[[str], None],
) -> list[PreferencePair]:
    """The first pairs of a dataset, or of what the run held out; `on_progress` gets the number of other rows."""
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
        on_progress(f"{len(loaded.dropped)} of {loaded.rows_read} rows are no pairs, first {first.id}: {first.reason}")
    return loaded.records
