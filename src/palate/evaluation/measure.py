"""Preference accuracy of models: load, score, compare, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from palate.data.split import prompt_key
from palate.errors import DataError
from palate.evaluation.accuracy import Accuracy, Average, preference_accuracy
from palate.evaluation.held_out import encode_pairs, held_out_pairs
from palate.evaluation.rewards import RewardAccuracy, is_reward_model, load_reward_model, reward_accuracy
from palate.evaluation.subject import ModelSpec, RunSpec, Subject
from palate.models.precision import Precision, default_device, resolve
from palate.progress import progress
from palate.records import PreferencePair


@dataclass(frozen=True, slots=True)
class Scoring:
    """How pairs are scored.

    Attributes:
        precision: of the forward passes.
        device: where they run.
        cutoff_len: longest prompt + answer, in tokens; longer pairs are left out.
        say: a line for a person.
    """

    precision: Precision
    device: torch.device
    cutoff_len: int
    say: Callable[[str], None]


def accuracy_of_models(
    reference: ModelSpec, policy: ModelSpec, pairs: list[PreferencePair], how: Scoring, *, average: Average = "mean"
) -> Accuracy:
    """Both models' accuracies on the pairs that both can score; two tokenizers may cut differently.

    Raises:
        DataError: there are no such pairs.
    """
    scores = []
    for name, spec in (("reference", reference), ("policy", policy)):
        how.say(f"scoring {len(pairs)} pairs with the {name}, {spec.model}")
        subject = Subject(spec, how.precision, how.device)
        groups = encode_pairs(pairs, subject.template, how.cutoff_len)
        scores.append(dict(zip((group.id for group in groups), subject.score(groups))))
        del subject
    shared = [pair for pair in scores[0] if pair in scores[1]]
    if not shared:
        raise DataError(f"no pair fits {reference.model} and {policy.model} both; raise --cutoff-len")
    _say_left_out(len(pairs) - len(shared), len(pairs), how)
    before, after = ([one[pair] for pair in shared] for one in scores)
    by_id = {pair.id: pair for pair in pairs}
    return preference_accuracy(
        before,
        after,
        prompts=[prompt_key(by_id[pair].prompt) for pair in shared],
        average=average,
        dimensions=[by_id[pair].dimensions or {} for pair in shared],
    )


def accuracy_of_rewards(spec: ModelSpec, pairs: list[PreferencePair], how: Scoring) -> RewardAccuracy:
    """How often a reward model gives the chosen answer more."""
    how.say(f"scoring {len(pairs)} pairs with the reward model, {spec.model}")
    model = load_reward_model(spec, how.precision, how.device)
    groups = encode_pairs(pairs, model.template, how.cutoff_len)
    _say_left_out(len(pairs) - len(groups), len(pairs), how)
    prompts = {pair.id: prompt_key(pair.prompt) for pair in pairs}
    with progress("scoring with the reward model", len(groups), delay=1.0) as scored:
        rewards = model.score(groups, scored.advance)
    return reward_accuracy(rewards, prompts=[prompts[group.id] for group in groups])


def _say_left_out(left_out: int, pairs: int, how: Scoring) -> None:
    if left_out:
        how.say(f"{left_out} of {pairs} pairs are left out: longer than {how.cutoff_len} tokens, or not to be rendered")


def accuracy_of_run(run: RunSpec, *, say: Callable[[str], None]) -> Accuracy | RewardAccuracy:
    """A finished run's accuracy on what it held out, in its own precision and at its own length.

    Raises:
        UsageError: it held nothing out.
    """
    device = default_device()
    config = run.config
    how = Scoring(resolve(config["precision"], device), device, config["cutoff_len"], say)
    held_out = held_out_pairs(run)
    if is_reward_model(run.policy):
        return accuracy_of_rewards(run.policy, held_out, how)
    return accuracy_of_models(run.reference, run.policy, held_out, how)
