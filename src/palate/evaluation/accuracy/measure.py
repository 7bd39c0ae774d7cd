"""Preference accuracy of models, with one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from palate.charts.text import amount
from palate.errors import DataError
from palate.evaluation.accuracy.grouping import groupings
from palate.evaluation.accuracy.held_out import encode_pairs
from palate.evaluation.accuracy.preference import Accuracy, Average, preference_accuracy
from palate.evaluation.accuracy.rewards import RewardAccuracy, load_reward_model, reward_accuracy
from palate.evaluation.logs.items import content_hash
from palate.evaluation.subject import ModelSpec, Subject, check_models
from palate.models.precision import Precision
from palate.progress import progress
from palate.records import PreferencePair, as_turns, prompt_key
from palate.text.groups import EncodedGroup


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Settings for scoring pairs.

    Attributes:
        precision: precision of the forward passes.
        device: device of the forward passes.
        cutoff_len: maximum length of prompt + answer, in tokens; longer pairs are left out.
        on_progress: receives progress lines.
        by: columns for which accuracies are given; by default `category`, where rows have it.
    """

    precision: Precision
    device: torch.device
    cutoff_len: int
    on_progress: Callable[[str], None]
    by: Sequence[str] | None = None


def accuracy_of_models(
    reference: ModelSpec,
    policy: ModelSpec,
    pairs: list[PreferencePair],
    options: ScoringOptions,
    *,
    average: Average = "mean",
    beta: float | None = None,
) -> Accuracy:
    """Both models' accuracies on the pairs that are short enough for both tokenizers.

    Raises:
        DataError: no pair is short enough for both.
    """
    check_models((reference, policy))
    scores = []
    for name, spec in (("reference", reference), ("policy", policy)):
        options.on_progress(f"scoring {amount(len(pairs), 'pair')} with the {name}, {spec.model}")
        subject = Subject(spec, options.precision, options.device)
        groups = encode_pairs(pairs, subject.template, options.cutoff_len)
        scores.append(dict(zip((group.id for group in groups), subject.score(groups))))
        del subject
    shared = [pair for pair in scores[0] if pair in scores[1]]
    if not shared:
        raise DataError(f"no pair fits {reference.model} and {policy.model} both; raise --cutoff-len")
    _say_left_out(len(pairs) - len(shared), len(pairs), options)
    return accuracy_of_scores(pairs, *scores, average=average, beta=beta, by=options.by, name=policy.name)


def accuracy_of_scores(
    pairs: Sequence[PreferencePair],
    reference: Mapping[str, tuple[list[float], list[int]]],
    policy: Mapping[str, tuple[list[float], list[int]]],
    *,
    average: Average = "mean",
    beta: float | None = None,
    by: Sequence[str] | None = None,
    name: str = "",
) -> Accuracy:
    """Accuracies of the pairs that both models scored.

    Args:
        reference, policy: pair id → Σ log π and trained tokens of (chosen, rejected).
        average, beta, name: as in `preference_accuracy`.
    """
    scored = [pair for pair in pairs if pair.id in reference and pair.id in policy]
    ids = [pair.id for pair in scored]
    after = [policy[pair] for pair in ids]
    return preference_accuracy(
        [reference[pair] for pair in ids],
        after,
        prompts=[prompt_key(pair.prompt) for pair in scored],
        average=average,
        dimensions=[pair.dimensions or {} for pair in scored],
        groupings=groupings(scored, [tokens[0] - tokens[1] for _, tokens in after], by),
        beta=beta,
        ids=ids,
        hashes=_hashes(scored),
        name=name,
        left_out=len(pairs) - len(scored),
    )


def accuracy_of_rewards(spec: ModelSpec, pairs: list[PreferencePair], options: ScoringOptions) -> RewardAccuracy:
    """How often a reward model gives the chosen answer the higher reward."""
    options.on_progress(f"scoring {amount(len(pairs), 'pair')} with the reward model, {spec.model}")
    model = load_reward_model(spec, options.precision, options.device)
    groups = encode_pairs(pairs, model.template, options.cutoff_len)
    _say_left_out(len(pairs) - len(groups), len(pairs), options)
    by_id = {pair.id: pair for pair in pairs}
    scored_pairs = [by_id[group.id] for group in groups]
    gaps = [_tokens(group, 0) - _tokens(group, 1) for group in groups]
    grouped = groupings(scored_pairs, gaps, options.by)
    with progress("scoring with the reward model", len(groups), delay=1.0) as scored:
        rewards = model.score(groups, scored.advance)
    return reward_accuracy(
        rewards,
        prompts=[prompt_key(pair.prompt) for pair in scored_pairs],
        groupings=grouped,
        ids=[pair.id for pair in scored_pairs],
        hashes=_hashes(scored_pairs),
        name=spec.name,
        left_out=len(pairs) - len(groups),
    )


def _tokens(group: EncodedGroup, completion: int) -> int:
    """The number of trained tokens of a completion."""
    return int(group.completions[completion].trained.sum())


def _hashes(pairs: Sequence[PreferencePair]) -> dict[str, str]:
    """A hash of each pair's prompt and answers by its id."""
    return {
        pair.id: content_hash([as_turns(turns) for turns in (pair.prompt, pair.chosen, pair.rejected)])
        for pair in pairs
    }


def _say_left_out(left_out: int, pairs: int, options: ScoringOptions) -> None:
    if left_out:
        why = f"longer than {options.cutoff_len} tokens, or refused by the template"
        options.on_progress(f"{left_out} of {amount(pairs, 'pair')} are left out: {why}")
