"""The objectives of the stages `ppo` and `grpo`, a row each. The stage chooses them; `pref_loss` does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from palate.config.base import Fields
from palate.config.stages.online import GrpoFields, PpoFields


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineObjective:
    """A way to learn from rewards of sampled answers.

    Attributes:
        name: its usual name.
        choice: the config keys that choose it.
        formula: the loss of one token.
        summary: a short description.
        options: the config keys that it reads, besides those of all online stages.
        source: arXiv id.
        reproduces: the option of another library that this equals, and known differences.
        when_to_use: advice in one line.
    """

    name: str
    choice: str
    formula: str
    summary: str
    options: tuple[str, ...]
    source: str
    reproduces: str
    when_to_use: str


def _options(fields: type[Fields], *without: str) -> tuple[str, ...]:
    return ("cliprange", *(key for key in fields.model_fields if key not in without))


_ROWS = (
    OnlineObjective(
        name="ppo",
        choice="stage: ppo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c)) + v·½·max((V − R)², (V_clipped − R)²); A whitened GAE of the token "
        "rewards −k·(log π − log π_ref), the last one with the score",
        summary="proximal policy optimisation with a value head",
        options=_options(PpoFields),
        source="1707.06347",
        reproduces="The recipe of 1909.08593 and InstructGPT. `ppo_epochs`, `ppo_target`, `ppo_score_norm` and "
        "`ppo_whiten_rewards` have LLaMA-Factory's meaning; TRL 1.16 has no PPO trainer.",
        when_to_use="Comparison with classical RLHF; rewards that need credit for single tokens.",
    ),
    OnlineObjective(
        name="grpo",
        choice="stage: grpo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c_high)) + k·(e^(−x) − 1 + x), x = log π − log π_ref; A = (score − the "
        "group's mean)/(its deviation + 1e-4)",
        summary="group-relative policy optimisation: answers to one prompt are compared, no value head",
        options=_options(GrpoFields, "advantage_estimator"),
        source="2402.03300",
        reproduces="TRL's GRPO with `loss_type: grpo` (or `dapo`, `dr_grpo`), `beta` as kl_coef, `scale_rewards` "
        "group, batch or none; TRL's own defaults are dapo and beta 0.",
        when_to_use="A rule or reward model that scores whole answers; needs less memory than ppo.",
    ),
    OnlineObjective(
        name="rloo",
        choice="stage: grpo, advantage_estimator: rloo",
        formula="max(−Aρ, −A·clip(ρ, 1−c, 1+c_high)); A = s − the mean s of the prompt's other answers, "
        "s = score − k·Σx",
        summary="REINFORCE with the other answers as baseline, the KL in the reward",
        options=_options(GrpoFields, "advantage_estimator", "scale_rewards"),
        source="2402.14740",
        reproduces="The paper, which treats the whole answer as one action, with `grpo_loss: dr_grpo` (loss divided by "
        "max_new_tokens); the default averages over an answer's tokens. TRL's RLOO trainer clips the ratio of the "
        "whole answer.",
        when_to_use="Like grpo, where dividing by the group's deviation would amplify small differences.",
    ),
)

ONLINE_OBJECTIVES: Mapping[str, OnlineObjective] = MappingProxyType({row.name: row for row in _ROWS})
