"""What the stages `ppo` and `grpo` make of answers that the policy samples itself: a row each, for people.

These are no values of `pref_loss`: the stage chooses them, and its class has their options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineObjective:
    """One way to learn from rewards.

    Attributes:
        name: what people call it.
        choice: the config keys that choose it.
        formula: the loss of one token.
        summary: one line for people.
        options: the keys that it reads, beside those of all rollouts.
        source: arXiv id.
        reproduces: whose option of which name this equals, and where peers differ.
        when_to_use: one line of advice.
    """

    name: str
    choice: str
    formula: str
    summary: str
    options: tuple[str, ...]
    source: str
    reproduces: str
    when_to_use: str


_ROWS = (
    OnlineObjective(
        name="ppo",
        choice="stage: ppo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c)) + v·½·max((V − R)², (V_clipped − R)²); A whitened GAE of the token "
        "rewards −k·(log π − log π_ref), the last one with the score",
        summary="proximal policy optimisation with a value head",
        options=(
            *("num_generations", "ppo_epochs", "cliprange", "cliprange_value", "vf_coef", "gamma", "lam"),
            *("kl_coef", "ppo_target", "kl_horizon", "ppo_score_norm", "ppo_whiten_rewards"),
        ),
        source="1707.06347",
        reproduces="The recipe of 1909.08593 and InstructGPT. `ppo_epochs`, `ppo_target`, `ppo_score_norm` and "
        "`ppo_whiten_rewards` mean what they do in LLaMA-Factory; TRL 1.16 has no PPO trainer.",
        when_to_use="The comparison with classical RLHF; rewards that need credit token by token.",
    ),
    OnlineObjective(
        name="grpo",
        choice="stage: grpo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c_high)) + k·(e^(−x) − 1 + x), x = log π − log π_ref; A = (score − the "
        "group's mean)/(its deviation + 1e-4)",
        summary="group-relative policy optimisation: answers to one prompt are compared, no value head",
        options=(
            *("num_generations", "num_iterations", "cliprange", "cliprange_high", "kl_coef", "scale_rewards"),
            "grpo_loss",
        ),
        source="2402.03300",
        reproduces="TRL's GRPO with `loss_type: grpo` (or `dapo`, `dr_grpo`), `beta` as kl_coef, `scale_rewards` "
        "group, batch or none; TRL's own defaults are dapo and beta 0.",
        when_to_use="A rule or reward model that scores whole answers; less memory than ppo.",
    ),
    OnlineObjective(
        name="rloo",
        choice="stage: grpo, advantage_estimator: rloo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c_high)); A = s − the mean s of the prompt's other answers, "
        "s = score − k·Σx",
        summary="REINFORCE with the other answers as baseline, the KL in the reward",
        options=("num_generations", "num_iterations", "cliprange", "cliprange_high", "kl_coef", "grpo_loss"),
        source="2402.14740",
        reproduces="The paper, whose one action is the whole answer, with `grpo_loss: dr_grpo` (its loss over "
        "max_new_tokens); the default averages over an answer's tokens. TRL's RLOO trainer clips the ratio of the "
        "whole answer.",
        when_to_use="As grpo, where dividing by the group's deviation would blow up small differences.",
    ),
)

ONLINE_OBJECTIVES: Mapping[str, OnlineObjective] = MappingProxyType({row.name: row for row in _ROWS})
