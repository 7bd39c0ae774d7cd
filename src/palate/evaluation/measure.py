"""Preference accuracy of models, with one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from palate.errors import DataError
from palate.evaluation.accuracy import Accuracy, Average, preference_accuracy
from palate.evaluation.held_out import encode_pairs
from palate.evaluation.rewards import RewardAccuracy, load_reward_model, reward_accuracy
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.precision import Precision
from palate.progress import progress
from palate.records import PreferencePair, prompt_key


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Settings for scoring pairs.

    Attributes:
        precision: precision of the forward passes.
        device: device of the forward passes.
        cutoff_len: maximum length of prompt + answer, in tokens; longer pairs are left out.
        say: receives progress lines.
    """

    precision: Precision
    device: torch.device
    cutoff_len: int
    say: Callable[[str], None]


def accuracy_of_models(
    reference: ModelSpec,
    policy: ModelSpec,
    pairs: list[PreferencePair],
    options: ScoringOptions,
    *,
    average: Average = "mean",
) -> Accuracy:
    """Both models' accuracies on the pairs that are short enough for both tokenizers.

    Raises:
        DataError: no pair is short enough for both.
    """
    scores = []
    for name, spec in (("reference", reference), ("policy", policy)):
        options.say(f"scoring {len(pairs)} pairs with the {name}, {spec.model}")
        subject = Subject(spec, options.precision, options.device)
        groups = encode_pairs(pairs, subject.template, options.cutoff_len)
        scores.append(dict(zip((group.id for group in groups), subject.score(groups))))
        del subject
    shared = [pair for pair in scores[0] if pair in scores[1]]
    if not shared:
        raise DataError(f"no pair fits {reference.model} and {policy.model} both; raise --cutoff-len")
    _say_left_out(len(pairs) - len(shared), len(pairs), options)
    before, after = ([by_pair[pair] for pair in shared] for by_pair in scores)
    by_id = {pair.id: pair for pair in pairs}
    return preference_accuracy(
        before,
        after,
        prompts=[prompt_key(by_id[pair].prompt) for pair in shared],
        average=average,
        dimensions=[by_id[pair].dimensions or {} for pair in shared],
    )


def accuracy_of_rewards(spec: ModelSpec, pairs: list[PreferencePair], options: ScoringOptions) -> RewardAccuracy:
    """How often a reward model gives the chosen answer the higher reward."""
    options.say(f"scoring {len(pairs)} pairs with the reward model, {spec.model}")
    model = load_reward_model(spec, options.precision, options.device)
    groups = encode_pairs(pairs, model.template, options.cutoff_len)
    _say_left_out(len(pairs) - len(groups), len(pairs), options)
    prompts = {pair.id: prompt_key(pair.prompt) for pair in pairs}
    with progress("scoring with the reward model", len(groups), delay=1.0) as scored:
        rewards = model.score(groups, scored.advance)
    return reward_accuracy(rewards, prompts=[prompts[group.id] for group in groups])


def _say_left_out(left_out: int, pairs: int, options: ScoringOptions) -> None:
    if left_out:
        why = f"longer than {options.cutoff_len} tokens, or refused by the template"
        options.say(f"{left_out} of {pairs} pairs are left out: {why}")
