"""A reward model's accuracy: how often it gives the chosen answer the higher reward."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from palate.artifacts import read_json
from palate.errors import ArtifactError
from palate.evaluation.accuracy.grouping import Groupings, figures_by_group
from palate.evaluation.accuracy.preference import (
    as_json,
    calibration_lines,
    on_pairs,
    pair_values,
    preference_calibration,
    win_share,
)
from palate.evaluation.logs.items import ItemValues
from palate.evaluation.subject import ModelSpec
from palate.models.precision import Precision
from palate.models.reward_model import RewardModel
from palate.stats import Calibration, Interval, cluster_mean_interval


@dataclass(frozen=True, slots=True)
class GroupReward:
    """The accuracy on a group of pairs: number of pairs, of different prompts, share ranked right, mean margin."""

    n: int
    prompts: int
    reward: Interval
    margin: Interval


@dataclass(frozen=True, slots=True)
class RewardAccuracy:
    """A reward model's accuracy on held-out pairs, with 95 % intervals clustered by prompt.

    Attributes:
        n: number of pairs.
        prompts: number of different prompts, the independent units of the intervals.
        reward: share of pairs where r of chosen exceeds r of rejected; a tie counts ½. `rate_interval`.
        margin: mean of r chosen − r rejected, in log-odds. Student t.
        groups: accuracies by grouping and group (`evaluation.accuracy.grouping`).
        calibration: of the preference probability σ(r chosen − r rejected).
        items: values of each pair, for `palate eval compare`; None if the pairs' ids were not given.
        left_out: number of pairs that were not scored: too long, or refused by the template.
    """

    n: int
    prompts: int
    reward: Interval
    margin: Interval
    groups: Mapping[str, Mapping[str, GroupReward]] = field(default_factory=dict)
    calibration: Calibration | None = None
    items: ItemValues | None = None
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """All figures; those that were not computed are left out."""
        return as_json(self, self.items)

    def lines(self) -> list[str]:
        share, margin = self.reward, self.margin
        return [
            f"Reward Accuracy: {100 * share.estimate:.1f}% (95 % {100 * share.low:.1f} to {100 * share.high:.1f})",
            f"Margin r_chosen − r_rejected: {margin.estimate:+.3f} (95 % {margin.low:+.3f} to {margin.high:+.3f})",
            *calibration_lines(self.calibration),
            on_pairs(self.n, self.prompts),
        ]


def reward_accuracy(
    rewards: Sequence[Sequence[float]],
    *,
    prompts: Sequence[Hashable],
    groupings: Groupings | None = None,
    ids: Sequence[str] = (),
    hashes: Mapping[str, str] | None = None,
    name: str = "",
    left_out: int = 0,
) -> RewardAccuracy:
    """The accuracy, from each pair's rewards (chosen, rejected) and prompt key (`records.prompt_key`).

    Args:
        ids, hashes, name, left_out: of the pairs and the model, as in `preference_accuracy`.
    """
    margins = [chosen - rejected for chosen, rejected in rewards]
    return RewardAccuracy(
        n=len(margins),
        prompts=len(set(prompts)),
        reward=win_share(margins, prompts),
        margin=cluster_mean_interval(margins, prompts),
        groups=figures_by_group(groupings, prompts, [margins], _group),
        calibration=preference_calibration(margins, prompts),
        items=pair_values(name, {"reward": margins}, margins, prompts, ids, hashes) if ids else None,
        left_out=left_out,
    )


def _group(prompts: Sequence[Hashable], columns: Sequence[Sequence[float]]) -> GroupReward:
    [margins] = columns
    n, different = len(prompts), len(set(prompts))
    return GroupReward(n, different, win_share(margins, prompts), cluster_mean_interval(margins, prompts))


def is_reward_model(spec: ModelSpec) -> bool:
    """Whether the model or its last adapter was saved with a reward head."""
    for folder in (*reversed(spec.adapters), spec.model):
        adapter, config = Path(folder) / "adapter_config.json", Path(folder) / "config.json"
        if adapter.is_file():
            return bool(_json_object(adapter).get("task_type") == "SEQ_CLS")
        if config.is_file():
            architectures = _json_object(config).get("architectures") or []
            return any("SequenceClassification" in name for name in architectures)
    return False


def _json_object(path: Path) -> dict[str, Any]:
    """The content of a model's JSON file; {} if it cannot be read, which is reported when the model is loaded."""
    try:
        facts = read_json(path)
    except ArtifactError:
        return {}
    return facts if isinstance(facts, dict) else {}


def load_reward_model(spec: ModelSpec, precision: Precision, device: torch.device) -> RewardModel:
    return RewardModel(
        spec.adapters[-1] if spec.adapters else spec.model,
        device=device,
        precision=precision,
        template=spec.chat_template,
        **spec.origin,
    )
